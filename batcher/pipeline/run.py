"""One run, from end to end: everything is checked, then done, then swept.

In: its parts, as `build` made them. Out: a report. Called by the public API. It starts the stages and hands flows from one to
the next: it is the only place that knows all three.

    Preparation   survey → problems → unknown flows → caps         no request writes before it lets the run go on
    Cleanup       starts that nobody plans are settled
                  orphans of earlier runs are deleted               else a late start of one is paid for beside the new flow
    Stages        Producer ═ Payload ═▶ Workers ─ FlowRun ─▶ Finalizer ─▶ started, or back to the Producer
    Cleanup       sweep: orphans, twins of lost creates
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..core.errors import Reason, Stop
from ..core.model import Limits, Problem
from ..core.planning import Options
from ..journal.ports import Journal
from .cleanup import Cleanup
from .reporter import Reporter
from .requests import Requests
from .run_notes import RunNotes
from .shutdown import Shutdown
from .starts import Starts
from .survey import Survey, Surveyor, redo_left
from .unknown_flows import UnknownFlows

if TYPE_CHECKING:
    from .finalizer import Finalizer
    from .flow_run import FlowRun
    from .payloads import Payloads
    from .producer import Producer
    from .schedule import Schedule
    from .workers import Workers

FLOWS_OPEN: Final = 256  # flows worked on at once, where the requests in flight do not allow more


class Preparation:
    """All that is looked at before the first write."""

    def __init__(
        self, surveyor: Surveyor, unknown_flows: UnknownFlows, reporter: Reporter, shutdown: Shutdown, options: Options,
        limits: Limits,
    ) -> None:  # fmt: skip
        self._surveyor = surveyor
        self._unknown_flows = unknown_flows
        self._reporter = reporter
        self._shutdown = shutdown
        self._options = options
        self._limits = limits

    async def prepare(self) -> Survey | None:
        """What is to be done; None, with the problems said, where the run must not begin. Raises Stop."""
        return await self.judge(await self.look())

    @property
    def goes_on(self) -> bool:
        """Whether sources that are at fault hold nothing else up (`--keep-going`)."""
        return self._options.keep_going

    @property
    def capped(self) -> bool:
        """Whether no more flows may be started than were counted: those that come later were held against no cap."""
        limits = self._limits
        return self._options.start and (limits.max_starts is not None or limits.max_cost is not None)

    async def look(self) -> Survey:
        """The whole plan, and all that is wrong with it. Raises Stop."""
        return await asyncio.to_thread(self._surveyor.survey)

    async def judge(self, found: Survey) -> Survey | None:
        """What is to be done; None, with the problems said, where the run must not begin. Raises Stop."""
        if not self._may_go_on(found.problems):
            return None
        left = await self._shutdown.in_time(self._unknown_flows.check(found))
        # After adopting: it may leave little to do.
        if left is None or not self._may_go_on(left.over_caps(self._limits)):
            return None
        self._surveyor.release_images()
        return left

    def _may_go_on(self, problems: list[Problem]) -> bool:
        """Everything that is wrong is said before the first write; only sources at fault may be gone past, if asked."""
        for problem in problems:
            self._reporter.problem(problem)
        kinds = {problem.kind for problem in problems} & {"manifest", "source"}
        return not kinds or (self._options.keep_going and kinds == {"source"})


class Stages:
    """Producer, workers and finalizer, at work at the same time. `width`: requests in flight at most."""

    def __init__(
        self, producer: Producer, payloads: Payloads, workers: Workers, finalizer: Finalizer, schedule: Schedule, width: int
    ) -> None:
        self._producer = producer
        self._payloads = payloads
        self._workers = workers
        self._finalizer = finalizer
        self._schedule = schedule
        self._width = width

    async def run(self, starts: Starts) -> None:
        """Until nothing remains, or the run is to end."""
        from .producer import spawn  # not before there is something to do

        self._schedule.starts = starts
        count = 2 * self._width
        async with asyncio.TaskGroup() as group:

            def on_idle(flow: FlowRun) -> None:
                spawn(group, self._finalize(flow))

            for _ in range(count):
                spawn(group, self._workers.work())
            await self._producer.run(group, on_idle)
            self._payloads.end(count)

    async def _finalize(self, flow: FlowRun) -> None:
        comes_again = False
        try:
            comes_again = await self._finalizer.finalize(flow)
        except Stop:
            pass
        finally:
            self._schedule.end(flow, comes_again)


class BatchRun:
    def __init__(
        self, preparation: Preparation, stages: Callable[[], Stages], cleanup: Cleanup, requests: Requests, journal: Journal,
        reporter: Reporter, shutdown: Shutdown, *, starts_per_run: int | None,
    ) -> None:  # fmt: skip
        self._preparation = preparation
        self._journal = journal
        self._stages = stages
        self._cleanup = cleanup
        self._requests = requests
        self._reporter = reporter
        self._shutdown = shutdown
        self._starts_per_run = starts_per_run

    async def run(self, notes: RunNotes) -> None:
        """Bring the batch to done; the outcome is in the report."""
        notes.begin()
        try:
            with self._shutdown.reported():
                await self._run()
        finally:
            notes.cancel()
        self._reporter.report.count_pending()
        notes.end()

    async def _run(self) -> None:
        left = await self._preparation.prepare()
        if left is None:
            return
        await self._shutdown.in_time(self._cleanup.begin())
        if left.works:
            most = self._starts_per_run
            if self._preparation.capped:
                most = left.requests.begun if most is None else min(most, left.requests.begun)
            starts = Starts(most, left.unsettled)
            try:
                await self._shutdown.in_time(self._stages().run(starts))
            finally:
                again = await self._redo_left(left) if left.asked else None
            hint = "run again: the next run goes on" if again is None else "the note on --redo says how to go on"
            self._say_held_back(left, starts, hint)
        if self._shutdown.stop is None:
            await self._shutdown.in_time(self._cleanup.sweep())
        self._requests.end()

    async def _redo_left(self, found: Survey) -> Problem | None:
        """Say how far the run has come with what --redo names, where that is not all of it."""
        await self._journal.record()  # what was posted of the flows is rows now
        note = await asyncio.to_thread(redo_left, self._journal, found)
        if note is not None:
            self._reporter.problem(note)
        return note

    def _say_held_back(self, found: Survey, starts: Starts, hint: str) -> None:
        """Say how many flows are left to the next runs, and what to do."""
        left = found.requests.begun + found.requests.held_back - starts.admitted
        if starts.closed and left > 0 and self._shutdown.stop is None:
            started = self._reporter.report.flows.started_now
            what = f"{started:,} flow{'' if started == 1 else 's'} started; --max-starts (limits.starts_per_run)"
            message = f"{what} allows {starts.most:,} in one run, and {left:,} remain"
            self._reporter.stopping(Stop(Reason.LIMIT, message, hint))
