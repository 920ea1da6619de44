"""The bytes of payload that may be held at once. In: sizes. Out: leave to hold so much, in order of arrival. Called by the
pipeline, before a body is encoded and after it was sent."""

from __future__ import annotations

import asyncio
from collections import deque


class ByteBudget:
    """One per run. A body that is larger than all of the budget may pass alone."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget = budget_bytes
        self._held = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def take_now(self, count: int) -> bool:
        """Take them if nobody has to wait for it."""
        if self._waiting or (self._held and self._held + count > self._budget):
            return False
        self._held += count
        return True

    async def take(self, count: int) -> None:
        """Wait until so many may be held."""
        if self.take_now(count):
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((count, waiter))
        await waiter

    def forget(self) -> None:
        """Nothing is held any more: whoever held some was cancelled."""
        self._held = 0
        self._waiting.clear()

    def give(self, count: int) -> None:
        """So many are held no more."""
        self._held -= count
        while self._waiting and (self._held == 0 or self._held + self._waiting[0][0] <= self._budget):
            size, waiter = self._waiting.popleft()
            if not waiter.done():
                self._held += size
                waiter.set_result(None)
