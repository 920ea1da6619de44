"""Adopting: flows of the batch on the service are taken over into a journal that does not know them.

In: what the service lists, the manifest. Out: rows of what matches by tag and content; what does not, and was never started, is
an orphan. A journal that is an older copy learns what was made with it since. Made once for each run; called by
`unknown_flows` where `--adopt` asks for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from ..core.abandoning import abandon
from ..core.errors import Reason, Stop
from ..core.facts import (
    WATCH_S,
    AddOrphan,
    AttemptFacts,
    FlowFacts,
    ForgetInputs,
    InputFacts,
    PutAttempt,
    PutFlow,
    PutInput,
    Record,
    Watch,
)
from ..core.lifecycle import FlowEvent, FlowState, InputEvent
from ..core.model import Problem
from ..core.planning import FlowPlan
from ..core.remote import RemoteFlow, RemoteInput
from ..core.retry import Call, Verdict
from ..core.tags import FlowTag, read_input_tag
from ..journal.ports import Journal
from .planner import Planner
from .ports import Clock, Sources
from .requests import Requests
from .survey import Survey, Surveyor


class _Shown:
    """A flow's inputs by their tags: key → digest, and how many have none of their own."""

    def __init__(self) -> None:
        self.digests: dict[bytes, bytes] = {}
        self.unknown = 0

    def take(self, asset: RemoteInput) -> None:
        tag = read_input_tag(asset.additional)
        if tag is None or tag[0] in self.digests:
            self.unknown += 1
        else:
            self.digests[tag[0]] = tag[1]


def _tag(flow: RemoteFlow) -> FlowTag:
    """Of a flow of the batch: each of them has one."""
    assert flow.tag is not None
    return flow.tag


