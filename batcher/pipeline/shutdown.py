"""The end of an operation: asked for once, seen by all, and what waits until then.

In: a `Stop`, from a signal, a deadline, or a stage that cannot go on. Out: no new work, waits that end at once, a bounded time
for what is in flight. Made once for each operation, and asked by every stage.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NoReturn, TypeVar

import anyio

from ..core.errors import SIGNALS, JournalError, Reason, Stop
from ..core.pauses import pause_after
from .ports import Clock
from .reporter import Reporter

DRAIN_S: Final = 5.0  # what is in flight when a run is stopped may take so long to end
POLL_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)  # between two looks at a list; the last again and again

T = TypeVar("T")


class Shutdown:
    def __init__(self, clock: Clock, reporter: Reporter) -> None:
        self._clock = clock
        self._reporter = reporter
        self._callbacks: list[Callable[[Stop], object]] = []
        self._stopping = asyncio.Event()
        self.stop: Stop | None = None

    def on_stop(self, callback: Callable[[Stop], object]) -> None:
        """Call this, too, at each `halt`."""
        self._callbacks.append(callback)

    def halt(self, stop: Stop) -> None:
        """No new work from now on; the first reason stays, but a signal's comes before any other."""
        if self.stop is None or stop.reason in SIGNALS:
            self.stop = stop
            self._reporter.stopping(stop)
        for callback in self._callbacks:
            callback(self.stop)
        self._stopping.set()

    def end(self, stop: Stop) -> NoReturn:
        """`halt`, for a stage that cannot go on itself. Raises what the operation ends with."""
        self.halt(stop)
        self.check()
        raise stop

    def check(self) -> None:
        """Raises Stop where the operation is to end."""
        if self.stop is not None:
            raise self.stop

    # ---- waiting

    async def sleep(self, seconds: float) -> None:
        """Wait; raises Stop at once when the operation is to end."""
        if seconds > 0 and self.stop is None:
            waiter = asyncio.ensure_future(self._stopping.wait())
            sleeper = asyncio.ensure_future(self._clock.sleep(seconds))
            try:
                await asyncio.wait({waiter, sleeper}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiter.cancel()
                sleeper.cancel()
        self.check()

    def pauses(self, within_s: float = math.inf, steps_s: Sequence[float] = POLL_S) -> Pauses:
        """The waits between looks at one thing; what they are to be over with is counted from now."""
        return Pauses(self, self._clock, within_s, steps_s)

    async def in_time(self, work: Coroutine[Any, Any, T]) -> T:
        """`work` outside of the stages, which are drained as a whole. Raises Stop where the operation is to end and `work` has
        not come to an end within the time for that."""
        task = asyncio.ensure_future(work)
        late = asyncio.ensure_future(self._drained())
        try:
            await asyncio.wait({task, late}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                assert self.stop is not None
                raise self.stop
            return task.result()
        finally:
            late.cancel()
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # seen: where this was cancelled meanwhile nobody else asks for it

    async def cancel_late(self, scope: anyio.CancelScope) -> None:
        """Cancel what has not come to its end a while after the operation was stopped."""
        await self._drained()
        scope.cancel()

    async def _drained(self) -> None:
        """Returns when the operation is to end, and what was in flight then has had its time."""
        await self._stopping.wait()
        await asyncio.sleep(DRAIN_S)

    # ---- the outcome

    @contextmanager
    def reported(self) -> Iterator[None]:
        """What ends the work inside early is said in the report, a Stop or a journal that is broken, and how long it took.
        Anything else that escapes it is a bug of ours."""
        began = self._clock.steady()
        try:
            yield
        except Stop as stop:
            if self._reporter.report.stop is None:
                self._reporter.stopping(stop)
        except JournalError as error:
            self._journal_broken(error)
        except BaseExceptionGroup as group:
            broken, rest = group.split(JournalError)
            if rest is not None:
                raise rest from group
            self._journal_broken(broken)
        self._reporter.report.elapsed_s += self._clock.steady() - began

    def _journal_broken(self, error: BaseException | None) -> None:
        """The journal cannot be written: that is what the run ends with, whatever it was to end with before."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        assert isinstance(error, JournalError)
        self._reporter.stopping(Stop(Reason.UNSETTLED, error.message, error.hint))


class Pauses:
    """Waits between looks at one thing, each a step longer than the one before; the last step again and again."""

    def __init__(self, shutdown: Shutdown, clock: Clock, within_s: float, steps_s: Sequence[float]) -> None:
        self._shutdown = shutdown
        self._clock = clock
        self._steps_s = steps_s
        self._until = clock.steady() + within_s
        self._taken = 0

    @property
    def over(self) -> bool:
        """Whether the time for the looks is over."""
        return self._clock.steady() >= self._until

    @property
    def spent(self) -> bool:
        """Whether every step has been taken once."""
        return self._taken >= len(self._steps_s)

    async def wait(self, at_most_s: float = math.inf) -> None:
        """The next one. Raises Stop at once when the operation is to end."""
        step_s = pause_after(self._taken, self._steps_s)
        self._taken += 1
        await self._shutdown.sleep(min(step_s, at_most_s))
