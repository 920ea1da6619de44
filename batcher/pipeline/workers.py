"""The second stage: payloads are posted, as many at a time as the limiter lets through.

In: `Payload`s. Out: the outcome of each in the journal, and each flow whose last payload has come back to the finalizer.
Made once for each run, which starts more of them than requests may be in flight: one that waits to try again blocks nobody.
"""

from __future__ import annotations

from dataclasses import replace

from ..core.errors import Stop
from ..core.events import Level
from ..core.facts import InputFacts, PutInput
from ..core.lifecycle import InputEvent
from ..core.model import JSON, Problem
from ..core.retry import Call, Fault, Kind, Reply, Verdict
from ..journal.ports import Journal
from .flow_run import Payload
from .payloads import Payloads
from .ports import BudgetPort, Client, Sources
from .problems import problem_from_verdict
from .reporter import Reporter
from .requests import Requests


class Workers:
    """`settle_s`: so long an upload without a reply may yet be done."""

    def __init__(
        self, inbox: Payloads, requests: Requests, journal: Journal, sources: Sources,
        budget: BudgetPort, reporter: Reporter, settle_s: float,
    ) -> None:  # fmt: skip
        self._inbox = inbox
        self._requests = requests
        self._journal = journal
        self._sources = sources
        self._budget = budget
        self._reporter = reporter
        self._settle_s = settle_s

    async def work(self) -> None:
        """One worker, until it is handed None."""
        while (payload := await self._inbox.next()) is not None:
            flow = payload.flow
            await self._deliver(payload)
            self._budget.give(payload.held_bytes)
            payload.body = None
            flow.came_back()
            flow.pass_on()

    async def _deliver(self, payload: Payload) -> None:
        flow = payload.flow
        result: Problem | Verdict | None = None
        if not flow.failed and flow.facts.flow_id is not None and flow.trouble is None:
            try:
                result = await self._upload(payload, flow.facts.flow_id)
            except Stop:
                result = None  # it waited for leave to go: not sent
        row = self._outcome(payload, result)
        if self._reporter.enabled:
            self._emit(payload, result)
        # Not awaited: should it be lost, the announcement before it makes the next run ask.
        self._journal.post(PutInput(flow.name, row))

    def _outcome(self, payload: Payload, result: Problem | Verdict | None) -> InputFacts:
        """The input's row now; what its flow, and the report, learn of it."""
        flow, label = payload.flow, payload.plan.input.label
        row = payload.row  # with the digest, once it has been streamed
        match result:
            case None:
                return row.on(InputEvent.NOT_SENT)
            case Problem():
                self._reporter.flow_failed(flow, replace(result, flow=flow.name))
                return row.on(InputEvent.NOT_SENT)
            case Verdict(kind=Kind.DONE):
                self._reporter.accepted(flow, row.stat.size)
                flow.accepted(row)
                return row.on(InputEvent.ACCEPT)
            case Verdict(kind=Kind.UNKNOWN):
                if result.answered:
                    flow.note_unknown(label, result)
                until = self._journal.now() + self._settle_s
                return row.on(InputEvent.LOSE, settle_deadline=until, answered=result.answered)
            case Verdict(kind=Kind.REFUSED):
                self._reporter.report.inputs.failed += 1
                problem = problem_from_verdict(result, flow, f"{label} was refused", label)
                self._reporter.flow_failed(flow, replace(problem, place=payload.plan.input.place))
                return row.on(InputEvent.REFUSE)
            case Verdict(kind=Kind.GONE | Kind.CONFLICT):
                flow.in_trouble(result)
                return row.on(InputEvent.NOT_SENT)
            case Verdict():
                self._reporter.flow_failed(flow, problem_from_verdict(result, flow, "an input could not be sent", label))
                return row.on(InputEvent.NOT_SENT)

    def _emit(self, payload: Payload, result: Problem | Verdict | None) -> None:
        event = "input_not_sent"
        level: Level = "warning"
        match result:
            case Verdict(kind=Kind.DONE):
                event, level = "input_accepted", "info"
            case Verdict(kind=Kind.UNKNOWN):
                event = "input_unknown"
            case Verdict(kind=Kind.REFUSED):
                event, level = "input_refused", "error"
        fields: dict[str, JSON] = {"input": payload.plan.input.label, "bytes": payload.row.stat.size}
        if result is not None and event != "input_accepted":
            fields |= {"status": result.status, "message": result.message}
        self._reporter.emit(event, payload.flow.name, level, **fields)

    async def _upload(self, payload: Payload, flow_id: str) -> Verdict | Problem:
        async def attempt(client: Client) -> Problem | Verdict | Reply | Fault:
            body = payload.body if payload.body is not None else self._sources.body(payload.plan)
            if isinstance(body, Problem):
                return body
            what = await client.upload(flow_id, body, lambda: self._journal.mark_sent(payload.row.key))
            if body.fault is not None:
                return body.fault
            if body.sha256 is not None and body.sha256 != payload.row.sha256:  # only now, of what is streamed
                payload.row = replace(payload.row, sha256=body.sha256)
            if isinstance(what, Reply) and 200 <= what.status < 300 and what.readable and not what.not_done:
                return Verdict(Kind.DONE, status=what.status)
            return what

        return await self._requests.ask(Call.UPLOAD, attempt, timed=payload.body is not None)