class Adoption:
    """`settle_s`: so long what the journal that was lost had sent a second time may yet be done."""

    def __init__(
        self, planner: Planner, surveyor: Surveyor, requests: Requests, journal: Journal, sources: Sources, clock: Clock,
        settle_s: float,
    ) -> None:  # fmt: skip
        self._planner = planner
        self._surveyor = surveyor
        self._requests = requests
        self._journal = journal
        self._sources = sources
        self._clock = clock
        self._settle_s = settle_s

    async def adopt(self, remote: Sequence[RemoteFlow]) -> Survey:
        """Take over what matches by tag and content: started flows as started, open ones as open, the rest are orphans.
        Returns what is left to do."""
        by_name: dict[str, list[RemoteFlow]] = {}
        for flow in remote:
            by_name.setdefault(_tag(flow).flow, []).append(flow)
        everything = self._planner.of_all()
        plans = await asyncio.to_thread(lambda: [plan for plan in everything.flows() if isinstance(plan, FlowPlan)])
        for plan in plans:
            if flows := by_name.pop(plan.flow.name, []):
                await self._take_over(plan.flow.name, plan, flows)
        for name, flows in by_name.items():  # no longer in the manifest: the journal has to know its own all the same
            if own := [flow for flow in flows if self._own(flow)]:
                await self._take_over(name, None, own)
        return await asyncio.to_thread(self._surveyor.survey_anew)

    def _own(self, flow: RemoteFlow) -> bool:
        """Whether it was made with this journal, of which this is an older copy."""
        return _tag(flow).owner == self._journal.owner

    async def _take_over(self, name: str, plan: FlowPlan | None, flows: list[RemoteFlow]) -> None:
        """All flows of one name in one step: a kill leaves the journal as old as it was, and the next run says so."""
        known = await self._journal.look(lambda journal: journal.flow(name))
        row = known or FlowFacts(name)
        records: list[Record] = []
        own = [flow for flow in flows if self._own(flow)]
        if own:  # later creates than the row knows of: what it has may have been given up, or paid for again
            if row.state is FlowState.CREATING or not all(flow.unstarted for flow in own):
                records, row = self._let_go(row)
            row = replace(row, generation=max(row.generation, *(_tag(flow).number for flow in own)))
            records.append(PutFlow(row))
        taken = row.state is not FlowState.PLANNED  # the journal knows another
        # A started one first: it is paid for. Of several the last one, and what it was before are attempts.
        for flow in sorted(flows, key=lambda flow: (flow.unstarted, -_tag(flow).number)):
            if known is not None and known.flow_id == flow.flow_id:
                continue  # taken over before
            if not taken and (found := await self._adopt_one(row, plan, flow)):
                records += found
                taken = True
            elif flow.unstarted:
                records.append(AddOrphan(flow.flow_id, name))
            elif flow in own:
                records.append(PutAttempt(AttemptFacts(name, flow.flow_id, _tag(flow).number)))
        await self._journal.record(*records)

    def _let_go(self, row: FlowFacts) -> tuple[list[Record], FlowFacts]:
        """The records by which the row has no flow on the service, and the row then. What it has may be deleted only where
        nothing shows that it was started."""
        match row.state:
            case FlowState.STARTED:
                records: list[Record] = [ForgetInputs(row.name)]
                if row.flow_id is not None:
                    records.append(PutAttempt(AttemptFacts(row.name, row.flow_id, row.generation, row.started_at)))
                return records, row.on(FlowEvent.REDO, flow_id=None, external=False)
            case FlowState.OPEN | FlowState.STARTING:
                return abandon(row)
            case FlowState.CREATING:
                twins = Watch(self._journal.now() + WATCH_S)
                return [ForgetInputs(row.name), twins], row.on(FlowEvent.NOT_CREATED, settle_deadline=None)
        return [], row

    async def _adopt_one(self, row: FlowFacts, plan: FlowPlan | None, remote: RemoteFlow) -> list[Record]:
        """The records by which it is taken over: an open flow whose inputs are the manifest's; a started one always, for it is
        paid for (where its inputs differ, or cannot carry a tag, the plan will say that it changed). [] where it is not."""
        rows = await self._rows(plan, remote) if plan is not None else None
        started = not remote.unstarted
        if rows is None and not started:
            return []
        facts = FlowFacts(row.name, generation=row.generation)
        if rows is not None and plan is not None:
            facts = replace(facts, spec_digest=plan.spec_digest, stat_digest=plan.stat_digest, inputs=plan.tally.total,
                            size_bytes=plan.tally.total_bytes)  # fmt: skip
        event = FlowEvent.START_SEEN if started else FlowEvent.CREATED
        at = self._clock.wall() if started else None
        start_after = None if started else self._journal.now() + self._settle_s
        facts = facts.on(event, flow_id=remote.flow_id, started_at=at, start_after=start_after)
        return [PutFlow(facts), *(rows or ())]

    async def _rows(self, plan: FlowPlan, remote: RemoteFlow) -> list[PutInput] | None:
        """The rows of the flow's inputs where they are the manifest's; None where they are not. Raises Stop where the
        service does not tell."""
        listed = await self._requests.ask_list(
            Call.INPUTS, _Shown, lambda client, shown: client.inputs(remote.flow_id, shown.take)
        )
        if isinstance(listed, Verdict):
            raise Stop(Reason.UNAVAILABLE, f"a flow's inputs cannot be listed: {listed.message}", "run --adopt again",
                       listed.status)  # fmt: skip
        shown, listing = listed
        if shown.unknown or not listing.whole:
            return None
        rows: list[PutInput] = []
        for item in await asyncio.to_thread(lambda: list(self._planner.inputs(plan.flow, None))):
            if isinstance(item, Problem):
                return None
            sha256 = await asyncio.to_thread(self._sources.digest, item.input)
            if isinstance(sha256, Problem) or shown.digests.pop(item.key, None) != sha256:
                return None  # one that is not listed may have been sent, and is never sent into the same flow again
            row = InputFacts(item.key, sha256=sha256, spec_digest=item.spec_digest, stat=item.stat)
            rows.append(PutInput(plan.flow.name, row.on(InputEvent.ANNOUNCE).on(InputEvent.ACCEPT)))
        return None if shown.digests else rows
