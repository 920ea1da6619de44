"""Opening a flow: it gets an id, once.

In: a `FlowRun` whose inputs are being produced. Out: the flow is opened, or has failed with a problem. Made once for each run;
started by the producer for each flow it begins, so that creates overlap with reading and with each other.
"""

from __future__ import annotations

from functools import partial

from ..core.errors import Stop
from ..core.lifecycle import FlowEvent, FlowState
from ..core.retry import Kind, Verdict
from ..journal.ports import Journal
from .creator import Creator
from .flow_run import FlowRun
from .list_proof import LIST_ADVICE, ListProof, advice_on
from .orphans import Orphans
from .problems import problem_from_read, problem_of, started_elsewhere
from .reporter import Reporter
from .requests import Requests


class Opener:
    def __init__(
        self, creator: Creator, proof: ListProof, orphans: Orphans, requests: Requests, journal: Journal, reporter: Reporter
    ) -> None:
        self._creator = creator
        self._proof = proof
        self._orphans = orphans
        self._requests = requests
        self._journal = journal
        self._reporter = reporter

    async def open(self, flow: FlowRun) -> None:
        """Bring the flow to OPEN (or find it further); its opening has ended in any case."""
        known = flow.facts.flow_id
        try:
            await self._open(flow)
            if flow.facts.flow_id != known:
                self._reporter.flow_opened(flow)
        except Stop:
            flow.fail()
        finally:
            flow.opening_ended()
        flow.pass_on()

    async def _open(self, flow: FlowRun) -> None:
        if flow.facts.state is FlowState.PLANNED and not await self._orphans.delete_of(flow):
            return
        if flow.facts.state is FlowState.PLANNED and flow.plan.flow.flow_id is not None:
            await self._take(flow, flow.plan.flow.flow_id)
            return
        create = partial(self._create_or_find, flow)
        await self._proof.give(flow, create)  # which creates it, where it is to be the proof
        await create()

    async def _create_or_find(self, flow: FlowRun) -> None:
        again = False  # it is created once more, because the list does not show it
        while flow.facts.state in (FlowState.PLANNED, FlowState.CREATING) and not flow.failed:
            if flow.facts.state is FlowState.PLANNED:
                await self._creator.create(flow)
                if again and flow.facts.flow_id is not None:
                    await self._see(flow, flow.facts.flow_id)
            else:
                await self._creator.find(flow)
                again = True

    async def _see(self, flow: FlowRun, flow_id: str) -> None:
        """The list must show this one: else that it did not show the one before proves nothing, and this may be its twin. Then
        it is taken back, and whether the flow was created stays open."""
        why = await self._proof.doubt(flow_id)
        if not why:
            return
        if isinstance(why, Verdict):
            why = f"the flows cannot be listed: {why.message}"
        await self._journal.record(*flow.abandon())
        await self._orphans.delete(flow_id, flow.name)
        await self._journal.record(flow.on(FlowEvent.ANNOUNCE_CREATE, settle_deadline=self._journal.now()))
        message = f"whether it was created cannot be told: {why}"
        self._reporter.flow_failed(flow, problem_of(flow, message, advice_on(why, LIST_ADVICE)))

    async def _take(self, flow: FlowRun, flow_id: str) -> None:
        """A flow that the manifest names by its id: it must be there, unstarted, and none of ours was sent into it before."""
        other, released = await self._journal.look(lambda journal: (journal.name_of(flow_id), journal.was_released(flow_id)))
        if other is not None or released:
            known = f" as {other}" if other is not None else ""
            message = f"inputs were sent into the flow {flow_id} before{known}, and may yet arrive there"
            self._reporter.flow_failed(flow, problem_of(flow, message, "make a new flow on the service and name its id"))
            return
        found = await self._requests.flow(flow_id)
        if isinstance(found, Verdict) and found.kind is Kind.GONE:
            message = f"the service does not know the flow {flow_id}"
            self._reporter.flow_failed(flow, problem_of(flow, message, "check flow_id, and whose key it is", 404))
        elif isinstance(found, Verdict):
            self._reporter.flow_failed(flow, problem_from_read(found, flow, "the flow cannot be looked at"))
        elif not found.unstarted:
            self._reporter.flow_failed(flow, started_elsewhere(flow, found))
        else:
            self._reporter.emit("flow_found", flow.name, flow_id=flow_id)
            await self._journal.record(flow.on(FlowEvent.CREATED, flow_id=flow_id, external=True))
