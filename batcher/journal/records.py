"""How each record changes the database.

In: records, in order, and a connection within a transaction. Out: rows, and which requests are settled by them: once they are
committed the sent marks of those can go. Called by the writer in `sqlite.py`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import astuple
from typing import Final, TypeAlias, assert_never

from ..core.facts import (
    RUNS_KEPT,
    AddOrphan,
    ClearOrphan,
    ForgetInputs,
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
from ..core.lifecycle import FlowState, InputState
from ..core.measuring import FlowTimes
from ..core.tags import flow_key
from .queries import SQL, of_rows
from .rows import INPUT_VALUES, end_row, flow_row, input_row, output_row

ROWS: Final = 64  # of inputs per statement: 768 values, SQLite takes 999 in its older builds
_PUT_INPUTS: Final = of_rows("put_inputs", ROWS)
_Other: TypeAlias = (
    PutFlow | ForgetInputs | AddOrphan | ReleaseFlow | ClearOrphan | Watch | UnknownFlowsChecked | PutTimes | PutRun | PutEnd
    | PutAttempt | SeeOutput | PutOutput
)


def write_records(connection: sqlite3.Connection, batch: str, records: Sequence[Record]) -> list[bytes]:
    """The keys of the inputs and flows of `batch` that are no longer announced. Raises sqlite3.Error."""
    settled: list[bytes] = []
    values: list[object] = []  # of rows of inputs, one after the other, not written yet
    last = {record.facts.name: record for record in records if isinstance(record, PutFlow)}  # the others would not stay
    flow, flow_id = "", None
    for record in records:
        if not isinstance(record, PutInput):
            if isinstance(record, PutFlow):
                if record.facts.state is not FlowState.CREATING:
                    settled.append(flow_key(batch, record.facts.name))
                if record.facts.name not in last:
                    continue
                record = last.pop(record.facts.name)
            _put_inputs(connection, values)
            values.clear()
            _write(connection, record)
            continue
        if record.flow != flow:
            flow, flow_id = record.flow, _flow_row_id(connection, record.flow)
        facts = record.facts
        values += input_row(flow_id, facts)
        if facts.state is not InputState.SENDING:
            settled.append(facts.key)
    _put_inputs(connection, values)
    return settled


def _flow_row_id(connection: sqlite3.Connection, name: str) -> int | None:
    """The id of the flow's row; None, which no input's row takes, where there is none."""
    row = connection.execute(SQL["flow_row_id"], (name,)).fetchone()
    return None if row is None else int(row[0])


def _put_inputs(connection: sqlite3.Connection, values: Sequence[object]) -> None:
    """Many rows in one statement: a statement costs as much as several rows."""
    step = ROWS * INPUT_VALUES
    whole = len(values) // step * step
    for start in range(0, whole, step):
        connection.execute(_PUT_INPUTS, values[start : start + step])
    for start in range(whole, len(values), INPUT_VALUES):
        connection.execute(SQL["put_inputs"], values[start : start + INPUT_VALUES])


def _write(connection: sqlite3.Connection, record: _Other) -> None:
    write = connection.execute
    match record:
        case PutFlow(facts):
            write(SQL["put_flow"], flow_row(facts))
        case ForgetInputs(name):
            write(SQL["delete_inputs"], (name,))
        case AddOrphan(flow_id, name):
            write(SQL["put_orphan"], (flow_id, name))
        case ClearOrphan(flow_id):
            write(SQL["delete_orphan"], (flow_id,))
        case ReleaseFlow(flow_id):
            write(SQL["put_released"], (flow_id,))
        case UnknownFlowsChecked():
            write(SQL["put_meta"], ("unknown_flows_checked", 1))
        case Watch(until):
            write(SQL["put_watch"], (until,))
        case PutTimes(name, times):
            _put_times(connection, name, times)
        case PutRun(began, requests, document):
            write(SQL["put_run"], (began, requests, json.dumps(document, separators=(",", ":"))))
            write(SQL["forget_runs"], (RUNS_KEPT,))
        case PutEnd(end):
            write(SQL["put_end"], end_row(end))
        case PutAttempt(attempt):
            write(SQL["put_attempt"], astuple(attempt))
        case SeeOutput(output):
            write(SQL["see_output"], output_row(output))
        case PutOutput(output):
            write(SQL["put_output"], output_row(output))
        case _:
            assert_never(record)


def _put_times(connection: sqlite3.Connection, name: str, times: FlowTimes) -> None:
    known = connection.execute(SQL["times_of"], (name,)).fetchone()
    times = times.after(None if known is None else FlowTimes(*known))
    connection.execute(SQL["put_times"], (*astuple(times), name))
