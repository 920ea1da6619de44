"""Adopting: flows of the batch on the service are taken over into a journal that does not know them.

In: what the service lists, the manifest. Out: rows of what matches by tag and content; what does not, and was never started, is
an orphan. A journal that is an older copy learns what was made with it since. Made once for each run; called by
`unknown_flows` where `--adopt` asks for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from ..core.abandoning import abandon
from ..core.adopting import Match, preference
from ..core.collecting import Ids
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
from ..core.planning import FlowPlan, InputPlan
from ..core.remote import RemoteFlow, RemoteInput
from ..core.retry import Call, Verdict
from ..core.tags import FlowTag, can_carry_tag, read_input_tag
from ..journal.ports import Journal
from .planner import Planner
from .ports import Clock, Sources
from .reporter import Reporter
from .requests import Requests
from .survey import Survey, Surveyor

NAMED: Final = 3  # flows in a message


class _Shown:
    """A flow's inputs by their tags: key → digest, and how many have none of their own; `ids`: of all."""

    def __init__(self) -> None:
        self.digests: dict[bytes, bytes] = {}
        self.unknown = 0
        self.ids = Ids()

    def take(self, asset: RemoteInput) -> None:
        self.ids.add(asset.asset_id or repr(asset))
        tag = read_input_tag(asset.additional)
        if tag is None or tag[0] in self.digests:
            self.unknown += 1
        else:
            self.digests[tag[0]] = tag[1]


@dataclass(frozen=True, slots=True)
class _Compared:
    """A flow, held against the manifest. `inputs`: how many the service lists; `rows`: of them, unless they differ.
    `is_comparable`: no source is at fault."""

    remote: RemoteFlow
    inputs: int = 0
    is_comparable: bool = True
    match: Match = Match.DIFFERS
    rows: Sequence[PutInput] = ()

    @property
    def preference(self) -> tuple[int, bool, int]:
        return preference(self.match, self.remote.state, _tag(self.remote).number)


def _tag(flow: RemoteFlow) -> FlowTag:
    """Of a flow of the batch: each of them has one."""
    assert flow.tag is not None
    return flow.tag


