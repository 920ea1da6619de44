"""A cap on the bytes that leave per second. In: counts of bytes. Out: leave to send them. Called by both ways of the transport
before they write."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

CAPPED_BYTES: Final = 64 << 10  # under a cap a body leaves in pieces of this, so that no connection is silent for long
SLICE_S: Final = 0.25  # of a shared cap: what a run that is killed had taken is lost to the others


class Bandwidth:
    """One per run, without bursts: each chunk is paid for before the next one may go. `bytes_per_s` None: no cap."""

    def __init__(self, bytes_per_s: float | None, steady: Callable[[], float]) -> None:
        self._bytes_per_s = bytes_per_s
        self._steady = steady
        self._free_at = 0.0

    @property
    def capped(self) -> bool:
        return self._bytes_per_s is not None

    async def spend(self, count: int) -> None:
        """Wait until `count` more bytes may be sent."""
        if self._bytes_per_s is None:
            return
        now = self._steady()
        start = max(now, self._free_at)
        self._free_at = start + count / self._bytes_per_s
        if start > now:
            await asyncio.sleep(start - now)


class SharedBandwidth(Bandwidth):
    """One run's part of a cap that several share: `take(count, bytes_per_s)` reserves so many bytes, and tells in how many
    seconds they may leave."""

    def __init__(self, bytes_per_s: float, take: Callable[[int, float], Awaitable[float]], steady: Callable[[], float]) -> None:
        super().__init__(bytes_per_s, steady)
        self._rate = bytes_per_s
        self._take = take
        self._taken = 0  # and not spent yet
        self._lock = asyncio.Lock()

    async def spend(self, count: int) -> None:
        async with self._lock:  # in the order of their asking
            if self._taken < count:
                more = max(count - self._taken, round(self._rate * SLICE_S))
                pause_s = await self._take(more, self._rate)
                self._taken += more
                await asyncio.sleep(pause_s)
            self._taken -= count
            await super().spend(count)  # evenly within what was taken
