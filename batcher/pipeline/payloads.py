"""The bounded stream between feeder and workers: payloads of flows that are open, in the order in which they became ready.

In: payloads, as the feeder makes them. Out: those whose flow has been opened, or has failed to open. Made once for each run.
A payload takes its place when it is handed on: while its flow is being created, it waits with the flow, and holds up no other
as long as there is room.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from .flow_run import Payload

MOST: Final = 512  # payloads; the byte budget bounds them further


class Payloads:
    """`concurrency`: requests in flight at most. (asyncio's queue: anyio's streams go around the loop once for each item, 25 µs
    of the 100 that one may take.)"""

    def __init__(self, concurrency: int) -> None:
        self._room = asyncio.Semaphore(max(MOST, 2 * concurrency))
        self._turn = asyncio.Lock()
        self._ready: asyncio.Queue[Payload | None] = asyncio.Queue()

    async def put(self, payloads: Sequence[Payload]) -> None:
        """Hand these on, once there is room. Who came first hands on all of his before the next one does: else the inputs of
        all flows would leave by turns, and no flow would be done before the others."""
        async with self._turn:
            for payload in payloads:
                await self._room.acquire()
                payload.flow.hand_on(payload)

    def ready(self, payload: Payload) -> None:
        """Its flow is open: whoever asks next gets it."""
        self._ready.put_nowait(payload)

    async def next(self) -> Payload | None:
        """The next one; None: no more will come for whoever asked."""
        payload = await self._ready.get()
        if payload is not None:
            self._room.release()
        return payload

    def end(self, count: int) -> None:
        """No more will come, for any of so many that ask."""
        for _ in range(count):
            self._ready.put_nowait(None)
