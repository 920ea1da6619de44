"""The first stage: what remains is read, encoded, announced in the journal and handed to the workers.

In: the planner's stream, and flows that are to be built anew. Out: `Payload`s on a bounded stream; each flow that is
begun is opened beside (see `opener`). Called by `run`. Bounded by the byte budget, the stream, and the flows open at once.
Small files are read and encoded many per thread hop (a hop costs as much as ten such files), large ones stream later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final, TypeVar

from ..core.errors import Stop
from ..core.facts import WATCH_S, FlowFacts, ForgetInputs, InputFacts, PutFlow, PutInput, Record, Watch
from ..core.lifecycle import FlowEvent, FlowState, InputEvent, InputState
from ..core.model import Problem
from ..core.planning import Action, FlowPlan, InputPlan, Standing
from ..core.tags import can_carry_tag
from .context import REBUILDS, Context, FlowRun, Payload, Settled, begin
from .litter import give_up
from .opener import open_flow
from .planner import Planner
from .ports import Body

T = TypeVar("T")

HOP_FILES: Final = 256  # small files per thread hop, and announcements per commit
HOP_BYTES: Final = 1 << 20  # encoded, per hop
STREAM_BYTES: Final = 2 << 20  # what one streamed body holds at most: a chunk read, encoded, and in the socket's buffer
PLANS: Final = 32  # flows planned per thread hop


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
                    if context.again:
                        await self._again(begun, context.again.popleft())
                    elif more:
                        found = await self._hop(self._next_plans, plans)
                        more = bool(found)
                        for plan in found:
                            if plan is not None and context.stop is None:
                                await self._begin(begun, plan)
                    elif context.active:
                        context.changed.clear()
                        await context.changed.wait()
                    else:
                        return
        except* Stop:
            pass  # in the middle of a walk; what was handed on drains
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _hop(self, function: Callable[..., T], *values: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *values)

    @staticmethod
    def _next_plans(plans: Iterator[FlowPlan | Problem]) -> list[FlowPlan | None]:
        """A few plans that have work; None stands for a stretch without any, [] for the end."""
        found: list[FlowPlan | None] = []
        for count, plan in enumerate(plans):
            if isinstance(plan, FlowPlan) and plan.action.works:
                found.append(plan)
            if len(found) >= PLANS or count >= 1000:
                return found or [None]
        return found

    async def _again(self, begun: asyncio.TaskGroup, flow: FlowRun) -> None:
        """A flow comes back: its inputs are to be sent again, or all of it is built anew."""
        context = self._context
        plan = await self._hop(self._planner.flow, flow.plan.flow)
        if plan.action.works and flow.rebuilds <= REBUILDS:
            await self._begin(begun, plan, flow.rebuilds, flow.tries)
            return
        for problem in plan.problems:
            context.problem(None, problem)
        if flow.rebuilds > REBUILDS:
            message = f"the flow was given up and built anew {REBUILDS} times, and still its inputs are not certain"
            context.problem(None, Problem("unsettled", message, "run again later", flow.plan.flow.place, flow.name))
        if plan.action not in (Action.DONE, Action.WAITING):
            context.report.flows.failed += 1

    async def _begin(self, begun: asyncio.TaskGroup, plan: FlowPlan, rebuilds: int = 0, tries: int = 0) -> None:
        """Small flows are begun side by side, for each waits for the disk a few times; large ones in their order, so that
        the first are started while the later ones are still being read."""
        await self._slots.acquire()
        flow = FlowRun(plan, plan.facts or FlowFacts(plan.flow.name), rebuilds, tries)
        flow.times.begun = self._context.clock.wall()
        self._context.active += 1
        if plan.tally.total <= HOP_FILES and plan.tally.total_bytes <= HOP_BYTES // 2:
            begin(begun, self._work_on(flow))
        else:
            await self._work_on(flow)

    async def _work_on(self, flow: FlowRun) -> None:
        context = self._context
        starting = flow.facts.state is FlowState.STARTING
        try:
            if not starting:
                await self._renew(flow)
            begin(self._group, open_flow(context, flow, self._settled))
            if not starting:  # else its start is settled first, by the finalizer
                await self._produce(flow)
        finally:
            flow.produced = True
        if flow.settled:
            self._settled(flow)

    async def _renew(self, flow: FlowRun) -> None:
        """Give up what is on the service where the plan says so; the journal forgets it before anything is sent."""
        facts, plan = flow.facts, flow.plan
        records: list[Record] = []
        if plan.action is Action.REDO:
            facts = facts.on(FlowEvent.REDO, flow_id=None, given=False)
            records.append(ForgetInputs(facts.name))
        elif plan.action is Action.REBUILD and facts.state is FlowState.CREATING:
            facts = facts.on(FlowEvent.NOT_CREATED, until=None)
            records += [ForgetInputs(facts.name), Watch(self._context.journal.now() + WATCH_S)]
        elif plan.action is Action.REBUILD:
            self._context.tell("flow_given_up", flow.name, flow_id=facts.flow_id, message="its inputs are others now")
            records, facts = give_up(facts)
        if plan.action in (Action.REDO, Action.REBUILD):
            flow.plan = replace(plan, inputs=lambda: self._planner.inputs(plan.flow, facts))
        else:  # the report has these from the survey
            flow.uploaded, flow.uploaded_bytes = plan.tally.sent, plan.tally.sent_bytes
        flow.facts = replace(facts, meaning=plan.meaning, quick=plan.quick, inputs=plan.tally.total,
                             size_bytes=plan.tally.total_bytes, problem=None)  # fmt: skip
        # Not awaited where nothing was sent before: what is announced next makes it durable.
        if records:
            await self._context.journal.record(*records, PutFlow(flow.facts))
        else:
            self._context.journal.post(PutFlow(flow.facts))

    async def _produce(self, flow: FlowRun) -> None:
        """Read, announce, hand over. The next files are read while these are being announced, where there is room."""
        context = self._context
        inputs = flow.plan.inputs()
        await context.budget.take(HOP_BYTES)
        reading = asyncio.ensure_future(self._hop(self._read, inputs))
        while True:
            found, end = await reading
            held = sum(body.length for _, body in found if body is not None and not isinstance(body, Problem))
            context.budget.give(HOP_BYTES)
            if held:
                await context.budget.take(held)
            ahead = not end and context.stop is None and not flow.failed and context.budget.take_now(HOP_BYTES)
            if ahead:
                reading = asyncio.ensure_future(self._hop(self._read, inputs))
            payloads, records = self._announce(flow, found)
            if records:
                await context.journal.record(*records)
            # Those that hold bytes already go first: one that waits for room must not keep them from giving theirs back.
            payloads.sort(key=lambda payload: payload.body is None)
            for payload in payloads:
                if payload.body is None:
                    await context.budget.take(STREAM_BYTES)
                flow.outstanding += 1
                await self._out.put(payload)
            if end:
                return
            if context.stop is not None or flow.failed:
                break
            if not ahead:
                await context.budget.take(HOP_BYTES)
                reading = asyncio.ensure_future(self._hop(self._read, inputs))
        if ahead:
            await reading  # read in vain: what it found is not announced
            context.budget.give(HOP_BYTES)

    def _read(
        self, inputs: Iterator[InputPlan | Problem]
    ) -> tuple[list[tuple[InputPlan | None, Body | Problem | None]], bool]:
        """In the thread: the next inputs that are to be sent or settled, small ones encoded."""
        found: list[tuple[InputPlan | None, Body | Problem | None]] = []
        small: list[tuple[int, InputPlan]] = []
        size = 0
        end = False
        while not end and len(found) < HOP_FILES and size < HOP_BYTES // 2:
            plan = next(inputs, None)
            if plan is None:
                end = True
            elif isinstance(plan, Problem):
                found.append((None, plan))
            elif plan.standing is Standing.NEW:
                if self._context.sources.small(plan):
                    small.append((len(found), plan))
                    size += 2 * plan.print.size  # encoded, with what stands beside it
                found.append((plan, None))
            elif plan.standing is Standing.SAME and plan.facts is not None and plan.facts.sha256 is None:
                found.append((plan, None))  # its digest is known now
        bodies = self._context.sources.bodies([plan for _, plan in small])
        for (index, plan), body in zip(small, bodies, strict=True):
            found[index] = plan, body
        return found, end

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
            if plan.standing is Standing.SAME and plan.facts is not None:
                records.append(PutInput(flow.name, replace(plan.facts, sha256=plan.sha256)))
                continue
            state, again = (InputState.PENDING, False) if plan.facts is None else (plan.facts.state, plan.facts.again)
            row = InputFacts(plan.key, state, body.sha256 if body is not None else None, plan.meaning, plan.print,
                             can_carry_tag(plan.input.additional), again=again).on(InputEvent.ANNOUNCE)  # fmt: skip
            records.append(PutInput(flow.name, row))
            held = body.length if body is not None else STREAM_BYTES
            payloads.append(Payload(flow, plan, row, body, held))
        return payloads, records
