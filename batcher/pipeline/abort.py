"""Aborting: the batch's flows that run on the service are found, and ended there where that was asked for.

In: the journal's started flows. Out: a `Running` for each that ran, problems in the report. Made by `build`, called by the
public API. The journal stays as it is: the flows are paid for, and `collect` says that they were aborted and brings what they
left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ..core.aborting import Phase, phase
from ..core.collecting import Step, step
from ..core.errors import Stop
from ..core.facts import FlowFacts
from ..core.model import Limits, Problem, ProblemKind
from ..core.planning import Options
from ..core.remote import RemoteFlow
from ..core.retry import Call, Kind, Verdict
from ..journal.ports import JournalView
from .reporter import Reporter
from .requests import Requests
from .retries import Retries
from .shutdown import Shutdown

ABORT_POLL_S: Final = (0.2, 0.5, 1.0, 2.0, 4.0)  # while a flow whose abort was taken is still shown as running
AGAIN_S: Final = (0.2, 0.5, 1.0)  # where a flow is shown without its state


@dataclass(frozen=True, slots=True)
class Running:
    """A flow that ran. `became` is the state that the service shows after the abort (None: it was only looked at)."""

    flow_id: str
    flow: str
    state: str
    became: str | None = None

    @property
    def aborted(self) -> bool:
        return self.became is not None and phase(self.became) is Phase.ABORTED


class Abort:
    def __init__(
        self, requests: Requests, journal: JournalView, reporter: Reporter, shutdown: Shutdown, retries: Retries,
        options: Options, limits: Limits,
    ) -> None:  # fmt: skip
        self._requests = requests
        self._journal = journal
        self._reporter = reporter
        self._shutdown = shutdown
        self._retries = retries
        self._options = options
        self._limits = limits

    async def run(self, yes: bool) -> list[Running]:
        """Those that run, in the journal's order; aborted where `yes` says so. What cannot be told is in the report."""
        found: dict[str, Running] = {}
        order: list[str] = []
        with self._shutdown.reported():
            if self._count():
                await self._shutdown.in_time(self._all(yes, found, order))
        return [found[flow_id] for flow_id in order if flow_id in found]

    def _count(self) -> bool:
        """Count the flows that are meant; False, with what is wrong said, where one that was named is not there: a slip ends
        no flow."""
        counts = self._reporter.report.flows
        for facts in self._journal.flows():
            if self._options.only(facts.name):
                counts.total += 1
                counts.started += facts.is_started
        missed = self._options.missed()
        for problem in missed:
            self._reporter.problem(problem)
        return not missed

    def _candidates(self) -> Iterator[tuple[FlowFacts, str]]:
        """Flows that may run: started, or with a start whose outcome is not known, and no end that was seen."""
        for facts, end in self._journal.flows_and_ends():
            may_run = facts.maybe_paid and self._options.only(facts.name)
            if may_run and facts.flow_id is not None and (end is None or step(end.state) is Step.WAIT):
                yield facts, facts.flow_id

    async def _all(self, yes: bool, found: dict[str, Running], order: list[str]) -> None:
        candidates = self._candidates()

        async def work() -> None:
            try:
                for facts, flow_id in candidates:  # one walk, shared by all
                    if self._shutdown.stop is not None:
                        return
                    order.append(flow_id)
                    running = await self._one(facts, flow_id, yes)
                    if running is not None:
                        found[flow_id] = running
            except Stop:
                return  # it is in the report; the others end, too

        async with asyncio.TaskGroup() as group:
            for _ in range(self._limits.concurrency):
                group.create_task(work())

    async def _one(self, facts: FlowFacts, flow_id: str, yes: bool) -> Running | None:
        shown = await self._look(facts, flow_id)
        if shown is None:
            return None
        match phase(shown.state):
            case Phase.RUNNING:
                became = await self._abort(facts, flow_id, shown.state) if yes else None
                return Running(flow_id, facts.name, shown.state, became)
            case Phase.ABORTED if step(shown.state) is Step.WAIT:  # on its way, by somebody's earlier word
                return Running(flow_id, facts.name, shown.state, shown.state if yes else None)
            case Phase.UNSTARTED:
                said = "the journal says that it was started" if facts.is_started else "its start is not settled"
                message = f"{said}, and the service shows the flow {flow_id} as `created`: it may yet run"
                self._problem(facts, "unsettled", message, "batcher run settles it; then abort again")
            case Phase.UNKNOWN:
                message = f"the service shows no state of the flow {flow_id}: whether it runs cannot be told"
                self._problem(facts, "unsettled", message, "look at it on the service")
        return None

    async def _abort(self, facts: FlowFacts, flow_id: str, state: str) -> str:
        """The state that the flow is in then. What came of an abort only the state says; one that was lost is sent again, for
        a flow is aborted once."""
        attempt = 1
        while True:
            verdict = await self._requests.ask(Call.ABORT, lambda client: client.abort(flow_id))
            assert isinstance(verdict, Verdict)  # an abort's reply has no value
            if verdict.kind in (Kind.THROTTLED, Kind.UNAVAILABLE):
                self._problem_from_verdict(facts, verdict, f"the flow {flow_id} was not aborted")
                return state
            shown = await self._settled(facts, flow_id, taken=verdict.kind is Kind.DONE)
            if shown is None:
                return state
            state = shown.state
            if phase(state) is not Phase.RUNNING:
                if phase(state) is Phase.ABORTED:
                    self._reporter.emit("flow_aborted", facts.name, flow_id=flow_id, state=state)
                return state
            if verdict.kind is not Kind.UNKNOWN or attempt > self._retries.most:
                what = "took the abort" if verdict.kind is Kind.DONE else f"did not abort it ({verdict.message})"
                message = f"the service {what}, and shows the flow {flow_id} as {state}"
                self._problem(facts, "unsettled", message, "run abort again, or look at it on the service", verdict.status)
                return state
            await self._retries.pause(attempt)
            attempt += 1

    async def _settled(self, facts: FlowFacts, flow_id: str, *, taken: bool) -> RemoteFlow | None:
        """The flow as it is shown after its abort. `taken`: the service said yes, and may take a moment to show it."""
        pauses = self._shutdown.pauses(self._limits.settle_s, ABORT_POLL_S)
        while True:
            shown = await self._look(facts, flow_id)
            if shown is None or phase(shown.state) is not Phase.RUNNING or not taken or pauses.over:
                return shown
            await pauses.wait()

    async def _look(self, facts: FlowFacts, flow_id: str) -> RemoteFlow | None:
        """The flow as the service shows it; None, with a problem said, where it does not."""
        pauses = self._shutdown.pauses(steps_s=AGAIN_S)
        while True:
            found = await self._requests.flow(flow_id)
            if isinstance(found, Verdict) or phase(found.state) is not Phase.UNKNOWN or pauses.spent:
                break
            await pauses.wait()
        if not isinstance(found, Verdict):
            return found
        if found.kind is Kind.GONE:
            message = f"the service does not know the flow {flow_id}, which was started"
            self._problem(facts, "unsettled", message, "another account's key? was it deleted there?", 404)
        else:
            self._problem_from_verdict(facts, found, "its state cannot be asked for")
        return None

    def _problem_from_verdict(self, facts: FlowFacts, verdict: Verdict, what: str) -> None:
        away = verdict.kind in (Kind.THROTTLED, Kind.UNAVAILABLE)
        hint = "abort again later" if away else "look at it on the service, then abort again"
        self._problem(facts, "unavailable" if away else "unsettled", f"{what}: {verdict.message}", hint, verdict.status)

    def _problem(
        self, facts: FlowFacts, kind: ProblemKind, message: str, hint: str, status: int | None = None
    ) -> None:
        self._reporter.problem(Problem(kind, message, hint, flow=facts.name, status=status))
