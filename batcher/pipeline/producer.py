"""The first stage: what remains is planned, opened and fed to the workers, flow after flow.

In: the planner's stream, and flows that are to be built anew. Out: `Payload`s on a bounded stream (see `feeder`); each flow
that is begun is opened beside (see `opener`). Made once for each run. Bounded by the byte budget, the stream, and the flows
open at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ..core.errors import Stop
from ..core.lifecycle import FlowState
from ..core.model import Flow, Problem
from ..core.planning import Action, FlowPlan
from .chunks import CHUNK_BYTES, CHUNK_FILES, Chunk
from .feeder import Feeder
from .flow_run import FlowRun, History
from .opener import Opener
from .reporter import Reporter
from .schedule import Schedule
from .shutdown import Shutdown

REBUILDS: Final = 5  # of one flow in one run; then the outcome cannot be settled


def spawn(group: asyncio.TaskGroup, work: Coroutine[Any, Any, None]) -> None:
    """One more task of the group; none where the group is ending with an error. (asyncio's groups: anyio's take 20 µs more
    for each task, and a flow of one small input has three in its millisecond.)"""
    try:
        group.create_task(work)
    except RuntimeError:
        work.close()


@dataclass(frozen=True, slots=True)
class _Tasks:
    """Where they belong: flows while they are fed, which end before the producer does; and what goes on after it."""

    flows: asyncio.TaskGroup
    group: asyncio.TaskGroup
    on_idle: Callable[[FlowRun], None]


class Plans(Protocol):
    """Where the flows come from that are to be worked on: `Chunks`, or the queue that several runs share."""

    async def next_plans(self, *, read: bool) -> list[tuple[FlowPlan | None, Chunk | None]]:
        """A few plans that have work; `read`: with what is to be sent of them, as far as there is room for it. None stands
        for a stretch without any, [] for the end."""

    async def plan_again(self, flow: Flow) -> FlowPlan:
        """One flow, planned now."""

    def drop(self, chunk: Chunk) -> None:
        """It was read in vain."""

    def close(self) -> None: ...


class Producer:
    def __init__(
        self, plans: Plans, schedule: Schedule, opener: Opener, feeder: Feeder, reporter: Reporter, shutdown: Shutdown
    ) -> None:
        self._plans = plans
        self._schedule = schedule
        self._opener = opener
        self._feeder = feeder
        self._reporter = reporter
        self._shutdown = shutdown

    async def run(self, group: asyncio.TaskGroup, on_idle: Callable[[FlowRun], None]) -> None:
        """Until nothing remains, or the run is to end. Each flow is opened by a task of the `group`, and handed to `on_idle`
        once, when nothing of it is on its way any more."""
        try:
            async with asyncio.TaskGroup() as flows:
                await self._all(_Tasks(flows, group, on_idle))
        except* Stop:
            pass  # in the middle of a walk; what was handed on drains
        finally:
            self._plans.close()

    async def _all(self, tasks: _Tasks) -> None:
        schedule = self._schedule
        more = True
        while self._shutdown.stop is None:
            if (flow := schedule.next_again()) is not None:
                await self._again(tasks, flow)
            elif more:
                found = await self._plans.next_plans(read=not schedule.starts.closed)
                more = bool(found)
                for plan, first in found:
                    if plan is not None and await self._may_begin(tasks, plan):
                        await self._begin(tasks, plan, first)
                    elif first is not None:
                        self._plans.drop(first)
                more = more and not schedule.starts.over
            elif schedule.active:
                await schedule.change()
            else:
                return

    async def _may_begin(self, tasks: _Tasks, plan: FlowPlan) -> bool:
        """Whether one more flow may be started in this run. Where all that may be are under way, their outcomes are waited
        for: one that fails before its start makes room for another. What is held back is neither created nor sent."""
        schedule = self._schedule
        while self._shutdown.stop is None and not schedule.starts.take(plan.is_starting):
            if (flow := schedule.next_again()) is not None:
                await self._again(tasks, flow)
            elif schedule.active:
                await schedule.change()
            else:
                schedule.starts.close()
                return False
        return self._shutdown.stop is None

    async def _again(self, tasks: _Tasks, flow: FlowRun) -> None:
        """A flow comes back: its inputs are to be sent again, or all of it is built anew."""
        plan = await self._plans.plan_again(flow.plan.flow)
        spent = flow.history.rebuilds > REBUILDS
        if plan.action.works and not spent:
            await self._begin(tasks, plan, history=flow.history)
            return
        state = plan.facts.state if plan.facts is not None else FlowState.PLANNED
        self._schedule.over(flow, state)
        for problem in plan.problems:
            self._reporter.problem(problem)
        if spent:
            message = f"the flow was planned anew {REBUILDS} times, and still its inputs are not certain"
            self._reporter.problem(Problem("unsettled", message, "run again later", flow.plan.flow.place, flow.name))
        if plan.action not in (Action.DONE, Action.WAITING):
            self._reporter.report.flows.failed += 1

    async def _begin(self, tasks: _Tasks, plan: FlowPlan, first: Chunk | None = None, history: History | None = None) -> None:
        """Small flows are begun side by side, for each waits for the disk a few times; large ones in their order, so that
        the first are started while the later ones are still being read."""
        await self._schedule.begin()
        flow = FlowRun(plan, self._feeder.ready, tasks.on_idle, history)
        self._reporter.flow_begun(flow)
        if plan.tally.total <= CHUNK_FILES and plan.tally.total_bytes <= CHUNK_BYTES // 2:
            spawn(tasks.flows, self._work_on(tasks, flow, first))
        else:
            await self._work_on(tasks, flow, first)

    async def _work_on(self, tasks: _Tasks, flow: FlowRun, first: Chunk | None) -> None:
        starting = flow.facts.is_starting
        try:
            if not starting:
                await self._feeder.renew(flow)
            spawn(tasks.group, self._opener.open(flow))
            if not starting:  # else its start is settled first, by the finalizer
                await self._feeder.produce(flow, first)
        finally:
            flow.produced()
        flow.pass_on()
