"""Looking at a journal: of any age, in any condition, without a write."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from batcher.core.errors import JournalError
from batcher.core.facts import FlowFacts, PutFlow
from batcher.journal.reader import JournalReader
from batcher.journal.sqlite import SqliteJournal

pytestmark = pytest.mark.anyio


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


async def test_newer_or_broken_journal_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    SqliteJournal(path, "b", 15).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(JournalError, match="newer batcher"):
        SqliteJournal(path, "b", 15)
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(JournalError):
        JournalReader(path)
    with pytest.raises(JournalError):
        SqliteJournal(path, "b", 15)
