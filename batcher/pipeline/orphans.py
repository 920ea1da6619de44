"""Giving up: a flow that was never started leaves the service, and costs nothing.

In: a flow's row, or the id of what is to go. Out: records, a deletion, and what shows when it cannot be deleted any more.
Called by the producer (the plan says so), the finalizer (the list does), the opener (before the flow is built anew) and
`run` (what is left of earlier runs). Durable before the deletion, so that what a kill leaves is deleted by the next run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ..core.facts import AddOrphan, ClearOrphan, FlowFacts, ForgetInputs, PutFlow, Record, ReleaseFlow, Watch
from ..core.lifecycle import FlowEvent, FlowState
from ..core.model import Problem
from ..core.remote import RemoteFlow
from ..core.retry import Call, Kind, Verdict
from .context import Context

LOOK_S: Final = 600.0  # so long after a delete that was answered with 404 runs look whether the flow is still listed


def abandon(facts: FlowFacts, *, filled: bool = True) -> tuple[list[Record], FlowFacts]:
    """The records that give an open flow up, and its row afterwards: planned, as if nothing had been sent. One that was
    given by its id is released: never deleted, and where it was `filled` never taken again."""
    assert facts.flow_id is not None
    after = facts.on(FlowEvent.ABANDON, flow_id=None, external=False, settle_deadline=None, start_after=None)
    records: list[Record] = []
    if not facts.external:
        records.append(AddOrphan(facts.flow_id, facts.name))
    elif filled:
        records.append(ReleaseFlow(facts.flow_id))
    return [*records, ForgetInputs(facts.name), PutFlow(after)], after


async def delete(context: Context, flow_id: str, name: str) -> FlowFacts | None:
    """Delete a flow that was given up and never started. What fails is tried again by the next run.

    Asked about first: a service deletes what is completed, too, and a start that was lost may have come late. Then the
    flow is paid for, and this is its row from now on, unless the journal has another flow for it meanwhile."""
    found = await context.ask(Call.FLOW, lambda: context.client.flow(flow_id))
    if isinstance(found, RemoteFlow) and found.state in ("created", ""):
        verdict = await context.ask(Call.DELETE, lambda: context.client.delete(flow_id))
        assert isinstance(verdict, Verdict)  # a deletion's reply has no value
        if verdict.kind is Kind.REFUSED and verdict.status in (402, 403):
            context.undeletable[flow_id] = verdict  # not now, and not in a moment
        if verdict.kind not in (Kind.CONFLICT, Kind.REFUSED):
            _gone(context, flow_id, name, verdict)
            return None
        found = await context.ask(Call.FLOW, lambda: context.client.flow(flow_id))
    if isinstance(found, Verdict):
        _gone(context, flow_id, name, found)
        return None
    if found.state in ("created", ""):
        return None
    return await _started_after_all(context, found, name)


def _gone(context: Context, flow_id: str, name: str, verdict: Verdict) -> None:
    """Note that it is, where it is. A 404 is mostly an earlier attempt that was done; the list is looked at all the same,
    for it could be mistaken."""
    if verdict.kind in (Kind.DONE, Kind.GONE):
        context.emit("flow_deleted", name, flow_id=flow_id)
        context.journal.post(ClearOrphan(flow_id))
        if verdict.status == 404:
            context.journal.post(Watch(max(context.journal.watch_until, context.journal.now() + LOOK_S)))


async def _started_after_all(context: Context, found: RemoteFlow, name: str) -> FlowFacts | None:
    message = f"the flow {found.flow_id} was to be deleted, but the service says that it is {found.state}"
    records: list[Record] = [ClearOrphan(found.flow_id)]
    facts = context.journal.flow(name)
    taken = facts is not None and facts.state is FlowState.PLANNED
    if facts is not None and taken:
        # With no sums: what it was started with is no longer known, so the next run says that it changed.
        facts = replace(facts, spec_digest=b"", stat_digest=b"", content=b"")
        facts = facts.on(FlowEvent.START_SEEN, flow_id=found.flow_id, started_at=context.clock.wall())
        records.append(PutFlow(facts))
    await context.journal.record(*records)
    hint = "its files changed, but an earlier start came late; --resubmit-changed pays for it again" if taken else (
        "look at it on the service")  # fmt: skip
    context.problem(None, Problem("unsettled", message, hint, flow=name))
    return facts if taken else None
