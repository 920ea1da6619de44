"""What the producer of one run works on: flows from the queue that several runs share.

In: jobs. Out: plans, of flows that this run has claimed; what has ended leaves the queue, what this host cannot do goes back
into it. Made once for each time that a run joins; called by the producer, and by the schedule when a flow has ended.

Where this run has the lead, it fills the queue first. A journal that knows nothing has to be given proof that the service's
list of flows can be believed, before any other run may create a flow: the leader works on the first ones alone.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Final

from ...core.crew import Job
from ...core.errors import Reason, Stop
from ...core.lifecycle import FlowState
from ...core.model import Flow, Problem
from ...core.planning import Action, FlowPlan
from ..chunks import Chunk
from ..flow_run import FlowRun
from ..reporter import Reporter
from ..shutdown import Shutdown
from .job_plans import JobPlans
from .lead import Lead, job_of
from .membership import Membership
from .ports import Crew, SharedJournal, held_at_once

JOBS: Final = 32  # taken at once, at most
IDLE_S: Final = 0.3  # between two looks at a queue in which nothing waits
BACK_S: Final = 1.0  # a flow whose sources are not here is offered to others for so long


@dataclass(slots=True)
class _Ended:
    name: str
    unused: bool  # no start of it was announced


class JobFeed:
    def __init__(
        self, crew: Crew, journal: SharedJournal, membership: Membership, lead: Lead, planning: JobPlans, reporter: Reporter,
        shutdown: Shutdown,
    ) -> None:  # fmt: skip
        self._crew = crew
        self._journal = journal
        self._membership = membership
        self._lead = lead
        self._planning = planning
        self._reporter = reporter
        self._shutdown = shutdown
        self._held: set[str] = set()
        self._ended: list[_Ended] = []
        self._closing = 0  # of those that are held: they have ended, too, and are about to leave the queue
        self._told_lacking = False
        self._changed = asyncio.Event()
        shutdown.on_stop(lambda stop: self._changed.set())

    # ---- for the producer

    def close(self) -> None:
        self._planning.close()

    def drop(self, chunk: Chunk) -> None:
        self._planning.chunks.drop(chunk)

    async def plan_again(self, flow: Flow) -> FlowPlan:
        return await self._planning.one(Job(flow.name), flow)  # what is paid for by now is not paid for again

    async def next_plans(self, *, read: bool) -> list[tuple[FlowPlan | None, Chunk | None]]:
        if self._shutdown.stop is not None or self._lead.failed:
            await self._close_ended()
            return []
        async with asyncio.TaskGroup() as group:  # side by side: one after the other they are all that a run waits for
            closing = group.create_task(self._close_ended())
            finding = group.create_task(self._find(read=read))
        found = finding.result()
        if found is None:
            return []
        if not found and not closing.result():
            await self._wait()
        return found or [(None, None)]

    async def _find(self, *, read: bool) -> list[tuple[FlowPlan | None, Chunk | None]] | None:
        """None: nothing is left for this run."""
        found = await (self._from_queue() if self._membership.heard.planned else self._before_it_is_planned())
        if not found:
            return None if found is None else []
        return await self._planning.chunks.with_first_inputs(found, read=read)

    def ended(self, flow: FlowRun, state: FlowState) -> None:
        """That was all of it for this run. Where the run is to end, others go on with what is not done."""
        if self._shutdown.stop is None or state is FlowState.STARTED:
            unused = not flow.history.start_announced and state is not FlowState.STARTING
            self._ended.append(_Ended(flow.name, unused))
            self._changed.set()

    async def _wait(self) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(IDLE_S):
                await self._changed.wait()
        except TimeoutError:
            pass

    # ---- before the queue is full

    async def _before_it_is_planned(self) -> list[FlowPlan] | None:
        """None: this run is over."""
        lead, members = self._lead, self._membership.heard.members
        others = [member for member in members if not member.lacking]
        if lead.lacks and not others:
            lead.say_lacking()  # nobody has them
            return None
        if lead.lacks or not await lead.take():
            return []
        if not lead.prepared:
            await lead.prepare(alone=len(others) < 2)
            return []
        if not await self._journal.look(lambda journal: journal.unknown_flows_checked):
            return await self._first_flows()
        while jobs := await self._planning.in_thread(lead.some_jobs):
            self._shutdown.check()
            await self._crew.put(jobs)
        await lead.planned()
        self._membership.note_planned()
        return []

    async def _first_flows(self) -> list[FlowPlan]:
        """The next flow, for this run alone; one at a time."""
        if self._held:
            return []
        plan = await self._planning.in_thread(self._lead.next_plan)
        if plan is None:
            await self._lead.planned()
            self._membership.note_planned()
            return []
        flow, job = plan.flow, job_of(plan)
        if plan.lacks_sources or not await self._crew.place():
            await self._crew.put([job])  # for another run, or for later
            return []
        await self._journal.claim([flow.name])
        self._held.add(flow.name)
        plan = await self._planning.one(job, flow)
        if plan.lacks_sources:  # since it was looked at
            await self._crew.put([job])
            await self._release(flow.name)
            return []
        return await self._working([plan])

    # ---- jobs

    async def _from_queue(self) -> list[FlowPlan] | None:
        """None: nothing is left that this run may take. What was held when it began may leave the queue meanwhile, and make
        room."""
        busy = bool(self._held)
        most = held_at_once(self._membership.heard.allotted)  # what it cannot work on is for the others
        room = min(JOBS, most - len(self._held) + len(self._ended) + self._closing)
        if room <= 0:
            return []
        jobs = await self._crew.take(room)
        # What it has in its hands from before the queue was filled may wait there, too: where the lead changed meanwhile.
        new = [job for job in jobs if job.name not in self._held]
        if new:
            self._held.update(job.name for job in new)
            await self._journal.claim([job.name for job in new])
            return await self._working(await self._plans(new))
        if jobs:
            return []
        waiting, working = await self._crew.left()
        if waiting and self._crew.bounded and not (working or busy):
            await self._membership.beat()
            message = f"--max-starts (limits.starts_per_run) is reached, and {self._membership.remaining:,} flow(s) remain"
            self._shutdown.halt(Stop(Reason.LIMIT, message, "run again: the next run goes on"))
            return None
        return [] if waiting or working or busy else None

    async def _plans(self, jobs: list[Job]) -> list[FlowPlan]:
        """As this host sees them now. What the manifest does not have here is given back."""

        plans, missing = await self._planning.of_jobs(jobs)
        for name in missing:
            message = "the manifest does not have it on this host"
            await self._lacks(name, [Problem("source", message, "every host should see the same files", flow=name)])
        return plans

    async def _working(self, plans: list[FlowPlan]) -> list[FlowPlan]:
        """Those that have work; of the others it is said what they are."""
        for plan in plans:
            if plan.action.works:
                continue
            name = plan.flow.name
            if plan.lacks_sources:
                await self._lacks(name, [replace(problem, flow=name) for problem in plan.problems], plan.tally.faulty)
                continue
            for problem in plan.problems:
                self._reporter.problem(problem)
            self._reporter.report.flows.failed += plan.action is Action.BLOCKED
            self._ended.append(_Ended(name, unused=True))
        return [plan for plan in plans if plan.action.works]

    async def _lacks(self, name: str, problems: list[Problem], faulty: int = 0) -> None:
        """Sources of the flow are at fault here, of so many inputs: another run may have them."""
        if await self._crew.lacks(name):
            for problem in problems:
                self._reporter.problem(problem)
            self._reporter.report.flows.failed += 1
            self._reporter.report.inputs.failed += faulty
            self._ended.append(_Ended(name, unused=True))
            return
        if not self._told_lacking:
            self._told_lacking = True
            message = f"{problems[0].message}: other runs are offered what this host lacks sources of"
            self._reporter.problem(Problem("note", message, "every host should see the same files", flow=name))
        await self._release(name)

    async def _release(self, name: str) -> None:
        await self._journal.release([name])
        await self._crew.give_back([name], BACK_S)
        self._held.discard(name)

    async def _close_ended(self) -> bool:
        """What has ended leaves the queue, once all of it is durable; whether anything had. Raises ClaimLost: then it stays."""
        ended, self._ended = self._ended, []
        if not ended:
            return False
        self._closing = len(ended)
        names = [one.name for one in ended]
        await self._journal.release(names)
        await self._crew.done(names, sum(one.unused for one in ended), self._membership.done)
        self._held.difference_update(names)
        self._closing = 0
        return True
