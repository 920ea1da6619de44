"""One run of several, from joining to leaving.

In: its parts, as `build` made them. Out: a report, of what it did itself; `flows.started` and the like are the batch's.

    join      the same manifest as the others'
    feed      Lead → queue → JobFeed → Producer ═▶ Workers ─▶ Finalizer, as in a run that is alone, until nothing is left
    sweep     by one of them
    leave     what is held is others'

A run that was away for longer than its lease has lost its claims: its stages are cancelled, with all that they had in flight,
and it joins again as if it were new.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ...core.errors import ClaimLost, Reason, Stop
from ..reporter import Reporter
from ..requests import Requests
from ..run import Stages
from ..run_notes import RunNotes
from ..shutdown import Shutdown
from ..starts import Starts
from .job_feed import JobFeed
from .lead import Lead
from .membership import Membership
from .ports import Crew, SharedJournal

LOST_MOST: Final = 20  # claims, in one run: then its lease is too short for this host
LEAVE_S: Final = 10.0  # so long what is held is given back; then the lease sees to it
SWEEP_S: Final = 0.3  # between two looks whether the sweep is done


@dataclass(frozen=True, slots=True)
class MembershipParts:
    """What is made anew each time that a run joins."""

    stages: Stages
    feed: JobFeed
    lead: Lead


class CrewRun:
    """`parts`: made anew each time that the run joins."""

    def __init__(
        self, crew: Crew, journal: SharedJournal, membership: Membership, parts: Callable[[], MembershipParts],
        requests: Requests, reporter: Reporter, shutdown: Shutdown,
    ) -> None:  # fmt: skip
        self._crew = crew
        self._journal = journal
        self._membership = membership
        self._new_parts = parts
        self._requests = requests
        self._reporter = reporter
        self._shutdown = shutdown

    async def run(self, notes: RunNotes) -> None:
        """Bring the batch to done, together with the others; the outcome of this run is in the report."""
        notes.begin()
        try:
            with self._shutdown.reported():
                await self._run()
        finally:
            notes.cancel()
        self._count()
        notes.end()

    async def _run(self) -> None:
        for _ in range(LOST_MOST):
            if await self._join() and await self._work_as_member():
                self._requests.end()
                return
            self._membership.lose()
            self._reporter.emit("claims_lost", level="warning", lease_s=self._crew.lease_s)
            await self._journal.rejoin()
        message = f"its claims were lost {LOST_MOST} times: it says too seldom that it is alive"
        raise Stop(Reason.UNSETTLED, message, "give it a longer --lease, or fewer things to do beside this")

    async def _join(self) -> bool:
        """Whether it is one of the runs; False: it was away for longer than its lease meanwhile. Raises Stop, UsageError."""
        try:
            await self._membership.join()
        except ClaimLost:
            return False
        return True

    async def _work_as_member(self) -> bool:
        """Whether the work has come to its end; False: the claims were lost. Raises Stop."""
        parts, lost = self._new_parts(), False
        try:
            async with asyncio.TaskGroup() as group:
                keeping = group.create_task(self._keep())
                await self._work(parts)
                await self._leave()
                keeping.cancel()
        except* ClaimLost:
            lost = True
        finally:
            parts.feed.close()
        return not lost

    async def _keep(self) -> None:
        try:
            await self._membership.keep()
        except Stop as stop:
            self._shutdown.halt(stop)

    async def _work(self, parts: MembershipParts) -> None:
        try:
            await self._shutdown.in_time(parts.stages.run(Starts(None, 0)))
            self._membership.check()
            while not (self._shutdown.stop is not None or parts.lead.failed or self._membership.over):
                if await parts.lead.take():
                    await self._shutdown.in_time(parts.lead.sweep())
                    return
                await self._shutdown.sleep(SWEEP_S)
        except Stop as stop:  # said in the report; what is held is given back first
            if self._shutdown.stop is None:
                self._shutdown.halt(stop)

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._journal.record()
                await self._membership.beat()  # what it has done, once more
                await self._crew.leave()
        except (TimeoutError, Stop):
            pass  # the database is away: the lease gives them to others

    def _count(self) -> None:
        """The batch's counts, where this run has heard of them."""
        report, heard = self._reporter.report, self._membership.heard
        totals, done = heard.totals, heard.done
        if heard.planned:
            report.flows.total, report.inputs.total = totals.flows, totals.inputs
            report.flows.started = totals.started + done.started
            # What was uploaded into a flow that another run then had to build anew is counted by both.
            report.inputs.uploaded = min(totals.inputs, totals.uploaded + done.uploaded)
            report.inputs.bytes = totals.uploaded_bytes + done.uploaded_bytes
        report.count_pending()
