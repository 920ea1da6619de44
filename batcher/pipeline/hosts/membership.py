"""This run as one of several: it says that it is alive, and passes on what the runs share.

In: the crew. Out: what was heard last; a limiter that lets go of no more than this run's share, and of nothing once its lease
may be over. Made once for each run; kept going beside the stages.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from itertools import count
from typing import Final, Protocol

from ...core.crew import Done, Heard, Heartbeat
from ...core.report import Report
from ..ports import Clock
from .ports import Crew, SharedJournal

BEATS: Final = 6  # heartbeats in one lease, at least
BEAT_S: Final = 1.0  # between two of them, at most: so soon a run hears what has changed
RESYNC: Final = 10  # heartbeats between two looks at the database's clock


class SharedLimiter(Protocol):
    """Of the limiter, what several runs share: see `service.limiter`."""

    in_flight: int

    @property
    def failed_probes(self) -> int | None: ...
    @property
    def share_now(self) -> int:
        """Requests that it lets go at once, at most; 0 where it has no share yet."""

    def share(self, most: int, until: float, probes: bool) -> None: ...
    def heard_of_outage(self, failed_probes: int | None) -> None: ...


class Membership:
    """`digest`: of the manifest."""

    def __init__(
        self, crew: Crew, journal: SharedJournal, limiter: SharedLimiter, report: Report, clock: Clock, digest: str
    ) -> None:
        self._crew = crew
        self._journal = journal
        self._limiter = limiter
        self._report = report
        self._clock = clock
        self._digest = digest
        self._in_outage = False  # another run asks whether the service is back
        self._led = False
        self._session = 0
        self.heard = Heard((), 0, None, 0, planned=False, swept=False)

    async def join(self) -> None:
        """Raises UsageError where a run that is alive has another manifest, ClaimLost where it took too long."""
        self.lose()
        await self._crew.join(self._digest)
        await self._journal.resync()
        await self.beat()
        self._session = self.heard.session

    @property
    def done(self) -> Done:
        """By this run itself, so far."""
        inputs = self._report.inputs
        return Done(self._report.flows.started_now, inputs.uploaded_now, inputs.bytes_now)

    @property
    def over(self) -> bool:
        """Whether nothing is left to do for anybody, in the session that this run has joined."""
        return self.heard.swept or self.heard.session != self._session

    @property
    def remaining(self) -> int:
        """Flows of the batch that are not started, as far as it has heard."""
        return self.heard.totals.flows - self.heard.totals.started - self.heard.done.started

    async def keep(self) -> None:
        """Say that it is alive, until cancelled. Raises ClaimLost, and Stop where the database stays away."""
        pause_s = min(BEAT_S, self._crew.lease_s / BEATS)
        for number in count(1):
            await asyncio.sleep(pause_s)
            await self.beat()
            self.check()
            if number % RESYNC == 0:
                await self._journal.resync()

    async def beat(self) -> None:
        """Once. What is let go until the next must end with the lease that this one begins."""
        limiter = self._limiter
        until = self._clock.steady() + self._crew.lease_s
        told = Heartbeat(max(limiter.in_flight, limiter.share_now), self.done, limiter.failed_probes, self._in_outage)
        self.heard = heard = await self._crew.beat(told)
        if self._led and not self._crew.leads:
            await self._journal.drop_lead()
        self._led = self._crew.leads
        probes = heard.probes
        limiter.share(heard.allotted, until, probes is None or probes[0])
        if told.failed_probes is not None and probes is not None and not probes[0]:
            self._in_outage = True
            limiter.heard_of_outage(probes[1])
        elif self._in_outage and probes is None:
            self._in_outage = False
            limiter.heard_of_outage(None)

    def check(self) -> None:
        """Raises Stop where the journal records nothing any more."""
        if self._journal.stopped is not None:
            raise self._journal.stopped

    def note_planned(self) -> None:
        """This run has planned: that is known before the next heartbeat says so."""
        self.heard = replace(self.heard, planned=True)

    def lose(self) -> None:
        """It is none of the runs any more: nothing leaves until it has joined again."""
        self._limiter.share(0, math.inf, True)
