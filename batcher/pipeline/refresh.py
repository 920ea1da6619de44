"""What has become of started flows: the service is asked, and shows it. It reads, and writes nothing anywhere.

In: the journal's started flows whose end is not settled, and those whose start is not. Out: `Refreshed`, with the rows that the
journal should have. Made by `build`, called by the public API, which keeps them. Bounded in flows, in requests and in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from ..core.collecting import Step, as_shown, step
from ..core.errors import Reason, Stop
from ..core.facts import EndFacts, FlowFacts, PutEnd, Remote
from ..core.model import Problem
from ..core.planning import Options
from ..core.remote import RemoteFlow
from ..core.retry import Kind, Verdict
from ..journal.ports import JournalView
from .flow_states import FlowStates
from .ports import Clock
from .reporter import Reporter
from .shutdown import Shutdown

MOST: Final = 100_000  # flows that one refresh asks about: some 60 MB
SINGLE: Final = 1000  # of those that no list shows; each is a request of its own
WITHIN_S: Final = 120.0


@dataclass(slots=True)
class Refreshed:
    """`rows`: by the flow's id on the service, what it shows now; `before`: what the journal had of it. `asked`: flows that
    were asked about; `left`: that were not, being too many, or for want of time. `at`: when, in wall-clock seconds."""

    rows: dict[str, EndFacts] = field(default_factory=dict)
    before: dict[str, EndFacts | None] = field(default_factory=dict)
    asked: int = 0
    left: int = 0
    at: float = 0.0

    @property
    def changed(self) -> list[str]:
        """Ids of the flows that are in another state than the journal has."""
        before = {flow_id: "" if end is None else end.state for flow_id, end in self.before.items()}
        return [flow_id for flow_id, row in self.rows.items() if row.state != before[flow_id]]

    def newest(self, flow_id: str, end: EndFacts | None) -> EndFacts | None:
        """What is to be shown of a flow that a journal has this row of: one that somebody has written meanwhile is newer."""
        return self.rows[flow_id] if flow_id in self.rows and self.before[flow_id] == end else end

    def records(self, now: Mapping[str, EndFacts]) -> Sequence[PutEnd]:
        """What a journal is to be told that has these rows now: nothing of a flow that somebody has dealt with meanwhile."""
        return [PutEnd(row) for flow_id, row in self.rows.items() if now.get(flow_id) == self.before[flow_id]]


class Refresh:
    def __init__(
        self, states: FlowStates, journal: JournalView, reporter: Reporter, shutdown: Shutdown, clock: Clock, options: Options
    ) -> None:
        self._states = states
        self._journal = journal
        self._reporter = reporter
        self._shutdown = shutdown
        self._clock = clock
        self._options = options

    async def run(self) -> Refreshed:
        """What is wrong is in the report."""
        found = Refreshed(at=self._clock.wall())
        over = Stop(Reason.DEADLINE, f"the service was asked for {WITHIN_S:.0f} s, and that was not enough", "ask again")
        timer = asyncio.get_running_loop().call_later(WITHIN_S, self._shutdown.halt, over)
        with self._shutdown.reported():
            try:
                await self._shutdown.in_time(self._all(found))
            finally:
                timer.cancel()
        return found

    async def _all(self, found: Refreshed) -> None:
        candidates = self._candidates()
        rows = await asyncio.to_thread(lambda: list(islice(candidates, MOST)))
        found.left = await asyncio.to_thread(lambda: sum(1 for _ in candidates))
        flows = {str(facts.flow_id): (facts, end) for facts, end in rows}
        explained = {flow_id for flow_id, (_, end) in flows.items() if end is not None and step(end.state) is Step.FETCH_APART}
        shown = await self._states.shown(flows, explained=explained, single=SINGLE)
        found.asked, found.left = len(shown), found.left + len(flows) - len(shown)
        now = self._clock.wall()
        for flow_id, answer in shown.items():
            facts, end = flows[flow_id]
            if isinstance(answer, Verdict):
                self._say(facts, flow_id, answer)
            elif answer.unstarted and facts.is_starting:
                if not self._journal.held:  # else a run may be at it
                    message = f"its start is not settled, and the service does not show the flow {flow_id} as started"
                    self._reporter.problem(Problem("note", message, "batcher run settles it", flow=facts.name))
            elif answer.state == "created":
                message = f"the journal says that it was started, and the service that the flow {flow_id} is `created`"
                hint = "look at it on the service; --redo NAME builds it anew"
                self._reporter.problem(Problem("unsettled", message, hint, flow=facts.name))
            elif answer.state:
                self._note(found, facts, end, answer, now)

    @staticmethod
    def _note(found: Refreshed, facts: FlowFacts, end: EndFacts | None, shown: RemoteFlow, now: float) -> None:
        row = as_shown(end, shown.flow_id, facts.name, shown.state, shown.reason, shown.progress, now)
        still = end is not None and (end.state, end.reason) == (row.state, row.reason)
        if row != end and not (still and step(row.state) is not Step.WAIT):
            found.rows[shown.flow_id] = row
            found.before[shown.flow_id] = end

    def _candidates(self) -> Iterator[tuple[FlowFacts, EndFacts | None]]:
        """Started flows that run, as far as is known, or that the service may have completed since they failed; and those
        whose start is not settled."""
        for facts, end in self._journal.flows_and_ends():
            if not facts.maybe_paid or facts.flow_id is None or not self._options.only(facts.name):
                continue
            if end is None or (step(end.state) is not Step.FETCH and end.remote is Remote.KEPT):
                yield facts, end

    def _say(self, facts: FlowFacts, flow_id: str, verdict: Verdict) -> None:
        if verdict.kind is Kind.GONE:
            what = "whose start is not settled" if facts.is_starting else "which was started"
            message = f"the service does not know the flow {flow_id}, {what}"
            problem = Problem("unsettled", message, "another account's key? was it deleted there?", flow=facts.name, status=404)
        else:
            away = verdict.kind in (Kind.THROTTLED, Kind.UNAVAILABLE)
            message = f"its state cannot be asked for: {verdict.message}"
            hint = "ask again later" if away else "look at it on the service"
            problem = Problem("unavailable" if away else "unsettled", message, hint, flow=facts.name, status=verdict.status)
        self._reporter.problem(problem)
