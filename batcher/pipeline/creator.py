"""Creating a flow, once, however often the reply to a create is lost.

In: a `FlowRun` that has no id. Out: it has one, or has failed with a problem, or its create stays to be looked for. Made once
for each run; called by the opener.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ..core.facts import WATCH_S, Watch
from ..core.lifecycle import FlowEvent
from ..core.retry import Call, Fault, Kind, Reply, Verdict
from ..core.tags import FlowTag, flow_key, flow_tag, with_flow_tag
from ..journal.ports import Journal
from .flow_list import FlowList
from .flow_run import FlowRun
from .list_proof import LIST_ADVICE
from .ports import Client
from .problems import problem_from_read, problem_from_verdict, problem_of
from .reporter import Reporter
from .requests import Requests
from .retries import Retries
from .shutdown import Shutdown

ANSWERED_S: Final = 86400.0  # so long twins are looked for after a 503: who has answered does it at once, or never


class Creator:
    """`batch`: the batch's name. `settle_s`: so long a create without a reply may yet be done. `most`: creates that are
    announced at once; the others wait unannounced, so that a run that dies leaves few that have to be asked about."""

    def __init__(
        self, requests: Requests, journal: Journal, flow_list: FlowList, retries: Retries, shutdown: Shutdown,
        reporter: Reporter, batch: str, settle_s: float, most: int,
    ) -> None:  # fmt: skip
        self._requests = requests
        self._journal = journal
        self._flow_list = flow_list
        self._retries = retries
        self._shutdown = shutdown
        self._reporter = reporter
        self._batch = batch
        self._settle_s = settle_s
        self._room = asyncio.Semaphore(most)

    async def create(self, flow: FlowRun) -> None:
        """Send a create. Then the flow is open; or planned, with a problem; or the outcome is to be looked for. Raises Stop."""
        async with self._room:
            self._shutdown.check()
            await self._create(flow)

    async def _create(self, flow: FlowRun) -> None:
        spec = flow.plan.flow
        announced = flow.on(FlowEvent.ANNOUNCE_CREATE, generation=flow.facts.generation + 1, settle_deadline=None)
        # Durable before the POST: a crash in between must read as unknown.
        await self._journal.record(announced)
        additional = with_flow_tag(spec.additional, self._tag(flow))
        key = flow_key(self._batch, flow.name)
        watch: list[Watch] = []

        async def attempt(client: Client) -> str | Reply | Fault:
            answer = await client.create(
                spec.template or "", spec.parameters, additional, lambda: self._journal.mark_sent(key)
            )
            if isinstance(answer, Reply) and answer.status >= 500:  # a 503 is sent again, and may have been done all the same
                watch[:] = [Watch(self._journal.now() + ANSWERED_S)]
            return answer

        result = await self._requests.ask(Call.CREATE, attempt)
        if isinstance(result, str):
            self._reporter.emit("flow_created", flow.name, flow_id=result, template=spec.template)
            self._journal.post(flow.on(FlowEvent.CREATED, flow_id=result, settle_deadline=None), *watch)
        elif result.kind is Kind.UNKNOWN:
            await self._unknown(flow, result)
        else:
            self._journal.post(flow.on(FlowEvent.NOT_CREATED), *watch)
            self._reporter.flow_failed(flow, problem_from_verdict(result, flow, "the flow was not created"))

    async def _unknown(self, flow: FlowRun, verdict: Verdict) -> None:
        """No reply tells what came of it: it is looked for, by `find`."""
        now = self._journal.now()
        flow.note_unknown(None, verdict)
        self._reporter.emit("flow_create_unknown", flow.name, "warning", status=verdict.status, message=verdict.message)
        await self._journal.record(flow.change(settle_deadline=now + self._settle_s), Watch(now + WATCH_S))

    async def find(self, flow: FlowRun) -> None:
        """A create without a reply: look for its tag, wait for the settling time, look again. Then the flow is open; or
        planned, to be created again; or has failed with a problem."""
        wanted = self._tag(flow).name
        while True:
            late = self._journal.now() >= (flow.facts.settle_deadline or 0.0)
            looked = await (self._flow_list.read_surely() if late else self._flow_list.read())
            if isinstance(looked, Verdict):
                message = "whether it was created cannot be told: the flows cannot be listed"
                self._reporter.flow_failed(flow, problem_from_read(looked, flow, message))
                return
            listed, why = looked if isinstance(looked, tuple) else (looked, "")
            found = listed.flows.get(wanted)
            if found is not None and not found.gone:
                self._reporter.emit("flow_found", flow.name, flow_id=found.flow_id)
                self._journal.post(flow.on(FlowEvent.CREATED, flow_id=found.flow_id, settle_deadline=None))
                return
            if late and why:  # it may be on a page that was not seen: to create it again could leave a twin
                message = f"whether it was created cannot be told: {why}"
                self._reporter.flow_failed(flow, problem_of(flow, message, LIST_ADVICE))
                return
            if late:
                flow.on(FlowEvent.NOT_CREATED, settle_deadline=None)
                await self._retries.try_again(flow, "the service did not create the flow")
                return
            await self._shutdown.sleep((flow.facts.settle_deadline or 0.0) - self._journal.now())

    def _tag(self, flow: FlowRun) -> FlowTag:
        """Of its latest create."""
        return flow_tag(self._batch, self._journal.owner, flow.name, flow.facts.generation)
