"""What a run tells: counts and problems in its report, events to whoever listens, measures, the times of a flow.

In: what happened, from every stage. Out: `Report`, `Events`, `Measures`. Made once for each operation. It decides nothing, and
keeps nothing but what is told.
"""

from __future__ import annotations

from typing import Final

from ..core.errors import PLANNED, Stop
from ..core.events import Events, Level
from ..core.measuring import Measures, run_document
from ..core.model import JSON, NOTES, Problem
from ..core.planning import Action
from ..core.report import Report, problem_json
from ..core.retry import Call, Kind, Verdict
from .flow_run import FlowRun
from .ports import Clock

WAITED_FOR: Final = (Kind.UNAVAILABLE, Kind.UNKNOWN, Kind.THROTTLED)


class Reporter:
    def __init__(self, report: Report, events: Events, clock: Clock) -> None:
        self.report = report
        self._events = events
        self._clock = clock
        self._measures = Measures(clock.steady())

    @property
    def enabled(self) -> bool:
        """Whether anybody listens to events: looked at before something costly is put together for one."""
        return self._events.enabled

    def emit(self, event: str, flow: str | None = None, level: Level = "info", **fields: JSON) -> None:
        """Something happened: see `core.events`. Where it happens often, look at `enabled` first."""
        if self._events.enabled:
            self._events.emit(event, level, fields if flow is None else {"flow": flow, **fields})

    # ---- what is wrong

    def problem(self, problem: Problem) -> None:
        """Note it, of no flow that is under way."""
        self.report.add(problem)
        if self._events.enabled:
            self._events.emit("problem", "warning" if problem.kind in NOTES else "error", problem_json(problem))

    def flow_failed(self, flow: FlowRun, problem: Problem) -> None:
        """Note it; the flow is not started in this run."""
        self.report.flows.failed += flow.problem is None
        flow.fail(problem)
        self.problem(problem)

    def stopping(self, stop: Stop) -> None:
        """The run ends early, with this."""
        self.report.stop = stop
        level: Level = "warning" if stop.reason in PLANNED else "error"
        self.emit("stopping", level=level, reason=stop.reason.value, status=stop.status, message=stop.message,
                  hint=stop.hint)  # fmt: skip

    # ---- requests

    def request_leaves(self, entered: float, attempt: int) -> None:
        """A request was let go at `entered` (steady seconds). `attempt` begins at 1."""
        self._measures.leaves(entered)
        self.report.requests.sent += 1
        self.report.requests.retried += attempt > 1

    def request_ends(self, call: Call, verdict: Verdict | None, entered: float, now: float) -> None:
        """It has come to an end; `verdict` is None where it was cut short by ourselves."""
        if verdict is not None:
            if verdict.kind not in WAITED_FOR:
                self.report.trouble = None
            elif self.report.trouble is None:
                self.report.trouble = now, verdict.message
        self._measures.ends(now, call, now - entered, verdict.kind if verdict is not None else None)

    def request_retried(self, call: Call, verdict: Verdict, attempt: int) -> None:
        self.report.requests.throttled += verdict.kind is Kind.THROTTLED
        self.emit("request_retried", level="warning", call=call.value, attempt=attempt, kind=verdict.kind.value,
                  status=verdict.status, message=verdict.message, pause_s=verdict.pause_s)  # fmt: skip

    # ---- the stations of a flow

    def flow_begun(self, flow: FlowRun) -> None:
        flow.times.begun = self._clock.wall()

    def flow_opened(self, flow: FlowRun) -> None:
        flow.times.opened = self._clock.wall()
        self.report.flows.rebuilt += flow.plan.action is Action.REBUILD or flow.history.rebuilds > 0

    def flow_verified(self, flow: FlowRun) -> None:
        flow.times.verified = self._clock.wall()
        self.emit("flow_verified", flow.name, flow_id=flow.facts.flow_id, inputs=flow.plan.tally.total)

    def flow_started(self, flow: FlowRun) -> None:
        self.emit("flow_started", flow.name, flow_id=flow.facts.flow_id, inputs=flow.uploaded, bytes=flow.uploaded_bytes)
        self.report.flows.started += 1
        self.report.flows.started_now += 1

    def flow_given_up(self, flow: FlowRun, why: str, level: Level = "warning") -> None:
        self.emit("flow_given_up", flow.name, level, flow_id=flow.facts.flow_id, message=why)

    def accepted(self, flow: FlowRun, size_bytes: int) -> None:
        """One more input of the flow is on the service."""
        self._count(flow, 1, size_bytes)
        self.report.inputs.uploaded_now += 1
        self.report.inputs.bytes_now += size_bytes
        self._measures.accepted(self._clock.steady(), size_bytes)
        flow.times.uploaded(self._clock.wall())

    def taken_back(self, flow: FlowRun) -> None:
        """It was abandoned: its inputs count no longer."""
        self._count(flow, -flow.uploaded, -flow.uploaded_bytes)

    def _count(self, flow: FlowRun, inputs: int, size_bytes: int) -> None:
        flow.count(inputs, size_bytes)
        self.report.inputs.uploaded += inputs
        self.report.inputs.bytes += size_bytes

    # ---- the run

    def run_document(self, now: float, *, ended: bool) -> dict[str, JSON]:
        """What the journal keeps of this run. `now` in steady seconds."""
        return run_document(self.report, self._measures, now, ended)
