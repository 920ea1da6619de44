"""Facts become rows and facts again; a row that is not what was written is none."""

from __future__ import annotations

import sqlite3

import pytest

from batcher.core.errors import JournalError
from batcher.core.facts import EndFacts, FileStat, FlowFacts, InputFacts, OutputFacts, OutputState, Remote
from batcher.core.lifecycle import FlowState, InputState
from batcher.journal.rows import (
    INPUT_VALUES,
    advice,
    end_facts,
    end_row,
    flow_facts,
    flow_row,
    input_facts,
    input_row,
    output_facts,
    output_row,
)

FLOW = FlowFacts("a flow", FlowState.OPEN, "id-1", 2, True, b"m", b"q", b"c", 1.5, 2, 3, 9, None, '{"kind": "refused"}')
INPUT = InputFacts(b"k" * 16, InputState.UNKNOWN, b"s" * 32, b"m", FileStat(3, 4, 5), False, 12.5, True, True)


def stored(row: tuple[object, ...]) -> tuple[object, ...]:
    """As SQLite gives it back."""
    connection = sqlite3.connect(":memory:")
    found = connection.execute(f"SELECT {','.join('?' * len(row))}", row).fetchone()
    connection.close()
    return tuple(found)


def test_facts_come_back_as_they_were() -> None:
    assert flow_facts(stored(flow_row(FLOW))) == FLOW
    row = stored(input_row(7, INPUT))
    assert (len(row), row[0]) == (INPUT_VALUES, 7)
    assert input_facts(row[1:]) == INPUT
    end = EndFacts("id-1", "a flow", "failed", True, Remote.DELETING, 3, True, "out of memory")
    assert end_facts(stored(end_row(end))) == end
    file_stat = FileStat(3, 4, 5)
    output = OutputFacts("id-1", "a1", b"k" * 16, OutputState.COLLECTED, "x.png", "f/X", "f/X.glb", b"s" * 32, file_stat)
    assert output_facts(stored(output_row(output))[:-1]) == output
    assert output_row(OutputFacts("id-1", "a1"))[-1] is None, "what is nowhere is found at no path"


@pytest.mark.parametrize("column", range(len(flow_row(FLOW)) - 1))
def test_every_value_of_a_flow_is_in_its_sum(column: int) -> None:
    row = list(flow_row(FLOW))
    row[column] = "started" if column == 1 else b"other"
    with pytest.raises(JournalError, match="damaged: the row of a flow"):
        flow_facts(tuple(row))


def test_flow_without_a_sum_was_written_before_there_were_any() -> None:
    assert flow_facts((*flow_row(FLOW)[:-1], None)) == FLOW


@pytest.mark.parametrize("column", range(len(input_row(7, INPUT)) - 1))
def test_input_with_a_value_of_another_type_is_damaged(column: int) -> None:
    row = list(input_row(7, INPUT)[1:])
    row[column] = [1]
    with pytest.raises(JournalError, match="damaged: the row of an input"):
        input_facts(tuple(row))


def test_advice_tells_the_disk_from_the_file() -> None:
    assert "free some space" in advice(OSError())
    assert "free some space" in advice(sqlite3.OperationalError())
    assert "--adopt" in advice(sqlite3.DatabaseError())
