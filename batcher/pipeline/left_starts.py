"""Starts without an outcome of flows that the manifest no longer has: nobody plans these, and they may be paid for.

In: the journal's rows, the manifest, the service. Out: each is started as the service says, or abandoned, or a problem says why
that cannot be told. Made once for each operation; called by `run` and by the run that leads, before orphans are deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence, Set

from ..core.abandoning import abandon
from ..core.facts import FlowFacts, PutFlow
from ..core.lifecycle import FlowEvent
from ..core.model import Manifest, Problem
from ..core.remote import RemoteFlow
from ..core.retry import Kind, Verdict
from ..journal.ports import Journal
from .ports import Clock
from .reporter import Reporter
from .requests import Requests
from .shutdown import Shutdown


class LeftStarts:
    def __init__(
        self, manifest: Manifest, requests: Requests, journal: Journal, reporter: Reporter, shutdown: Shutdown, clock: Clock
    ) -> None:  # fmt: skip
        self._manifest = manifest
        self._requests = requests
        self._journal = journal
        self._reporter = reporter
        self._shutdown = shutdown
        self._clock = clock

    async def names(self) -> list[str]:
        """Of such flows. The manifest is walked only where there may be one. Raises Stop."""
        rows = await self._journal.look(lambda journal: journal.starting())
        if not rows:
            return []
        found = {facts.name for facts in rows}
        return sorted(found - await asyncio.to_thread(self._in_manifest, found))

    def _in_manifest(self, names: Set[str]) -> set[str]:
        """Those of these names that a flow has."""
        there: set[str] = set()
        for item in self._manifest.flows():
            self._shutdown.check()
            if not isinstance(item, Problem) and item.name in names:
                there.add(item.name)
        return there

    async def settle(self, names: Sequence[str]) -> None:
        """Ask for each of these. What was not started is an orphan from now on. Raises Stop."""
        settled = await asyncio.gather(*map(self._settle, names), return_exceptions=True)
        for outcome in settled:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _settle(self, name: str) -> None:
        facts = await self._journal.look(lambda journal: journal.flow(name))
        if facts is None or not facts.is_starting or facts.flow_id is None:
            return
        pauses = self._shutdown.pauses()
        while True:
            left_s = (facts.settle_deadline or 0.0) - self._journal.now()
            found = await self._requests.flow(facts.flow_id)
            if isinstance(found, Verdict):
                self._cannot_tell(facts, found)
                return
            if not found.unstarted:
                await self._started(facts)
                return
            if left_s <= 0:
                await self._not_seen(facts, found)
                return
            await pauses.wait(left_s)

    async def _started(self, facts: FlowFacts) -> None:
        after = facts.on(
            FlowEvent.START_SEEN, settle_deadline=None, start_after=None, problem=None, started_at=self._clock.wall()
        )
        await self._journal.record(PutFlow(after))
        message = f"the manifest no longer has it, and its start was done: the flow {facts.flow_id} is paid for"
        self._reporter.problem(Problem("note", message, "collect brings it", flow=facts.name))

    async def _not_seen(self, facts: FlowFacts, found: RemoteFlow) -> None:
        """The settling time is over, and the service does not show that it was started."""
        if not found.state:  # it may run, or have ended: then a deletion would take what is paid for
            self._unsettled(facts, "the service shows no state of it", "look at it on the service")
        elif facts.external:
            hint = "start it on the service yourself; the next run sees that"
            self._unsettled(facts, "the service does not show that it was, and it may yet be", hint)
        else:
            why = "the manifest no longer has it, and the service does not show that it was started"
            self._reporter.emit("flow_given_up", facts.name, "warning", flow_id=facts.flow_id, message=why)
            records, _ = abandon(facts)
            await self._journal.record(*records)

    def _cannot_tell(self, facts: FlowFacts, verdict: Verdict) -> None:
        if verdict.kind is Kind.GONE:
            hint = "another account's key? was it deleted there?"
            self._unsettled(facts, f"the service does not know it ({verdict.message})", hint, verdict.status)
        else:
            self._unsettled(facts, verdict.message, "the next run asks again", verdict.status)

    def _unsettled(self, facts: FlowFacts, why: str, hint: str, status: int | None = None) -> None:
        what = f"whether the flow {facts.flow_id}, which the manifest no longer has, was started cannot be told"
        self._reporter.problem(Problem("unsettled", f"{what}: {why}", hint, flow=facts.name, status=status))
