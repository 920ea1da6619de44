"""The way to objects: one loop in a thread of its own, on which all that is asked of stores is done.

In: coroutines of this room. Out: their results, waited for by a thread or by another loop. Made once for each process, with the
first address that is asked for.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from functools import cache
from typing import Any, Final, TypeVar

from ..host.system import share_memory_between_threads
from .faults import StoreFault, What

ASK_S: Final = 0.1  # between two looks whether the caller is to end
DOWN_S: Final = (
    15.0  # a store that could not be had is not asked again so soon: a hundred thousand inputs would each wait for it
)
AT_ONCE: Final = 64  # requests to stores at most, beside the bodies that stream

T = TypeVar("T")


class Objects:
    """The loop, and what is known of stores that cannot be had."""

    def __init__(self) -> None:
        share_memory_between_threads()
        self._loop = asyncio.new_event_loop()
        self._down: dict[str, tuple[float, StoreFault]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)
        threading.Thread(target=self._loop.run_forever, name="objects", daemon=True).start()

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Do it beside what the caller does; cancelled where its future is."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def wait(self, work: Coroutine[Any, Any, T], go_on: Callable[[], None] = lambda: None) -> T:
        """Its result, in a thread that waits for it. `go_on` may end the waiting with an error. Raises StoreFault."""
        return self.result(self.begin(work), go_on)

    @staticmethod
    def result(future: Future[T], go_on: Callable[[], None] = lambda: None, *, cancel: bool = True) -> T:
        """The same of what was begun. `cancel`: whatever comes of it is not wanted once the caller is to end."""
        try:
            while True:
                try:
                    return future.result(ASK_S)
                except NotYet:
                    if future.done():  # it is the work's own error
                        raise
                    go_on()
        finally:
            if cancel:
                future.cancel()

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Its result, on another loop. Raises StoreFault."""
        return await asyncio.wrap_future(self.begin(work))

    async def asked(self, store: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """One request's result, in its turn; a StoreFault at once where this store could not be had just now. On the loop."""
        async with self._turns:
            until, fault = self._down.get(store, (0.0, None))
            if fault is not None and time.monotonic() < until:
                raise StoreFault(fault.what, fault.message, fault.hint)
            try:
                found = await work()
            except StoreFault as error:
                if error.what is What.UNAVAILABLE:
                    self._down[store] = time.monotonic() + DOWN_S, error
                raise
            self._down.pop(store, None)
            return found


@cache
def objects() -> Objects:
    """This process's own."""
    return Objects()
