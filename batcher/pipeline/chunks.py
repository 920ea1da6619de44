"""Reading ahead: what the producer sends next, read and encoded by a thread of its own, as much at a time as memory allows.

In: the planner's stream, the inputs of a flow. Out: `Chunk`s, charged to the byte budget. Made once for each run; called by
the producer and the feeder. Small files are read and encoded in chunks (handing over to the thread costs as much as ten such
files), large ones stream later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeAlias, TypeVar

from ..core.bodies import Body
from ..core.facts import FlowFacts
from ..core.model import ABSENT, Flow, Problem
from ..core.planning import Action, Change, FlowPlan, InputPlan
from .planner import Planner
from .ports import BudgetPort, Sources

T = TypeVar("T")

CHUNK_FILES: Final = 512  # small files per chunk, and announcements per commit
CHUNK_BYTES: Final = 1 << 20  # encoded, per chunk
STREAM_BYTES: Final = 2 << 20  # what one streamed body holds at most: a chunk read, encoded, and in the socket's buffer
PLANS: Final = 32  # flows planned in one call to the thread
AHEAD_FROM: Final = 16 * CHUNK_BYTES  # a budget in which flows that wait for their turn may hold a chunk's bytes

Inputs = Iterator["InputPlan | Problem"]


@dataclass(slots=True)
class Chunk:
    """What one call to the thread has found: inputs with their bodies, where they are small, or with what is wrong."""

    found: list[tuple[InputPlan | None, Body | Problem | None]] = field(default_factory=list)
    small: list[int] = field(default_factory=list)  # which of them
    held_bytes: int = 0
    end: bool = False  # of the flow's inputs
    rest: Inputs | None = None  # where it was read before its flow was begun: what comes after it


_Begun: TypeAlias = "list[tuple[FlowPlan | None, Chunk | None]]"


class Chunks:
    """`memory_bytes`: what the budget comes to."""

    def __init__(self, planner: Planner, sources: Sources, budget: BudgetPort, memory_bytes: int) -> None:
        self._planner = planner
        self._sources = sources
        self._budget = budget
        self._roomy = memory_bytes >= AHEAD_FROM
        self._plans = planner.work()
        self._thread = ThreadPoolExecutor(1, "planner")

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, function: Callable[..., T], *values: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *values)

    # ---- plans

    async def plan_again(self, flow: Flow) -> FlowPlan:
        """One flow, planned now."""
        return await self._in_thread(self._planner.flow, flow)

    def inputs_anew(self, flow: Flow, facts: FlowFacts) -> Inputs:
        """The inputs of a flow whose row is this, from the first."""
        return self._planner.inputs(flow, facts)

    async def next_plans(self, *, read: bool) -> list[tuple[FlowPlan | None, Chunk | None]]:
        """A few plans that have work, with what is to be sent of small flows where there is room for that, and they are to be
        `read`; None stands for a stretch without any, [] for the end."""
        return await self._with_room(self._next_plans, read)

    async def with_first_inputs(self, plans: Sequence[FlowPlan], *, read: bool) -> list[tuple[FlowPlan | None, Chunk | None]]:
        """These plans, with what is to be sent of small flows, in the same way."""
        return await self._with_room(partial(self._begun, plans), read)

    async def _with_room(self, find: Callable[[bool], _Begun], read: bool) -> _Begun:
        read = read and self._roomy and self._budget.take_now(CHUNK_BYTES)
        found = await self._in_thread(find, read)
        if read:
            self._budget.give(CHUNK_BYTES - sum(first.held_bytes for _, first in found if first is not None))
        return found

    def _next_plans(self, read: bool) -> _Begun:
        """In the thread."""
        plans: list[FlowPlan] = []
        for count, plan in enumerate(self._plans):
            if isinstance(plan, FlowPlan) and plan.action.works:
                plans.append(plan)
            if len(plans) >= PLANS or count >= 1000:
                return self._begun(plans, read) or [(None, None)]
        return self._begun(plans, read)

    def _begun(self, plans: Sequence[FlowPlan], read: bool) -> _Begun:
        """In the thread: with the first inputs of those that are new and small."""
        found: _Begun = []
        size = 0
        for plan in plans:
            first = None
            if read and plan.action is Action.NEW and size + 2 * plan.tally.total_bytes < CHUNK_BYTES:
                inputs = plan.inputs()
                first = self._gather(inputs)
                first.rest = inputs
                size += 2 * plan.tally.total_bytes
            found.append((plan, first))
        self._encode([first for _, first in found if first is not None])
        return found

    # ---- inputs

    async def read(self, inputs: Inputs) -> Chunk:
        """The next inputs, once there is room for them."""
        await self._budget.take(CHUNK_BYTES)
        return await self._read(inputs)

    def read_ahead(self, inputs: Inputs, *, streams: bool) -> asyncio.Task[Chunk] | None:
        """The same while something else is done, where there is room now. In a small budget nothing is held while one that
        streams (`streams`: some are to) waits for room: nobody would ever give it."""
        if (self._roomy or not streams) and self._budget.take_now(CHUNK_BYTES):
            return asyncio.ensure_future(self._read(inputs))
        return None

    async def room_to_stream(self) -> None:
        """Wait until one more body may stream; whoever sends it gives `STREAM_BYTES` back."""
        await self._budget.take(STREAM_BYTES)

    def drop(self, chunk: Chunk) -> None:
        """It was read in vain: nothing of it is announced."""
        self._budget.give(chunk.held_bytes)

    async def _read(self, inputs: Inputs) -> Chunk:
        """In place of the CHUNK_BYTES that were taken for them the budget is charged what they hold."""
        chunk = await self._in_thread(self._read_now, inputs)
        self._budget.give(CHUNK_BYTES - chunk.held_bytes)
        return chunk

    def _read_now(self, inputs: Inputs) -> Chunk:
        """In the thread."""
        chunk = self._gather(inputs)
        self._encode([chunk])
        return chunk

    def _gather(self, inputs: Inputs) -> Chunk:
        """The next inputs that are to be sent or settled, as many as one chunk takes."""
        chunk = Chunk()
        size = 0
        while len(chunk.found) < CHUNK_FILES and size < CHUNK_BYTES // 2:
            plan = next(inputs, None)
            if plan is None:
                chunk.end = True
                break
            if isinstance(plan, Problem):
                chunk.found.append((None, plan))
            elif plan.change is Change.NEW:
                if self._sources.small(plan):
                    chunk.small.append(len(chunk.found))
                    size += 2 * plan.stat.size + 200  # encoded, with the tag
                    if plan.input.additional is not ABSENT:
                        size += len(str(plan.input.additional))
                chunk.found.append((plan, None))
            elif plan.change is Change.SAME and plan.facts is not None and plan.facts.sha256 is None:
                chunk.found.append((plan, None))  # its digest is known now
        return chunk

    def _encode(self, chunks: list[Chunk]) -> None:
        """In the thread: the bodies of all small inputs."""
        places = [(chunk, index) for chunk in chunks for index in chunk.small]
        plans = [plan for chunk, index in places if (plan := chunk.found[index][0]) is not None]
        for (chunk, index), body in zip(places, self._sources.bodies(plans), strict=True):
            chunk.found[index] = (chunk.found[index][0], body)
            chunk.held_bytes += 0 if isinstance(body, Problem) else body.length
