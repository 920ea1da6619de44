"""How the parts of one run among several are put together: see `pipeline.build`, which has the others.

In: an operation with a crew. Out: its `CrewRun`. Called by `build`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

from ...core.crew import Job
from ...core.planning import Options
from ..chunks import Chunks
from ..operation import Operation
from ..planner import Planner
from ..schedule import Schedule
from .crew_run import CrewRun, MembershipParts
from .flow_finder import FlowFinder
from .job_feed import JobFeed
from .job_plans import JobPlans
from .lead import Lead
from .membership import Membership, SharedLimiter
from .ports import Crew, SharedJournal

if TYPE_CHECKING:
    from ..build import Build


def crew_run_of(operation: Operation, crew: Crew, build: Build) -> CrewRun:
    journal = cast(SharedJournal, operation.journal)  # who has a crew has such a one
    limiter = cast(SharedLimiter, operation.limiter)
    membership = Membership(crew, journal, limiter, operation.report, operation.clock, operation.manifest.digest)
    turn = partial(_turn, operation, crew, journal, membership, build)
    return CrewRun(crew, journal, membership, turn, build.requests, operation.reporter, operation.shutdown)


def _turn(operation: Operation, crew: Crew, journal: SharedJournal, membership: Membership, build: Build) -> MembershipParts:
    lead = Lead(crew, journal, build.preparation, build.planner, build.cleanup, operation.reporter)
    finder = FlowFinder(operation.manifest, operation.shutdown.check)
    feeds: list[JobFeed] = []

    def feed(schedule: Schedule, chunks: Chunks) -> JobFeed:
        planning = JobPlans(chunks, finder, partial(_planner_of, operation, build))
        made = JobFeed(crew, journal, membership, lead, planning, operation.reporter, operation.shutdown)
        schedule.ended = made.ended
        feeds.append(made)
        return made

    operation.budget.forget()  # what the stages held whose claims were lost
    stages = build.stages(feed)
    return MembershipParts(stages, feeds[0], lead)


def _planner_of(operation: Operation, build: Build, jobs: Sequence[Job]) -> Planner:
    """A flow is paid for again where its job says so, and it has the id still that it had then: once, whoever does it."""
    ids = {job.name: job.redo_of for job in jobs if job.redo_of is not None}

    def redo(name: str) -> bool:
        facts = operation.journal.flow(name) if name in ids else None
        return facts is not None and facts.flow_id == ids[name]

    options: Options = replace(operation.options, redo=redo, resubmit_changed=False, only=lambda name: True)
    return build.planner_with(options)
