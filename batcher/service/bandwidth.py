"""A cap on the bytes that leave per second. In: counts of bytes. Out: leave to send them. Called by both ways of the transport
before they write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

CAPPED_BYTES: Final = 64 << 10  # under a cap a body leaves in pieces of this, so that no connection is silent for long


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
