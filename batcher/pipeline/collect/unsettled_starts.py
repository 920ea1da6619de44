"""Flows whose start is not settled: the service may have done it, and then they are to be collected, too.

In: the journal's rows, the service. Out: ids of those that it shows as started. Made once for each collecting; called by
`collector`. It reads, and leaves the rows to the next run.
"""

from __future__ import annotations

from ...core.facts import FlowFacts
from ...core.model import Problem
from ...core.planning import Options
from ...core.retry import Kind, Verdict
from ...journal.ports import Journal
from ..flow_states import FlowStates
from ..reporter import Reporter
from .watched import kind_of


class UnsettledStarts:
    def __init__(self, states: FlowStates, journal: Journal, options: Options, reporter: Reporter) -> None:
        self._states = states
        self._journal = journal
        self._options = options
        self._reporter = reporter

    async def begun(self) -> frozenset[str]:
        """Ask for each, but for those that other runs work on. Raises Stop."""
        rows = await self._journal.look(lambda journal: journal.starting())
        if not rows:
            return frozenset()
        at_work = await self._journal.look(lambda journal: journal.at_work())
        only = self._options.only
        asked = {
            facts.flow_id: facts
            for facts in rows
            if facts.flow_id is not None and facts.name not in at_work and only(facts.name)
        }
        begun: set[str] = set()
        for flow_id, found in (await self._states.shown(asked)).items():
            if isinstance(found, Verdict):
                self._cannot_tell(asked[flow_id], found)
            elif found.unstarted:
                message = f"its start is not settled, and the service does not show the flow {flow_id} as started"
                self._reporter.problem(Problem("note", message, "batcher run settles it", flow=asked[flow_id].name))
            else:
                begun.add(flow_id)
        return frozenset(begun)

    def _cannot_tell(self, facts: FlowFacts, verdict: Verdict) -> None:
        kind, hint = kind_of(verdict)
        message = f"whether the flow {facts.flow_id} was started cannot be told: {verdict.message}"
        if verdict.kind is Kind.GONE:
            message = f"the service does not know the flow {facts.flow_id}, whose start is not settled"
            hint = "another account's key? was it deleted there?"
        self._reporter.problem(Problem(kind, message, hint, flow=facts.name, status=verdict.status))
