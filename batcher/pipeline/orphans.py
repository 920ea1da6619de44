"""Orphans: flows on the service that were abandoned before their start, and have to leave it.

In: the id of what is to go. Out: a deletion, and what shows when it cannot be deleted any more. Made once for each operation;
called by `repair` (the service's list says so), the opener (before the flow is created anew), the proof of the list, and
`cleanup` (what is left of earlier runs). The journal knows each as an orphan before it is deleted (`core.abandoning`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from ..core.facts import AddOrphan, ClearOrphan, FlowFacts, PutFlow, Record, Watch
from ..core.lifecycle import FlowEvent, FlowState
from ..core.model import Problem
from ..core.remote import RemoteFlow
from ..core.retry import Call, Fault, Kind, Reply, Verdict
from ..journal.ports import Journal
from .flow_run import FlowRun
from .ports import Client, Clock
from .problems import problem_from_read
from .reporter import Reporter
from .requests import Requests, gone
from .retries import Retries

FRESH_S: Final = 0.05  # a flow that was seen unstarted longer ago is looked at again before it is deleted
STARTED_LATE: Final = "started late; what it was started with is not known; --redo NAME pays for it again"
LOOK_S: Final = 600.0  # so long after a delete that was answered with 404 runs look whether the flow is still listed


class Orphans:
    def __init__(self, requests: Requests, journal: Journal, reporter: Reporter, retries: Retries, clock: Clock) -> None:
        self._requests = requests
        self._journal = journal
        self._reporter = reporter
        self._retries = retries
        self._clock = clock
        self._undeletable: dict[str, Verdict] = {}  # flow ids; the service refuses to delete these
        self._told_gone: set[str] = set()  # flow ids; it said once that these are gone

    @property
    def deleted_some(self) -> bool:
        """Whether the service said of any that it is gone."""
        return bool(self._told_gone)

    def undeletable(self, flow_id: str) -> Verdict | None:
        """What the service said where it refuses to delete this one for good."""
        return self._undeletable.get(flow_id)

    async def delete(self, flow_id: str, name: str, *, listed: bool = False) -> FlowFacts | None:
        """Delete a flow that was abandoned and never started. None: it is gone, or it stays an orphan, and is tried again.

        Asked about first, and again before each further attempt: a service deletes what is completed, too, and a start that was
        lost may have come late. Then the flow is paid for, and this is its row from now on, unless the journal has another flow
        for it meanwhile. Nothing is waited for between the last look and the deletion. `listed`: the service's list has just
        shown it, though it may have been deleted before: it is gone only once it is not shown any more."""
        # Once more: by now another run may be at it, and then this one may not delete it any more.
        await self._journal.record(AddOrphan(flow_id, name))
        found = await self._requests.flow(flow_id)
        if isinstance(found, RemoteFlow) and found.unstarted:
            verdict = await self._send(flow_id, self._clock.steady())
            if isinstance(verdict, RemoteFlow) and verdict.gone:
                verdict = gone(verdict)
            if isinstance(verdict, RemoteFlow):
                return await self._started_after_all(verdict, name)
            if verdict.kind is Kind.REFUSED and verdict.status in (402, 403):
                self._undeletable[flow_id] = verdict
            doubted = verdict.kind is Kind.DONE and (listed or verdict.status == 404)
            if verdict.kind not in (Kind.CONFLICT, Kind.REFUSED) and not doubted:
                self._gone(flow_id, name, verdict)
                return None
            # Also where the service says that it does not know what it has just shown: a start of it could yet come.
            found = await self._requests.flow(flow_id)
            if isinstance(found, RemoteFlow) and doubted:
                self._still_there(flow_id, verdict)
        if isinstance(found, Verdict):
            self._gone(flow_id, name, found)
            return None
        if found.unstarted:
            return None
        return await self._started_after_all(found, name)

    async def _send(self, flow_id: str, seen: float) -> Verdict | RemoteFlow:
        """What came of the deletion; the flow, where it turned out to be started before an attempt. `seen`: when it was seen
        unstarted, in steady seconds; the deletion may have waited for its place since."""

        async def attempt(client: Client) -> RemoteFlow | Reply | Fault:
            nonlocal seen
            if self._clock.steady() - seen > FRESH_S:
                found = await client.flow(flow_id)
                if not isinstance(found, RemoteFlow) or not found.unstarted:
                    return found
            seen = -math.inf  # before another attempt in any case
            return await client.delete(flow_id)

        return await self._requests.ask(Call.DELETE, attempt)

    async def delete_of(self, flow: FlowRun) -> bool:
        """Whether all that was abandoned of this flow is gone, in this run or an earlier one. Before that there must not be
        another one: a start of it that was lost could still arrive, and both would be paid for."""
        while await self._of(flow):
            await self._journal.record()  # what was deleted just now is no orphan any more
            for flow_id in await self._of(flow):
                started = await self.delete(flow_id, flow.name)
                if started is not None:
                    flow.found_started(started)
                    return False
            await self._journal.record()
            what = "what was given up of the flow could not be deleted"
            left = await self._of(flow)
            denied = next((verdict for one in left if (verdict := self.undeletable(one)) is not None), None)
            if denied is not None:
                self._reporter.flow_failed(flow, problem_from_read(denied, flow, what))
                return False
            if left and not await self._retries.try_again(flow, what):
                return False
        return True

    async def _of(self, flow: FlowRun) -> list[str]:
        return [flow_id for flow_id, _ in await self._journal.look(lambda journal: journal.orphans(flow.name))]

    def _still_there(self, flow_id: str, verdict: Verdict) -> None:
        """A flow is shown that the service said is gone. Once, it may only be late to forget it."""
        if flow_id in self._told_gone:
            message = f"it is still there, and the deletion was answered with {verdict.message}"
            self._undeletable[flow_id] = replace(verdict, kind=Kind.REFUSED, message=message)
        self._told_gone.add(flow_id)

    def _gone(self, flow_id: str, name: str, verdict: Verdict) -> None:
        """Record that it is gone, where the verdict says so. A 404 is mostly an earlier attempt that was done; the list is
        looked at all the same, for it could be mistaken."""
        if verdict.kind in (Kind.DONE, Kind.GONE):
            self._reporter.emit("flow_deleted", name, flow_id=flow_id)
            self._told_gone.add(flow_id)
            self._journal.post(ClearOrphan(flow_id))
            if verdict.status == 404:
                self._journal.post(Watch(self._journal.now() + LOOK_S))

    async def _started_after_all(self, found: RemoteFlow, name: str) -> FlowFacts | None:
        message = f"the flow {found.flow_id} was to be deleted, but the service says that it is {found.state}"
        records: list[Record] = [ClearOrphan(found.flow_id)]
        facts = await self._journal.look(lambda journal: journal.flow(name))
        taken = facts is not None and facts.state is FlowState.PLANNED
        if facts is not None and taken:
            # With no digests: the row's own may be those of what was to follow it (see `core.planning.is_comparable`).
            facts = replace(facts, spec_digest=b"", stat_digest=b"", content=b"")
            facts = facts.on(FlowEvent.START_SEEN, flow_id=found.flow_id, started_at=self._clock.wall(), problem=None)
            records.append(PutFlow(facts))
        await self._journal.record(*records)
        hint = STARTED_LATE if taken else "look at it on the service"
        self._reporter.problem(Problem("unsettled", message, hint, flow=name))
        return facts if taken else None
