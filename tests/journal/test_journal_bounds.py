"""What only happens to a journal at its edges: more requests under way than it can tell of, an unknown boot, a broken disk."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from batcher.core.errors import JournalError
from batcher.core.facts import AddOrphan, FlowFacts, ForgetInputs, InputFacts, PutFlow, PutInput, UnknownFlowsChecked
from batcher.core.lifecycle import FlowState, InputState
from batcher.journal import sqlite as journal_module
from batcher.journal.sqlite import CHECKPOINT_ROWS, LINGER_S, SLOTS, JournalReader, MemoryJournal, SqliteJournal

pytestmark = pytest.mark.anyio


def key(number: int) -> bytes:
    return (number + 1).to_bytes(16, "big")


@pytest.mark.parametrize("more", [0, 1])
async def test_more_sent_marks_than_slots_make_everything_unknown(tmp_path: Path, more: int) -> None:
    path = tmp_path / "m.sqlite"
    journal = SqliteJournal(path, "b", 15)
    await journal.record(
        PutFlow(FlowFacts("f", FlowState.OPEN, "i")), PutInput("f", InputFacts(b"n" * 16, InputState.SENDING)),
        *(PutInput("f", InputFacts(key(n), InputState.SENDING)) for n in range(3)),
    )  # fmt: skip
    for number in range(SLOTS + more):
        journal.mark_sent(key(number))
        journal.mark_sent(key(number))  # again: no second slot
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
        PutFlow(FlowFacts("c", FlowState.CREATING, generation=1)),
    )  # fmt: skip
    journal.close()
    journal = SqliteJournal(path, "b", 15)
    assert next(journal.input_rows("f")).state is InputState.UNKNOWN
    creating = journal.flow("c")
    assert creating is not None
    assert creating.settle_deadline is not None
    assert journal.watch_until > creating.settle_deadline
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
        AddOrphan("x", "f"), UnknownFlowsChecked(),
    )  # fmt: skip
    journal.mark_sent(key(1))
    assert (journal.count_inputs("f"), journal.unknown_flows_checked) == (1, True)
    await journal.record(ForgetInputs("f"))
    assert journal.count_inputs("f") == 0
    assert journal.now() >= before
    journal.close()


async def test_record_returns_once_the_disk_has_it_and_a_post_waits_for_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_sync = threading.Event()
    syncs = 0

    def sync(fd: int, real: Callable[[int], None] = os.fdatasync) -> None:
        nonlocal syncs
        syncs += 1
        assert may_sync.wait(10)
        real(fd)

    journal = SqliteJournal(tmp_path / "m.sqlite", "b", 15)
    monkeypatch.setattr(os, "fdatasync", sync)
    journal.post(PutFlow(FlowFacts("posted", FlowState.OPEN, "i")))
    await asyncio.sleep(2 * LINGER_S)
    assert (syncs, journal.flow("posted") is not None) == (0, True)
    waiting = [asyncio.ensure_future(journal.record(PutFlow(FlowFacts(name, FlowState.OPEN, "i")))) for name in "abc"]
    await asyncio.sleep(0.1)
    assert not any(one.done() for one in waiting)
    late = asyncio.ensure_future(journal.record(PutFlow(FlowFacts("late", FlowState.OPEN, "i"))))
    await asyncio.sleep(0.05)
    assert journal.flow("late") is None, "committed while the disk was being waited for"
    may_sync.set()
    await asyncio.wait_for(asyncio.gather(*waiting, late), 10)
    assert syncs == 2, "one for the three, one for the late one"
    journal.close()


async def test_disk_that_fails_is_told_to_who_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    journal = SqliteJournal(tmp_path / "m.sqlite", "b", 15)
    monkeypatch.setattr(os, "fdatasync", fail)
    for _ in range(2):
        with pytest.raises(JournalError, match="Input/output error"):
            await journal.record(PutFlow(FlowFacts("f")))
    journal.close()


@pytest.mark.parametrize("cut", ["power", "damage"])
async def test_power_cut_takes_what_nobody_waited_for_and_damage_is_told_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    path = tmp_path / "m.sqlite"
    log, left = path.with_name("m.sqlite-wal"), path.with_suffix(".left")
    journal = SqliteJournal(path, "b", 15)
    await journal.record(PutFlow(FlowFacts("f", FlowState.OPEN, "i")), PutInput("f", InputFacts(key(1), InputState.SENDING)))
    durable = log.stat().st_size
    journal.post(PutInput("f", InputFacts(key(1), InputState.ACCEPTED)))
    await asyncio.sleep(3 * LINGER_S)
    assert log.stat().st_size > durable
    after = tmp_path / "after"
    after.mkdir()
    for file in (path, log, left):
        shutil.copy(file, after / file.name)
    os.truncate(after / log.name, durable)
    journal.close()
    if cut == "damage":  # the machine has not been down: nothing may be missing
        with pytest.raises(JournalError, match="1 of its last commits are missing"):
            SqliteJournal(after / path.name, "b", 15)
        return
    monkeypatch.setattr(journal_module, "_boot", lambda: b"another".ljust(48, b"\0"))
    journal = SqliteJournal(after / path.name, "b", 15)
    assert next(journal.input_rows("f")).state is InputState.UNKNOWN, "it may have left"
    journal.close()


async def test_log_is_brought_into_the_database_now_and_then(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    journal = SqliteJournal(path, "b", 15)
    await journal.record(PutFlow(FlowFacts("f", FlowState.OPEN, "i")))
    sizes = []
    for step in range(20):
        rows = (PutInput("f", InputFacts(os.urandom(16), InputState.SENDING)) for _ in range(CHECKPOINT_ROWS // 4))
        await journal.record(*rows)
        sizes.append(path.with_name("m.sqlite-wal").stat().st_size)
        assert journal.count_inputs("f") == (step + 1) * (CHECKPOINT_ROWS // 4)
    assert max(sizes) < 16 << 20
    assert path.stat().st_size > 500_000, "nothing has reached the database"
    journal.close()


async def test_commit_that_failed_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.sqlite"
    journal = SqliteJournal(path, "b", 15)
    await journal.record(PutFlow(FlowFacts("f", FlowState.OPEN, "i")))
    journal._writer.execute("PRAGMA query_only=1")  # a disk that has become read-only
    with pytest.raises(JournalError):
        await journal.record(PutFlow(FlowFacts("g")))
    journal.close()
    monkeypatch.setattr(journal_module, "_boot", lambda: b"another".ljust(48, b"\0"))
    journal = SqliteJournal(path, "b", 15)  # not damaged: nothing is missing
    assert journal.flow("f") is not None
    journal.close()
