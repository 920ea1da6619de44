"""The run that leads: it looks at everything before the first write, fills the queue, and sweeps at the end.

In: the lead, which one run has at a time. Out: a full queue; flows that have to be worked on before it is filled. Called by the
job feed, step by step, so that `JobPlans`' thread does one thing at a time; when the leader dies another begins anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from ...core.crew import Job, Totals
from ...core.model import Problem
from ...core.planning import Action, FlowPlan
from ...core.report import NOT_SURVEYED
from ..cleanup import Cleanup
from ..planner import Planner
from ..reporter import Reporter
from ..run import Preparation
from ..survey import Survey
from .ports import Crew, SharedJournal

STEP: Final = 500  # flows that are put into the queue at once



class Lead:
    """One run's. `planner`: what the preparation has looked at."""

    def __init__(
        self, crew: Crew, journal: SharedJournal, preparation: Preparation, planner: Planner, cleanup: Cleanup,
        reporter: Reporter,
    ) -> None:  # fmt: skip
        self._crew = crew
        self._journal = journal
        self._preparation = preparation
        self._planner = planner
        self._cleanup = cleanup
        self._reporter = reporter
        self._left: Survey | None = None  # what is to be done, once that is known
        self._work: Iterator[FlowPlan | Problem] | None = None
        self._lacking: list[Problem] = []  # sources that this run lacks, and another may have
        self._counted = 0  # flows that have work and were handed out
        self._not_redone = False  # something was to be paid for again, and was left alone
        self._as_seen_here = NOT_SURVEYED  # the counts of the look that found them lacking
        self._asked_starts = False  # those that nobody plans
        self.failed = False  # the batch must not begin: it is said why

    async def take(self) -> bool:
        """Whether this run has the lead. One that gets it begins anew."""
        if self._crew.leads:
            return True
        if not await self._crew.try_lead():
            return False
        self._left = self._work = None
        self._counted = 0
        self._asked_starts = False
        await self._journal.take_lead()
        return True

    async def prepare(self, *, alone: bool) -> None:
        """Look at everything, once for each lead. `alone`: no other run can have the sources that this one lacks."""
        report = self._reporter.report
        before = report.surveyed()
        report.put_surveyed()
        found = await self._preparation.look()
        lacking = [problem for problem in found.problems if problem.kind == "source"]
        if lacking and not alone and not self._preparation.goes_on:
            self._lacking, self._as_seen_here = lacking, report.surveyed()
            report.put_surveyed(before)
            await self._hand_over()
            return
        if self._preparation.goes_on:
            found.set_lacking_aside(report)  # they wait in the queue, too, and whoever takes them tells
        self._left = await self._preparation.judge(found)
        self.failed = self._left is None
        if self._left is not None and not any(await self._crew.left()):
            await self._settle_left_starts()
            await self._cleanup.delete_orphans()  # a late start of what was given up would be paid for, too

    async def _settle_left_starts(self) -> None:
        """Of flows that the manifest no longer has. They are claimed meanwhile: whatever a run that died had announced counts
        as sent, from now on."""
        self._asked_starts = True
        names = await self._cleanup.left_starts.names()
        if names:
            await self._journal.claim(names)
            await self._cleanup.left_starts.settle(names)
            await self._journal.release(names)

    async def _hand_over(self) -> None:
        """Another run is to lead, which may have the sources."""
        lacking = self._lacking
        flows = len({problem.flow for problem in lacking})
        message = f"this host lacks sources of {flows:,} flow(s), the first: {lacking[0].message}; another run is to plan"
        self._reporter.problem(Problem("note", message, "every host should see the same files", lacking[0].place))
        await self._crew.resign(lacking=True)

    def say_lacking(self) -> None:
        """No run has the sources: that is what is wrong."""
        self._reporter.report.put_surveyed(self._as_seen_here)
        for problem in self._lacking:
            self._reporter.problem(problem)
        self.failed = True

    @property
    def lacks(self) -> bool:
        return bool(self._lacking)

    @property
    def prepared(self) -> bool:
        return self._left is not None

    def next_plan(self) -> FlowPlan | None:
        """In `JobPlans`' thread: the next flow that has work, in the manifest's order; None at the end."""
        return next(self._plans(), None)

    def _plans(self) -> Iterator[FlowPlan]:
        if self._work is None:
            left = self._left
            self._work = self._planner.work() if left is not None and (left.works or left.lacking) else iter(())
        return (plan for plan in self._work if isinstance(plan, FlowPlan) and self._is_for_queue(plan))

    def _is_for_queue(self, plan: FlowPlan) -> bool:
        """What would be paid for again is left alone where another run may have paid for it meanwhile."""
        if plan.action is Action.REDO and not self._crew.may_redo:
            self._not_redone = True
            return False
        if self._left is not None and self._preparation.capped and plan.action.works:
            self._counted += 1
            return self._counted <= self._left.requests.begun  # others have come since, and were held against no cap
        return plan.action.works or plan.lacks_sources

    def some_jobs(self) -> list[Job]:
        """In `JobPlans`' thread: the next ones for the queue."""
        return [job_of(plan) for plan in islice(self._plans(), STEP)]

    async def planned(self) -> None:
        """The queue is full. What this run has done itself by now is told with its heartbeats."""
        if self._not_redone:
            self._not_redone = False
            message = "this run was away for longer than its lease, and others began anew: it pays for no flow again"
            hint = "look at the batch with status, then ask again for what is left"
            self._reporter.problem(Problem("unsettled", message, hint))
        flows, inputs = self._reporter.report.flows, self._reporter.report.inputs
        await self._crew.planned(Totals(flows.total, inputs.total, flows.started - flows.started_now,
                                        inputs.uploaded - inputs.uploaded_now, inputs.bytes - inputs.bytes_now))  # fmt: skip

    async def sweep(self) -> None:
        """What was given up, and twins, as far as the service's list shows them. Raises Stop."""
        if not self._asked_starts:  # the run that led before has died, and may not have come so far
            await self._settle_left_starts()
        await self._cleanup.sweep()
        await self._crew.swept()


def job_of(plan: FlowPlan) -> Job:
    """A flow that is to be paid for again is so once: with the id that it has now."""
    facts = plan.facts
    return Job(plan.flow.name, facts.flow_id if plan.action is Action.REDO and facts is not None else None)


