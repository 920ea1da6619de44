"""Starting a flow: the commit point. Until then everything can be given up for nothing, after it nothing can be undone.

In: a `FlowRun` whose list of inputs is right, or whose start was announced by an earlier run. Out: it is started, or has failed
with a problem; or it is to be planned again (True), or built anew (`Rebuild`). Made once for each run; called by the finalizer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

from ..core.lifecycle import FlowEvent
from ..core.model import Problem
from ..core.reconcile import Rebuild
from ..core.remote import RemoteFlow, StartReply
from ..core.retry import Call, Kind, Verdict
from ..core.tags import flow_key
from ..journal.ports import Journal
from .flow_run import FlowRun
from .ports import Clock
from .problems import keep_problem, problem_from_verdict, problem_of, unsettled
from .reporter import Reporter
from .requests import Requests
from .retries import Retries
from .shutdown import Shutdown

NextStep: TypeAlias = "bool | Rebuild"  # True: to be planned again


class Starter:
    """`batch`: the batch's name. `settle_s`: so long a start without a reply may yet be done."""

    def __init__(
        self, requests: Requests, journal: Journal, reporter: Reporter, retries: Retries, shutdown: Shutdown, clock: Clock,
        batch: str, settle_s: float,
    ) -> None:  # fmt: skip
        self._requests = requests
        self._journal = journal
        self._reporter = reporter
        self._retries = retries
        self._shutdown = shutdown
        self._clock = clock
        self._batch = batch
        self._settle_s = settle_s

    async def start(self, flow: FlowRun) -> NextStep:
        flow_id = flow.facts.flow_id
        assert flow_id is not None
        flow.announcing_start()
        # Durable before the request: a crash in between must read as unknown.
        await self._journal.record(flow.on(FlowEvent.ANNOUNCE_START, settle_deadline=None, problem=None))
        verdict = await self._send(flow, flow_id)
        if verdict is None:
            self._started(flow)
            return False
        if verdict.kind in (Kind.UNKNOWN, Kind.CONFLICT, Kind.REFUSED, Kind.GONE):
            if verdict.kind is Kind.UNKNOWN:
                flow.note_unknown(None, verdict)
                self._reporter.emit("flow_start_unknown", flow.name, "warning", flow_id=flow_id, status=verdict.status,
                                    message=verdict.message)  # fmt: skip
            # With a time in any case: without one the next run could take it for a start that never left.
            settle_s = self._settle_s if verdict.kind is Kind.UNKNOWN else 0.0
            await self._journal.record(flow.change(settle_deadline=self._journal.now() + settle_s))
            return await self.settle(flow, verdict)
        flow.on(FlowEvent.NOT_STARTED)
        await self._fail(flow, problem_from_verdict(verdict, flow, "the flow was not started"))
        return False

    async def _send(self, flow: FlowRun, flow_id: str) -> Verdict | None:
        """None: the reply itself says that it was started."""
        key = flow_key(self._batch, flow.name)
        answer = await self._requests.ask(
            Call.START, lambda client: client.start(flow_id, lambda: self._journal.mark_sent(key))
        )
        if not isinstance(answer, StartReply):
            return answer
        if answer.started:
            return None
        said = answer.error or "the reply does not say that it was started"
        failed = bool(answer.error)
        return Verdict(Kind.UNKNOWN, f"the start was answered, but {said}", answered=failed, failed=failed)

    async def settle(self, flow: FlowRun, said: Verdict | None = None) -> NextStep:
        """A start without a reply, or one that was refused (perhaps because an earlier one arrived): the state tells.

        A start that nobody answered, or with a 2xx that cannot be read, and that shows in no state after the settling time, is
        never sent again: should the service take both, both are paid for. The flow is given up, deleted unless it turns out to
        be started, and built anew. Where the service answered with an error (500, 502, or in words) it will not do it later,
        and the start is sent again. `said`: what this run's start was answered with."""
        flow_id = flow.facts.flow_id
        assert flow_id is not None
        pauses = self._shutdown.pauses()
        while True:
            late = self._journal.now() >= (flow.facts.settle_deadline or 0.0)
            found = await self._requests.flow(flow_id)
            if isinstance(found, Verdict):
                if found.kind is Kind.GONE:
                    found = replace(found, message=f"the service does not know it ({found.message})")
                await self._fail(flow, unsettled(flow, f"whether it was started cannot be told: {found.message}"))
                return False
            if not found.unstarted:
                self._started(flow)
                return False
            if said is not None and said.kind is not Kind.UNKNOWN:
                flow.on(FlowEvent.NOT_STARTED, settle_deadline=None)
                await self._fail(flow, problem_from_verdict(replace(said, kind=Kind.REFUSED), flow, "the flow was not started"))
                return False
            if late:
                return await self._not_seen(flow, found, said)
            left_s = (flow.facts.settle_deadline or 0.0) - self._journal.now()
            await pauses.wait(left_s)

    async def _not_seen(self, flow: FlowRun, found: RemoteFlow, said: Verdict | None) -> NextStep:
        """The settling time is over, and the service does not show that it was started."""
        if said is not None and said.failed:
            await self._journal.record(flow.on(FlowEvent.NOT_STARTED, settle_deadline=None))
            return await self._retries.try_again(flow, "the service did not start the flow")
        if not found.state:  # it may run, or have ended: then a deletion would take what is paid for
            message = "whether it was started cannot be told: the service shows no state of it"
            await self._fail(flow, unsettled(flow, message))
            return False
        why = "the service does not show that it was started"
        if said is not None and said.message:
            why = f"{why} ({said.message})"
        if not flow.facts.external:
            return Rebuild(why)
        # It stays as it is: each run asks again, and sends nothing.
        hint = f"start the flow {flow.facts.flow_id} on the service yourself; the next run sees that"
        await self._fail(flow, problem_of(flow, f"{why}, and may yet", hint))
        return False

    def _started(self, flow: FlowRun) -> None:
        flow.times.started = self._clock.wall()
        # Not awaited: should it be lost, the announcement before it makes the next run ask.
        self._journal.post(
            flow.on(FlowEvent.START_SEEN, settle_deadline=None, start_after=None, problem=None, started_at=flow.times.started)
        )
        self._reporter.flow_started(flow)

    async def _fail(self, flow: FlowRun, problem: Problem) -> None:
        self._reporter.flow_failed(flow, problem)
        await keep_problem(self._journal, flow)
