"""Adopting: flows of the batch on the service are taken over into a journal that does not know them.

In: what the service lists, the manifest. Out: rows of what matches by tag and content; what does not, and was never started, is
an orphan. Made once for each run; called by `unknown_flows` where `--adopt` asks for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum

from ..core.errors import Reason, Stop
from ..core.facts import AddOrphan, FlowFacts, InputFacts, PutFlow, PutInput
from ..core.lifecycle import FlowEvent, FlowState, InputEvent
from ..core.model import Problem
from ..core.planning import FlowPlan
from ..core.remote import RemoteFlow, RemoteInput
from ..core.retry import Call, Verdict
from ..core.tags import read_input_tag
from ..journal.ports import Journal
from .planner import Planner
from .ports import Clock, Sources
from .requests import Requests
from .survey import Survey, Surveyor


class _Unlike(Enum):
    """Why a flow's inputs are not taken for the manifest's."""

    DIFFERS = "differs"
    NOT_KNOWN = "not known"


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
            assert flow.tag is not None
            by_name.setdefault(flow.tag.flow, []).append(flow)
        everything = self._planner.of_all()
        plans = await asyncio.to_thread(lambda: [plan for plan in everything.flows() if isinstance(plan, FlowPlan)])
        for plan in plans:
            flows = by_name.pop(plan.flow.name, [])
            flows.sort(key=lambda flow: flow.unstarted)  # a started one first: it is paid for
            taken = plan.facts is not None and plan.facts.state is not FlowState.PLANNED  # the journal knows another
            for flow in flows:
                if plan.facts is not None and plan.facts.flow_id == flow.flow_id:
                    continue  # taken over before
                if not taken and await self._adopt_one(plan, flow):
                    taken = True
                elif flow.unstarted:
                    await self._journal.record(AddOrphan(flow.flow_id, plan.flow.name))
        return await asyncio.to_thread(self._surveyor.survey_anew)

    async def _adopt_one(self, plan: FlowPlan, remote: RemoteFlow) -> bool:
        """Whether it was taken over: an open flow whose inputs are the manifest's; a started one always, for it is
        paid for. Where its inputs differ the plan will say that it changed; where they cannot be compared (they carry no tag,
        or a source is at fault) its row has no digests, and it will not (`core.planning.is_comparable`)."""
        rows = await self._rows(plan, remote)
        started = not remote.unstarted
        if not started and not isinstance(rows, list):
            return False
        facts = FlowFacts(plan.flow.name, generation=plan.facts.generation if plan.facts is not None else 0)
        if isinstance(rows, list):
            facts = replace(facts, spec_digest=plan.spec_digest, stat_digest=plan.stat_digest, inputs=plan.tally.total,
                            size_bytes=plan.tally.total_bytes)  # fmt: skip
        elif rows is _Unlike.DIFFERS:
            facts = replace(facts, spec_digest=plan.spec_digest)  # and no rows: all of its inputs count as new
        event = FlowEvent.START_SEEN if started else FlowEvent.CREATED
        at = self._clock.wall() if started else None
        start_after = None if started else self._journal.now() + self._settle_s
        facts = facts.on(event, flow_id=remote.flow_id, started_at=at, start_after=start_after)
        await self._journal.record(PutFlow(facts), *(rows if isinstance(rows, list) else ()))
        return True

    async def _rows(self, plan: FlowPlan, remote: RemoteFlow) -> list[PutInput] | _Unlike:
        """The rows of the flow's inputs where they are the manifest's. Raises Stop where the service does not tell."""
        listed = await self._requests.ask_list(
            Call.INPUTS, _Shown, lambda client, shown: client.inputs(remote.flow_id, shown.take)
        )
        if isinstance(listed, Verdict):
            raise Stop(Reason.UNAVAILABLE, f"a flow's inputs cannot be listed: {listed.message}", "run --adopt again",
                       listed.status)  # fmt: skip
        shown, listing = listed
        if shown.unknown or not listing.whole:
            return _Unlike.NOT_KNOWN
        rows: list[PutInput] = []
        for item in await asyncio.to_thread(lambda: list(self._planner.inputs(plan.flow, None))):
            sha256 = item if isinstance(item, Problem) else await asyncio.to_thread(self._sources.digest, item.input)
            if isinstance(sha256, Problem) or isinstance(item, Problem):
                return _Unlike.NOT_KNOWN
            if shown.digests.pop(item.key, None) != sha256:  # not listed: perhaps sent, and never sent there again
                return _Unlike.DIFFERS
            row = InputFacts(item.key, sha256=sha256, spec_digest=item.spec_digest, stat=item.stat)
            rows.append(PutInput(plan.flow.name, row.on(InputEvent.ANNOUNCE).on(InputEvent.ACCEPT)))
        return _Unlike.DIFFERS if shown.digests else rows
