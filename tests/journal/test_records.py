"""Records become rows in as few statements as can be, in their order."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from batcher.core.facts import FlowFacts, ForgetInputs, InputFacts, PutFlow, PutInput, Record
from batcher.core.lifecycle import FlowState, InputState
from batcher.core.tags import flow_key
from batcher.journal.records import ROWS, write_records
from batcher.journal.schema import migrate


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    made = sqlite3.connect(":memory:", isolation_level=None)
    migrate(made, 0)
    yield made
    made.close()


def put(number: int, flow: str = "f", state: InputState = InputState.ACCEPTED) -> PutInput:
    return PutInput(flow, InputFacts(number.to_bytes(16, "big"), state))


@pytest.mark.parametrize("count", [1, ROWS - 1, ROWS, ROWS + 1, 3 * ROWS + 2])
def test_all_inputs_are_written_however_many_there_are(connection: sqlite3.Connection, count: int) -> None:
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    settled = write_records(connection, "b", [PutFlow(FlowFacts("f", FlowState.OPEN)), *map(put, range(count))])
    connection.set_trace_callback(None)
    assert len([one for one in statements if "INTO inputs" in one]) == count // ROWS + count % ROWS
    assert connection.execute("SELECT count(*) FROM inputs").fetchone() == (count,)
    assert len(settled) == count + 1


def test_records_are_written_in_their_order(connection: sqlite3.Connection) -> None:
    flows = [PutFlow(FlowFacts("f", FlowState.OPEN)), PutFlow(FlowFacts("g", FlowState.OPEN))]
    records: list[Record] = [*flows, put(1), put(2, "g"), put(3), ForgetInputs("f"), put(4), put(2, "g", InputState.REFUSED)]
    write_records(connection, "b", records)
    rows = connection.execute("SELECT flow, key, state FROM inputs ORDER BY key").fetchall()
    assert [(flow, key[-1], state) for flow, key, state in rows] == [(2, 2, "refused"), (1, 4, "accepted")]


def test_what_is_no_longer_announced_is_settled(connection: sqlite3.Connection) -> None:
    records = [PutFlow(FlowFacts("f", FlowState.CREATING)), PutFlow(FlowFacts("g", FlowState.STARTED)),
               put(1, "g", InputState.SENDING), put(2, "g", InputState.UNKNOWN)]  # fmt: skip
    assert write_records(connection, "b", records) == [flow_key("b", "g"), (2).to_bytes(16, "big")]


def test_input_of_no_flow_is_refused(connection: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        write_records(connection, "b", [put(1, "nobody")])
