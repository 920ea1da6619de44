"""How long a collecting waits, and how many flows it brings at a time.

In: the `--wait` of the command line. Out: what is left of it; turns. Made once for each collecting.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ...core.facts import EndFacts
from ...journal.ports import Journal
from ..ports import Clock
from ..shutdown import Shutdown

FLOWS: Final = 32  # flows whose outputs are listed and brought at a time
PAUSING: Final = 500  # flows that wait for their list to grow, and let others list theirs meanwhile


class Deadline:
    """`wait_s`: so long flows and outputs are waited for (None: until all have ended), from `begin` on."""

    def __init__(self, clock: Clock, wait_s: float | None) -> None:
        self._clock = clock
        self._wait_s = wait_s
        self._until: float | None = None

    def begin(self) -> None:
        self._until = None if self._wait_s is None else self._clock.steady() + self._wait_s

    @property
    def left_s(self) -> float | None:
        """Seconds; None: there is no bound."""
        return None if self._until is None else self._until - self._clock.steady()


class FlowTurns:
    """Whoever brings a flow holds one of `FLOWS` places; of several processes, one brings it."""

    def __init__(self, shutdown: Shutdown, journal: Journal) -> None:
        self._shutdown = shutdown
        self._journal = journal
        self._places = asyncio.Semaphore(FLOWS)
        self._pausing = 0

    async def ours(self, flow_id: str) -> bool:
        """Whether no other process brings this flow now."""
        return await self._journal.take_turn(flow_id)

    async def brought(self, flow_id: str) -> None:
        """Others may look at it."""
        await self._journal.give_turn(flow_id)

    async def end_of(self, flow_id: str) -> EndFacts | None:
        """Its end, as whoever brought it has left it."""
        return await self._journal.look(lambda journal: journal.end(flow_id))

    async def take(self) -> None:
        await self._places.acquire()

    def give(self) -> None:
        self._places.release()

    async def pause(self, seconds: float) -> None:
        """Wait for a flow's list to grow, and let others have its place meanwhile. Raises Stop."""
        if self._pausing >= PAUSING:
            await self._shutdown.sleep(seconds)
            return
        self._pausing += 1
        self._places.release()
        try:
            await self._shutdown.sleep(seconds)
        finally:
            self._pausing -= 1
            await self._places.acquire()
