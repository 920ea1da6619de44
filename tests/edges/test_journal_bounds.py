"""What only happens to a journal at its edges: more requests under way than it can tell of, an unknown boot, a broken disk."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from batcher.core.errors import JournalError
from batcher.core.facts import AddLitter, FlowFacts, ForgetInputs, InputFacts, PutFlow, PutInput, StrangersChecked
from batcher.core.lifecycle import FlowState, InputState
from batcher.edges import journal as journal_module
from batcher.edges.journal import SLOTS, JournalReader, MemoryJournal, SqliteJournal

pytestmark = pytest.mark.anyio


def key(number: int) -> bytes:
    return (number + 1).to_bytes(16, "big")


@pytest.mark.parametrize("more", [0, 1])
async def test_more_departures_than_slots_make_everything_unknown(tmp_path: Path, more: int) -> None:
    path = tmp_path / "m.sqlite"
    journal = SqliteJournal(path, "b", 15)
    await journal.record(
        PutFlow(FlowFacts("f", FlowState.OPEN, "i")), PutInput("f", InputFacts(b"n" * 16, InputState.SENDING)),
        *(PutInput("f", InputFacts(key(n), InputState.SENDING)) for n in range(3)),
    )  # fmt: skip
    for number in range(SLOTS + more):
        journal.departs(key(number))
        journal.departs(key(number))  # again: no second slot
    journal.close()
    journal = SqliteJournal(path, "b", 15)
    rows = journal.inputs("f", [key(0), b"n" * 16])
    assert rows[key(0)].state is InputState.UNKNOWN
    assert rows[b"n" * 16].state is (InputState.UNKNOWN if more else InputState.PENDING)
    journal.close()


async def test_where_the_boot_has_no_name_everything_that_was_announced_may_have_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "_boot", lambda: None)
    path = tmp_path / "m.sqlite"
    journal = SqliteJournal(path, "b", 15)
    await journal.record(
        PutFlow(FlowFacts("f", FlowState.OPEN, "i")), PutInput("f", InputFacts(key(1), InputState.SENDING)),
        PutFlow(FlowFacts("c", FlowState.CREATING, build=1)),
    )  # fmt: skip
    journal.close()
    journal = SqliteJournal(path, "b", 15)
    assert next(journal.input_rows("f")).state is InputState.UNKNOWN
    creating = journal.flow("c")
    assert creating is not None
    assert creating.until is not None
    assert journal.watch_until > creating.until
    journal.close()


async def test_record_that_cannot_be_written_is_told_to_all_who_wait_and_nothing_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.sqlite"
    journal = SqliteJournal(path, "b", 15)
    await journal.record(PutFlow(FlowFacts("f", FlowState.OPEN, "i")))
    journal._writer.execute("PRAGMA query_only=1")  # a disk that has become read-only
    with pytest.raises(JournalError, match="cannot be written"):
        await journal.record(PutFlow(FlowFacts("f", FlowState.STARTED, "i")))
    journal._writer.execute("PRAGMA query_only=0")
    with pytest.raises(JournalError, match="cannot be written"):
        await journal.record(PutFlow(FlowFacts("g")))
    journal.close()
    journal = SqliteJournal(path, "b", 15)
    assert [(facts.name, facts.state) for facts in journal.flows()] == [("f", FlowState.OPEN)]
    journal.close()


async def test_record_that_is_none_ends_the_run_and_leaves_nobody_waiting(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "m.sqlite", "b", 15)
    for bad in (FlowFacts("f", FlowState.OPEN, "\ud800"), FlowFacts("g", inputs=1 << 70)):
        with pytest.raises(JournalError, match="cannot be written"):
            await journal.record(PutFlow(bad))
    journal.close()


async def test_journal_that_breaks_while_it_is_read_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no journal"):
        JournalReader(tmp_path / "none.sqlite")
    path = tmp_path / "m.sqlite"
    journal = SqliteJournal(path, "b", 15)
    await journal.record(PutFlow(FlowFacts("f")))
    journal.close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE meta SET value='soon' WHERE name='time'")
    connection.execute("INSERT OR REPLACE INTO meta VALUES('watch_until', 'soon')")
    connection.commit()
    reader = JournalReader(path)
    with pytest.raises(JournalError, match="a time in it is none"):
        _ = reader.watch_until
    connection.execute("DROP TABLE inputs")
    connection.commit()
    connection.close()
    with pytest.raises(JournalError, match="cannot be read"):
        list(reader.input_rows("f"))
    reader.close()
    with pytest.raises(JournalError, match="cannot be opened"):
        SqliteJournal(path, "b", 15)


async def test_memory_forgets_and_counts_as_sqlite_does() -> None:
    journal = MemoryJournal()
    before = journal.now()
    await journal.record(
        PutFlow(FlowFacts("f", FlowState.OPEN, "i")), PutInput("f", InputFacts(key(1), InputState.SENDING)),
        AddLitter("x", "f"), StrangersChecked(),
    )  # fmt: skip
    journal.departs(key(1))
    assert (journal.count_inputs("f"), journal.count_accepted("f"), journal.strangers_checked) == (1, 0, True)
    await journal.record(ForgetInputs("f"))
    assert journal.count_inputs("f") == 0
    assert journal.now() >= before
    journal.close()
