"""Many records as one statement for each kind.

In: records, in order. Out: what they come to, one row for each key, so that each kind is one statement whatever their number;
and the names of the flows that only their owner may change. No I/O. Called by the writer for each transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import assert_never

from ...core.facts import (
    AddOrphan,
    AttemptFacts,
    ClearOrphan,
    EndFacts,
    FlowFacts,
    ForgetInputs,
    InputFacts,
    OutputFacts,
    OutputState,
    PutAttempt,
    PutEnd,
    PutFlow,
    PutInput,
    PutOutput,
    PutRun,
    PutTimes,
    Record,
    ReleaseFlow,
    SeeOutput,
    UnknownFlowsChecked,
    Watch,
)
from ...core.measuring import FlowTimes


@dataclass(slots=True)
class Folded:
    """Rows by their keys. It is written in this order: `early_times` (of flows that may have no row yet, which are left out
    then), `flows`, `forgotten` (flows whose rows of inputs go), `inputs`, and the rest. `owned`: flows that it changes as only
    their owner may. An orphan without a flow is cleared; of an output that was seen only its state is sure."""

    owned: set[str] = field(default_factory=set)
    early_times: dict[str, FlowTimes] = field(default_factory=dict)
    flows: dict[str, FlowFacts] = field(default_factory=dict)
    forgotten: set[str] = field(default_factory=set)
    inputs: dict[str, dict[bytes, InputFacts]] = field(default_factory=dict)
    times: dict[str, FlowTimes] = field(default_factory=dict)
    orphans: dict[str, str | None] = field(default_factory=dict)
    released: set[str] = field(default_factory=set)
    watch_until: float | None = None
    unknown_flows_checked: bool = False
    runs: dict[float, PutRun] = field(default_factory=dict)
    ends: dict[str, EndFacts] = field(default_factory=dict)
    attempts: dict[tuple[str, str], AttemptFacts] = field(default_factory=dict)
    outputs: dict[tuple[str, str], OutputFacts] = field(default_factory=dict)
    seen: dict[tuple[str, str], OutputFacts] = field(default_factory=dict)


def fold(records: Iterable[Record]) -> Folded:
    found = Folded()
    for record in records:
        match record:
            case PutInput(flow, facts):
                found.owned.add(flow)
                found.inputs.setdefault(flow, {})[facts.key] = facts
            case PutFlow(flow_facts):
                found.owned.add(flow_facts.name)
                found.flows[flow_facts.name] = flow_facts
            case ForgetInputs(flow):
                found.owned.add(flow)
                found.forgotten.add(flow)
                found.inputs.pop(flow, None)
            case AddOrphan(flow_id, flow):
                found.owned.add(flow)
                found.orphans[flow_id] = flow
            case SeeOutput(output):
                _see(found, output)
            case PutOutput(output):
                found.seen.pop((output.flow_id, output.asset_id), None)
                found.outputs[output.flow_id, output.asset_id] = output
            case _:
                _fold_other(found, record)
    return found


def _fold_other(
    found: Folded, record: ReleaseFlow | ClearOrphan | Watch | UnknownFlowsChecked | PutTimes | PutRun | PutEnd | PutAttempt
) -> None:
    match record:
        case ClearOrphan(flow_id):
            found.orphans[flow_id] = None
        case ReleaseFlow(flow_id):
            found.released.add(flow_id)
        case UnknownFlowsChecked():
            found.unknown_flows_checked = True
        case Watch(until):
            found.watch_until = until if found.watch_until is None else max(found.watch_until, until)
        case PutTimes(flow, times):
            known = found.times if flow in found.flows else found.early_times
            known[flow] = times.after(known.get(flow))
        case PutRun(began):
            found.runs[began] = record
        case PutEnd(end):
            found.ends[end.flow_id] = end
        case PutAttempt(attempt):
            found.attempts[attempt.flow, attempt.flow_id] = attempt
        case _:
            assert_never(record)


def _see(found: Folded, output: OutputFacts) -> None:
    """One that was collected stays so, whether that is known here or only by its row."""
    key = output.flow_id, output.asset_id
    rows = found.outputs if key in found.outputs else found.seen
    known = rows.setdefault(key, output)
    if known.state is not OutputState.COLLECTED:
        rows[key] = replace(known, state=output.state)
