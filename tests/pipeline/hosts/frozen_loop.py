"""An event loop in which no time is waited for, and in which owners can be frozen as processes are by SIGSTOP.

In: tasks, each in the context of an owner, or of nobody. Out: their steps, in order; where nothing is ready the clock jumps to
the next timer. No step of an owner that is frozen is made until it thaws: its timers and its replies wait for it. What is to
be done in a thread is done at once, as a step of its own, so that the same schedule runs the same way each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any

STEPS = 400_000  # of one loop: more is a run that goes round in circles
TICK_S = 1e-6  # between two looks at the clock: no two things happen at the same time
NOBODY = Context()

OWNER: ContextVar[Owner] = ContextVar("OWNER")


class Stuck(AssertionError):
    """Nothing will ever happen any more, or the same again and again."""


class Owner:
    """Whose steps may be held back. `name`: for people."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._frozen_until = -1.0
        self._parked: deque[_Step] = deque()
        self.context = Context()
        self.context.run(OWNER.set, self)

    def freeze(self, loop: Loop, seconds: float) -> None:
        """From the next step on, for so long."""
        if seconds > 0:
            self._frozen_until = max(self._frozen_until, loop.time() + seconds)
            loop.call_at(self._frozen_until, self._thaw, loop, context=NOBODY)

    def holds_back(self, step: _Step) -> bool:
        if self._frozen_until < 0:
            return False
        self._parked.append(step)
        return True

    def _thaw(self, loop: Loop) -> None:
        if loop.time() < self._frozen_until - TICK_S:
            return  # it was frozen anew meanwhile
        self._frozen_until = -1.0
        steps, self._parked = self._parked, deque()
        for step in steps:
            loop.call_soon(step, context=NOBODY)


class _Step:
    """One callback of an owner."""

    __slots__ = ("_args", "_callback", "_context", "_owner", "handle")

    handle: asyncio.Handle

    def __init__(self, owner: Owner, callback: Callable[..., object], args: tuple[Any, ...], context: Context) -> None:
        self._owner = owner
        self._callback = callback
        self._args = args
        self._context = context

    def __call__(self) -> None:
        if not self.handle.cancelled() and not self._owner.holds_back(self):
            self._context.run(self._callback, *self._args)


class _Clock(selectors.SelectSelector):
    """Waits for nothing: it is later at once. Nothing of these tests comes from a socket."""

    now = 1000.0
    looks = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.looks += 1
        if timeout is None or self.looks > STEPS:
            raise Stuck("nothing can happen any more" if timeout is None else "it goes round in circles")
        self.now += max(0.0, timeout)
        return []


class Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Clock()
        super().__init__(self._virtual)

    def end(self) -> None:
        """Also where tasks are left, for something is wrong: they are cancelled, and close it."""
        self._virtual.looks = 0
        for task in asyncio.all_tasks(self):
            task.cancel()
            with contextlib.suppress(BaseException):
                self.run_until_complete(task)
        self.close()

    def time(self) -> float:
        return self._virtual.now

    def tick(self) -> float:
        """The time, which no look shows twice."""
        self._virtual.now += TICK_S
        return self._virtual.now

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
        call, handed, step = self._step(callback, args, context)
        handle = super().call_soon(call, *handed, context=NOBODY if step is not None else context)
        if step is not None:
            step.handle = handle
        return handle

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        call, handed, step = self._step(callback, args, context)
        handle = super().call_at(when, call, *handed, context=NOBODY if step is not None else context)
        if step is not None:
            step.handle = handle
        return handle

    @staticmethod
    def _step(
        callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> tuple[Callable[..., object], tuple[Any, ...], _Step | None]:
        context = copy_context() if context is None else context
        owner = context.get(OWNER)
        if owner is None:
            return callback, args, None
        step = _Step(owner, callback, args, context)
        return step, (), step

    def run_in_executor(self, executor: object, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future = self.create_future()

        def run() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:
                future.set_exception(error)

        self.call_soon(run)
        return future
