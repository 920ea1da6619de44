"""How many requests leave per second. In: requests as they want to leave. Out: when the next one may. Asked by the limiter.

`Pace` is one run's own. Where several runs share a rate, `SharedPace` has it in slices: moments at which a request may leave,
handed out by whoever keeps them for all.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

CATCH_UP_S: Final = (0.01, 0.05)  # a request that left late by up to one interval (within these) makes up for it
SLICE_S: Final = 0.25  # moments for so long are taken at a time, at most: those of a run that is killed are lost to the others
LATE_S: Final = 0.5


class Pace:
    """Evenly, however late the loop's timers come. `rate_per_s` None: without a bound."""

    def __init__(self, rate_per_s: float | None) -> None:
        self._interval_s = 1.0 / rate_per_s if rate_per_s else 0.0
        self._late_s = min(max(self._interval_s, CATCH_UP_S[0]), CATCH_UP_S[1])
        self.next_at = 0.0  # steady seconds; infinite while it is not known
        self.ready: Callable[[], None] = lambda: None  # called when that has come nearer

    def went(self, now: float) -> None:
        """A request has left."""
        if self._interval_s:
            self.next_at = max(now - self._late_s, self.next_at) + self._interval_s

    def want(self, waiting: int) -> None:
        """So many requests wait."""


class SharedPace(Pace):
    """`take(count, per_s)` reserves so many moments, so many a second, and tells how far away the first is. A run may use a
    moment late, within `LATE_S`; then it is lost, for all. So a run takes about as many at a time as it needs: more, as long as
    all of them are used."""

    def __init__(self, rate_per_s: float, take: Callable[[int, float], Awaitable[float]], steady: Callable[[], float]) -> None:
        super().__init__(rate_per_s)
        self._per_s = rate_per_s
        self._most = max(1, round(rate_per_s * SLICE_S))
        self._size = 1
        self._take = take
        self._steady = steady
        self._moments: deque[float] = deque()
        self._taking: asyncio.Task[None] | None = None
        self.next_at = math.inf

    def went(self, now: float) -> None:
        self._moments.popleft()
        self._look(now)
        if len(self._moments) <= self._size // 2:
            self._get(self._size)

    def want(self, waiting: int) -> None:
        self._look(self._steady())
        if len(self._moments) < waiting:
            self._get(max(waiting, self._size))

    def _get(self, count: int) -> None:
        """Take more, where that is not under way."""
        if self._taking is None:
            self._taking = asyncio.get_running_loop().create_task(self._take_some(min(count, self._most)))
            self._taking.add_done_callback(self._taken)

    async def _take_some(self, count: int) -> None:
        first = await self._take(count, self._per_s) + self._steady()
        self._moments += (first + number * self._interval_s for number in range(count))
        self._size = min(self._most, 2 * self._size)

    def _taken(self, taking: asyncio.Task[None]) -> None:
        self._taking = None
        if not taking.cancelled() and taking.exception() is None:  # else whoever keeps them is away, and says so itself
            self._look(self._steady())
            self.ready()

    def _look(self, now: float) -> None:
        while self._moments and self._moments[0] < now - max(LATE_S, self._interval_s):
            self._moments.popleft()
            self._size = max(1, self._size // 2)
        self.next_at = self._moments[0] if self._moments else math.inf
