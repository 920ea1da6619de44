"""How folded records change the database.

In: `Folded`. Out: one statement for each kind, with an array for each column. No I/O. Called by the writer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

from ...core.facts import RUNS_KEPT, FlowFacts, InputFacts, OutputFacts, PutRun
from ...core.measuring import FlowTimes
from ..rows import end_row, flow_row, input_row, output_row
from .folding import Folded
from .statements import Statement
from .texts import stored, stored_all


def statements_of(folded: Folded) -> list[Statement]:
    """Rows that several hosts may write stand in the order of their keys: two that met in another order would wait for each
    other."""
    gone = [stored(flow_id) for flow_id, flow in sorted(folded.orphans.items()) if flow is None]
    orphans = [stored_all(row) for row in sorted(folded.orphans.items()) if row[1] is not None]
    return [
        *_put("put_times", _times_rows(folded.early_times)),
        *_put("put_flows", [_flow_row(facts) for facts in folded.flows.values()]),
        *_put("delete_inputs", [(stored(name),) for name in sorted(folded.forgotten)]),
        *_put("put_inputs", _input_rows(folded.inputs)),
        *_put("put_times", _times_rows(folded.times)),
        *_put("put_orphans", orphans),
        *_put("delete_orphans", [(flow_id,) for flow_id in gone]),
        *_put("put_released", [(stored(flow_id),) for flow_id in sorted(folded.released)]),
        *([("put_watch", (folded.watch_until,))] if folded.watch_until is not None else []),
        *([("put_meta", ("unknown_flows_checked", "1"))] if folded.unknown_flows_checked else []),
        *_put("put_runs", [_run_row(folded.runs[began]) for began in sorted(folded.runs)]),
        *([("forget_runs", (RUNS_KEPT,))] if folded.runs else []),
        *_put("put_ends", [stored_all(end_row(folded.ends[flow_id])) for flow_id in sorted(folded.ends)]),
        *_put("put_attempts", [stored_all(astuple(folded.attempts[key])) for key in sorted(folded.attempts)]),
        *_put("put_outputs", _output_rows(folded.outputs)),
        *_put("see_outputs", _output_rows(folded.seen)),
    ]


def _put(name: str, rows: Sequence[tuple[Any, ...]]) -> list[Statement]:
    """All rows at once, as arrays of their columns."""
    return [(name, [list(column) for column in zip(*rows, strict=True)])] if rows else []


def _flow_row(facts: FlowFacts) -> tuple[Any, ...]:
    name, state, flow_id, generation, external, *rest, _sum = stored_all(flow_row(facts))
    return (name, state, flow_id, generation, bool(external), *rest)


def _input_rows(inputs: Mapping[str, Mapping[bytes, InputFacts]]) -> list[tuple[Any, ...]]:
    return [(stored(flow), *input_row(None, facts)[1:]) for flow, rows in inputs.items() for facts in rows.values()]


def _times_rows(times: Mapping[str, FlowTimes]) -> list[tuple[Any, ...]]:
    return [(stored(flow), *astuple(times[flow])) for flow in sorted(times)]


def _run_row(run: PutRun) -> tuple[Any, ...]:
    return run.began, run.requests, json.dumps(run.document, separators=(",", ":"))


def _output_rows(outputs: Mapping[tuple[str, str], OutputFacts]) -> list[tuple[Any, ...]]:
    return [stored_all(output_row(outputs[key])) for key in sorted(outputs)]
