"""Abandoning a flow that was never started: it leaves the service, and costs nothing. No I/O.

In: the row of an open flow. Out: the records to make durable before it is deleted, so that what a kill leaves is deleted by
the next run. Called by the pipeline: the plan, the service's list or `clean` says that a flow is to go.
"""

from __future__ import annotations

from dataclasses import dataclass

from .facts import AddOrphan, FlowFacts, ForgetInputs, PutFlow, Record, ReleaseFlow
from .lifecycle import FlowEvent


@dataclass(frozen=True, slots=True)
class Unstarted:
    """A flow on the service that was never started. `deleted`: whether it is gone now."""

    flow_id: str
    name: str
    deleted: bool = False


def abandon(facts: FlowFacts, *, filled: bool = True) -> tuple[list[Record], FlowFacts]:
    """The records that abandon an open flow, and its row afterwards: planned, as if nothing had been sent. One that was
    given by its id is released: never deleted, and where it was `filled` never taken again."""
    assert facts.flow_id is not None
    after = facts.on(FlowEvent.ABANDON, flow_id=None, external=False, settle_deadline=None, start_after=None)
    records: list[Record] = []
    if not facts.external:
        records.append(AddOrphan(facts.flow_id, facts.name))
    elif filled:
        records.append(ReleaseFlow(facts.flow_id))
    return [*records, ForgetInputs(facts.name), PutFlow(after)], after
