"""The first stage: what remains is read, encoded, announced in the journal and handed to the workers.

In: the planner's stream, and flows that are to be built anew. Out: `Payload`s on a bounded stream; each flow that is
begun is opened beside (see `opener`). Called by `run`. Bounded by the byte budget, the stream, and the flows open at once.
Small files are read and encoded in batches (handing over to the thread costs as much as ten such files), large ones stream
later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from ..core.bodies import Body
from ..core.errors import Stop
from ..core.facts import WATCH_S, FlowFacts, ForgetInputs, InputFacts, PutFlow, PutInput, Record, Watch
from ..core.lifecycle import FlowEvent, FlowState, InputEvent, InputState
from ..core.model import ABSENT, Problem
from ..core.planning import Action, Change, FlowPlan, InputPlan
from ..core.tags import can_carry_tag
from .context import REBUILDS, Context, FlowRun, Payload, Settled, spawn
from .opener import open_flow
from .orphans import abandon
from .planner import Planner
from .starts import is_starting

T = TypeVar("T")

BATCH_FILES: Final = 512  # small files per batch, and announcements per commit
BATCH_BYTES: Final = 1 << 20  # encoded, per batch
STREAM_BYTES: Final = 2 << 20  # what one streamed body holds at most: a chunk read, encoded, and in the socket's buffer
PLANS: Final = 32  # flows planned in one call to the thread
AHEAD_FROM: Final = 16 * BATCH_BYTES  # a budget in which flows that wait for their turn may hold a batch's bytes


@dataclass(slots=True)
class Batch:
    """What one call to the thread has found: inputs with their bodies, where they are small, or with what is wrong."""

    found: list[tuple[InputPlan | None, Body | Problem | None]] = field(default_factory=list)
    small: list[int] = field(default_factory=list)  # which of them
    held_bytes: int = 0
    end: bool = False  # of the flow's inputs
    rest: Iterator[InputPlan | Problem] | None = None  # where it was read before its flow was begun: what comes after it


class Producer:
    def __init__(
        self, context: Context, planner: Planner, group: asyncio.TaskGroup, slots: asyncio.Semaphore,
        out: asyncio.Queue[Payload | None], settled: Settled,
    ) -> None:  # fmt: skip
        self._context = context
        self._planner = planner
        self._group = group
        self._slots = slots
        self._out = out
        self._settled = settled
        self._thread = ThreadPoolExecutor(1, "planner")

    async def run(self) -> None:
        """Until nothing remains, or the run is to end."""
        context = self._context
        plans = self._planner.work()
        more = True
        try:
            async with asyncio.TaskGroup() as begun:
                while context.stop is None:
                    if context.requeued:
                        await self._again(begun, context.requeued.popleft())
                    elif more:
                        found = await self._next_plans(plans)
                        more = bool(found)
                        for plan, first in found:
                            if plan is not None and await self._may_begin(begun, plan):
                                await self._begin(begun, plan, first)
                            elif first is not None:
                                context.budget.give(first.held_bytes)
                        more = more and not context.starts.over
                    elif context.active:
                        context.changed.clear()
                        await context.changed.wait()
                    else:
                        return
        except* Stop:
            pass  # in the middle of a walk; what was handed on drains
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _batch(self, function: Callable[..., T], *values: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *values)

    async def _may_begin(self, begun: asyncio.TaskGroup, plan: FlowPlan) -> bool:
        """Whether one more flow may be started in this run. Where all that may be are under way, their outcomes are waited
        for: one that fails before its start makes room for another. What is held back is neither created nor sent."""
        context = self._context
        while context.stop is None and not context.starts.take(is_starting(plan)):
            if context.requeued:
                await self._again(begun, context.requeued.popleft())
            elif context.active:
                context.changed.clear()
                await context.changed.wait()
            else:
                context.starts.close()
                return False
        return context.stop is None

    async def _next_plans(self, plans: Iterator[FlowPlan | Problem]) -> list[tuple[FlowPlan | None, Batch | None]]:
        """A few plans that have work, with what is to be sent of small flows where there is room for that; None stands for
        a stretch without any, [] for the end."""
        budget = self._context.budget
        roomy = self._context.limits.memory_bytes >= AHEAD_FROM and not self._context.starts.closed
        ahead = roomy and budget.take_now(BATCH_BYTES)
        found = await self._batch(self._read_plans, plans, ahead)
        if ahead:
            budget.give(BATCH_BYTES - sum(first.held_bytes for _, first in found if first is not None))
        return found

    def _read_plans(self, plans: Iterator[FlowPlan | Problem], ahead: bool) -> list[tuple[FlowPlan | None, Batch | None]]:
        """In the thread."""
        found: list[tuple[FlowPlan | None, Batch | None]] = []
        batches: list[Batch] = []
        size = 0
        for count, plan in enumerate(plans):
            if isinstance(plan, FlowPlan) and plan.action.works:
                first = None
                if ahead and plan.action is Action.NEW and size + 2 * plan.tally.total_bytes < BATCH_BYTES:
                    inputs = plan.inputs()
                    first = self._gather(inputs)
                    first.rest = inputs
                    batches.append(first)
                    size += 2 * plan.tally.total_bytes
                found.append((plan, first))
            if len(found) >= PLANS or count >= 1000:
                break
        else:
            self._encode(batches)
            return found
        self._encode(batches)
        return found or [(None, None)]

    async def _again(self, begun: asyncio.TaskGroup, flow: FlowRun) -> None:
        """A flow comes back: its inputs are to be sent again, or all of it is built anew."""
        context = self._context
        plan = await self._batch(self._planner.flow, flow.plan.flow)
        if plan.action.works and flow.rebuilds <= REBUILDS:
            await self._begin(begun, plan, before=flow)
            return
        context.starts.settle(flow.announced, plan.facts.state if plan.facts is not None else FlowState.PLANNED)
        for problem in plan.problems:
            context.problem(None, problem)
        if flow.rebuilds > REBUILDS:
            message = f"the flow was given up and built anew {REBUILDS} times, and still its inputs are not certain"
            context.problem(None, Problem("unsettled", message, "run again later", flow.plan.flow.place, flow.name))
        if plan.action not in (Action.DONE, Action.WAITING):
            context.report.flows.failed += 1

    async def _begin(
        self, begun: asyncio.TaskGroup, plan: FlowPlan, first: Batch | None = None, before: FlowRun | None = None
    ) -> None:
        """Small flows are begun side by side, for each waits for the disk a few times; large ones in their order, so that
        the first are started while the later ones are still being read."""
        await self._slots.acquire()
        flow = FlowRun(plan, plan.facts or FlowFacts(plan.flow.name))
        if before is not None:
            flow.rebuilds, flow.tries, flow.announced = before.rebuilds, before.tries, before.announced
        flow.times.begun = self._context.clock.wall()
        self._context.active += 1
        if plan.tally.total <= BATCH_FILES and plan.tally.total_bytes <= BATCH_BYTES // 2:
            spawn(begun, self._work_on(flow, first))
        else:
            await self._work_on(flow, first)

    async def _work_on(self, flow: FlowRun, first: Batch | None) -> None:
        context = self._context
        starting = flow.facts.state is FlowState.STARTING
        try:
            if not starting:
                await self._renew(flow)
            spawn(self._group, open_flow(context, flow, self._settled))
            if not starting:  # else its start is settled first, by the finalizer
                await self._produce(flow, first)
        finally:
            flow.produced = True
        if flow.settled:
            self._settled(flow)

    async def _renew(self, flow: FlowRun) -> None:
        """Give up what is on the service where the plan says so; the journal forgets it before anything is sent."""
        facts, plan = flow.facts, flow.plan
        records: list[Record] = []
        if plan.action is Action.REDO:
            facts = facts.on(FlowEvent.REDO, flow_id=None, external=False)
            records.append(ForgetInputs(facts.name))
        elif plan.action is Action.REBUILD and facts.state is FlowState.CREATING:
            facts = facts.on(FlowEvent.NOT_CREATED, settle_deadline=None)
            records += [ForgetInputs(facts.name), Watch(self._context.journal.now() + WATCH_S)]
        elif plan.action is Action.REBUILD:
            self._context.emit("flow_given_up", flow.name, flow_id=facts.flow_id, message="its inputs are others now")
            records, facts = abandon(facts, filled=self._context.journal.count_inputs(facts.name) > 0)
        if plan.action in (Action.REDO, Action.REBUILD):
            flow.plan = replace(plan, inputs=lambda: self._planner.inputs(plan.flow, facts))
        else:  # the report has these from the survey
            flow.uploaded, flow.uploaded_bytes = plan.tally.sent, plan.tally.sent_bytes
        flow.facts = replace(facts, spec_digest=plan.spec_digest, stat_digest=plan.stat_digest, inputs=plan.tally.total,
                             size_bytes=plan.tally.total_bytes, problem=None)  # fmt: skip
        # Not awaited where nothing was sent before: what is announced next makes it durable.
        if records:
            await self._context.journal.record(*records, PutFlow(flow.facts))
        else:
            self._context.journal.post(PutFlow(flow.facts))

    async def _produce(self, flow: FlowRun, batch: Batch | None) -> None:
        """Read, announce, hand over. The next files are read while these are being announced, where there is room. `batch`:
        what has been read already."""
        context = self._context
        inputs = batch.rest if batch is not None and batch.rest is not None else flow.plan.inputs()
        roomy = context.limits.memory_bytes >= AHEAD_FROM
        while context.stop is None and not flow.failed:
            if batch is None:
                await context.budget.take(BATCH_BYTES)
                batch = await self._read(inputs)
            payloads, records = self._announce(flow, batch.found)
            # In a small budget nothing is held while one that streams waits for room: nobody would ever give it.
            streams = any(payload.body is None for payload in payloads)
            ahead = None
            if not batch.end and (roomy or not streams) and context.budget.take_now(BATCH_BYTES):
                ahead = asyncio.ensure_future(self._read(inputs))
            if records:
                await context.journal.record(*records)
            # Those that hold bytes already go first: one that waits for room must not keep them from giving theirs back.
            payloads.sort(key=lambda payload: payload.body is None)
            for payload in payloads:
                if payload.body is None:
                    await context.budget.take(STREAM_BYTES)
                flow.outstanding += 1
                await self._out.put(payload)
            if batch.end:
                return
            batch = await ahead if ahead is not None else None
        if batch is not None:
            context.budget.give(batch.held_bytes)  # read in vain: it is not announced

    async def _read(self, inputs: Iterator[InputPlan | Problem]) -> Batch:
        """The next inputs; in place of the HOP_BYTES that were taken for them the budget is charged what they hold."""
        batch = await self._batch(self._read_now, inputs)
        self._context.budget.give(BATCH_BYTES - batch.held_bytes)
        return batch

    def _read_now(self, inputs: Iterator[InputPlan | Problem]) -> Batch:
        """In the thread."""
        batch = self._gather(inputs)
        self._encode([batch])
        return batch

    def _gather(self, inputs: Iterator[InputPlan | Problem]) -> Batch:
        """The next inputs that are to be sent or settled, as many as one batch takes."""
        batch = Batch()
        size = 0
        while len(batch.found) < BATCH_FILES and size < BATCH_BYTES // 2:
            plan = next(inputs, None)
            if plan is None:
                batch.end = True
                break
            if isinstance(plan, Problem):
                batch.found.append((None, plan))
            elif plan.change is Change.NEW:
                if self._context.sources.small(plan):
                    batch.small.append(len(batch.found))
                    size += 2 * plan.stat.size + 200  # encoded, with the tag
                    if plan.input.additional is not ABSENT:
                        size += len(str(plan.input.additional))
                batch.found.append((plan, None))
            elif plan.change is Change.SAME and plan.facts is not None and plan.facts.sha256 is None:
                batch.found.append((plan, None))  # its digest is known now
        return batch

    def _encode(self, batches: list[Batch]) -> None:
        """In the thread: the bodies of all small inputs."""
        places = [(batch, index) for batch in batches for index in batch.small]
        plans = [plan for batch, index in places if (plan := batch.found[index][0]) is not None]
        for (batch, index), body in zip(places, self._context.sources.bodies(plans), strict=True):
            batch.found[index] = (batch.found[index][0], body)
            batch.held_bytes += 0 if isinstance(body, Problem) else body.length

    def _announce(
        self, flow: FlowRun, found: list[tuple[InputPlan | None, Body | Problem | None]]
    ) -> tuple[list[Payload], list[Record]]:
        payloads: list[Payload] = []
        records: list[Record] = []
        for plan, body in found:
            if isinstance(body, Problem):
                self._context.problem(flow, replace(body, flow=flow.name))
                continue
            assert plan is not None
            if plan.change is Change.SAME and plan.facts is not None:
                records.append(PutInput(flow.name, replace(plan.facts, sha256=plan.sha256)))
                continue
            state, again = (InputState.PENDING, False) if plan.facts is None else (plan.facts.state, plan.facts.resent)
            row = InputFacts(plan.key, state, body.sha256 if body is not None else None, plan.spec_digest, plan.stat,
                             can_carry_tag(plan.input.additional), resent=again).on(InputEvent.ANNOUNCE)  # fmt: skip
            records.append(PutInput(flow.name, row))
            held = body.length if body is not None else STREAM_BYTES
            payloads.append(Payload(flow, plan, row, body, held))
        return payloads, records