class Adoption:
    """`settle_s`: so long what the journal that was lost had sent a second time may yet be done."""

    def __init__(
        self, planner: Planner, surveyor: Surveyor, requests: Requests, journal: Journal, sources: Sources, reporter: Reporter,
        clock: Clock, settle_s: float,
    ) -> None:  # fmt: skip
        self._planner = planner
        self._surveyor = surveyor
        self._requests = requests
        self._journal = journal
        self._sources = sources
        self._reporter = reporter
        self._clock = clock
        self._settle_s = settle_s

    async def adopt(self, remote: Sequence[RemoteFlow]) -> Survey:
        """Take over what matches by tag and content: started flows as started, open ones as open, the rest are orphans. What
        was started is paid for, and taken over whatever has become of its inputs. Returns what is left to do."""
        by_name: dict[str, list[RemoteFlow]] = {}
        for flow in remote:
            if flow.gone:  # whether it was started cannot be told any more
                continue
            by_name.setdefault(_tag(flow).flow, []).append(flow)
        everything = self._planner.of_all()
        plans = await asyncio.to_thread(lambda: [plan for plan in everything.flows() if isinstance(plan, FlowPlan)])
        for plan in plans:
            if flows := by_name.pop(plan.flow.name, []):
                await self._take_over(plan.flow.name, plan, flows)
        left: list[str] = []
        for name, flows in by_name.items():  # no longer in the manifest
            if any(not flow.unstarted for flow in flows):
                left.append(name)
            known = [flow for flow in flows if not flow.unstarted or self._own(flow)]  # of its own the journal has to know all
            if known:
                await self._take_over(name, None, known)
        if left:
            names = ", ".join(f"“{name}”" for name in islice(left, NAMED)) + (" and more" if len(left) > NAMED else "")
            message = f"{len(left):,} flow(s) that are paid for and no longer in the manifest are taken over: {names}"
            self._reporter.problem(Problem("note", message, "collect brings them"))
        return await asyncio.to_thread(self._surveyor.survey_anew)

    async def _take_over(self, name: str, plan: FlowPlan | None, flows: Sequence[RemoteFlow]) -> None:
        """All flows of one name in one step. `plan` is None where the manifest no longer has it."""
        known = await self._journal.look(lambda journal: journal.flow(name))
        row = known or FlowFacts(name)
        flows = [flow for flow in flows if flow.flow_id != row.flow_id]  # that one was taken over before
        started = [flow for flow in flows if not flow.unstarted]
        records: list[Record] = []
        own = [flow for flow in flows if self._own(flow)]
        if own:  # later creates than the row knows of: what it has may have been given up, or paid for again
            if row.state is FlowState.CREATING or not all(flow.unstarted for flow in own):
                records, row = self._let_go(row)
            row = replace(row, generation=max(row.generation, *(_tag(flow).number for flow in own)))
            records.append(PutFlow(row))
        taken = row.state is not FlowState.PLANNED  # the journal knows another
        attempts = started if row.is_started else []
        if started and not taken:
            best = min([await self._compared(plan, flow) for flow in started], key=lambda one: one.preference)
            attempts = [flow for flow in started if flow is not best.remote]
            generation = max(row.generation, *(_tag(flow).number for flow in started))
            records += self._records(replace(row, generation=generation), plan, best)
            taken = True
        records += [PutAttempt(AttemptFacts(name, flow.flow_id, _tag(flow).number)) for flow in attempts]
        for flow in flows:
            if not flow.unstarted:
                continue
            one = _Compared(flow) if taken else await self._compared(plan, flow)
            if one.match is Match.SAME:
                records += self._records(row, plan, one)
                taken = True
            else:
                records.append(AddOrphan(flow.flow_id, name))
        if records:
            await self._journal.record(*records)

    def _own(self, flow: RemoteFlow) -> bool:
        """Whether it was made with this journal, of which this is an older copy."""
        return _tag(flow).owner == self._journal.owner

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

    def _records(self, row: FlowFacts, plan: FlowPlan | None, one: _Compared) -> list[Record]:
        """By which it is taken over. Where its inputs differ the plan will say that it changed; where they cannot be compared
        its row has no digests, and it will not (`core.planning.is_comparable`)."""
        started = not one.remote.unstarted
        # With the number of what it was started with: fewer outputs than that are not all of them.
        facts = FlowFacts(row.name, generation=row.generation, inputs=one.inputs)
        if plan is not None and one.match is not Match.DIFFERS:
            facts = replace(facts, spec_digest=plan.spec_digest, stat_digest=plan.stat_digest, inputs=plan.tally.total,
                            size_bytes=plan.tally.total_bytes)  # fmt: skip
        elif plan is not None and one.is_comparable:
            facts = replace(facts, spec_digest=plan.spec_digest)  # and no rows: all of its inputs count as new
        if plan is not None and one.match is Match.UNTOLD:
            what = f"whether the inputs of the flow {one.remote.flow_id} are the manifest's"
            hint = "look at it on the service; --redo NAME pays for it again"
            problem = Problem("note", f"{what} cannot be told: it counts as done", hint, plan.flow.place, row.name)
            self._reporter.problem(problem)
        event = FlowEvent.START_SEEN if started else FlowEvent.CREATED
        at = self._clock.wall() if started else None
        start_after = None if started else self._journal.now() + self._settle_s
        facts = facts.on(event, flow_id=one.remote.flow_id, started_at=at, start_after=start_after)
        return [PutFlow(facts), *one.rows]

    async def _compared(self, plan: FlowPlan | None, remote: RemoteFlow) -> _Compared:
        """The flow's inputs, held against the manifest's. Raises Stop where the service does not tell."""
        listed = await self._requests.ask_list(
            Call.INPUTS, _Shown, lambda client, shown: client.inputs(remote.flow_id, shown.take)
        )
        if isinstance(listed, Verdict):
            raise Stop(Reason.UNAVAILABLE, f"a flow's inputs cannot be listed: {listed.message}", "run --adopt again",
                       listed.status)  # fmt: skip
        shown, listing = listed
        differs = _Compared(remote, len(shown.ids.distinct()))
        if plan is None:
            return differs
        untagged = 0  # of the manifest's
        unseen = not listing.whole
        rows: list[PutInput] = []
        for item in await asyncio.to_thread(lambda: list(self._planner.inputs(plan.flow, None))):
            sha256 = item if isinstance(item, Problem) else await asyncio.to_thread(self._sources.digest, item.input)
            if isinstance(sha256, Problem) or isinstance(item, Problem):
                return replace(differs, is_comparable=False)
            tagged = can_carry_tag(item.input.additional)
            untagged += not tagged
            there = shown.digests.pop(item.key, None) if tagged else sha256
            if there != sha256 and not (there is None and unseen):
                return differs  # one that is not listed may have been sent, and is never sent there again
            rows.append(self._row(plan, item, sha256, tagged=tagged))
        if shown.digests or (shown.unknown != untagged and not unseen) or shown.unknown > untagged:
            return differs
        return replace(differs, match=Match.UNTOLD if untagged or unseen else Match.SAME, rows=rows)

    @staticmethod
    def _row(plan: FlowPlan, item: InputPlan, sha256: bytes, *, tagged: bool) -> PutInput:
        row = InputFacts(item.key, sha256=sha256, spec_digest=item.spec_digest, stat=item.stat, tagged=tagged)
        return PutInput(plan.flow.name, row.on(InputEvent.ANNOUNCE).on(InputEvent.ACCEPT))
