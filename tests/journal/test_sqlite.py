"""Writing: what is durable when, what a broken disk does, and who may write."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from batcher.core.errors import JournalError
from batcher.core.facts import FlowFacts, InputFacts, PutFlow, PutInput
from batcher.core.lifecycle import FlowState, InputState
from batcher.journal.reader import JournalReader
from batcher.journal.sqlite import CHECKPOINT_ROWS, COMMIT_ROWS, LINGER_S, SqliteJournal

pytestmark = pytest.mark.anyio


async def test_record_that_cannot_be_written_is_told_to_all_who_wait_and_nothing_follows(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("what", ["removed", "moved"])
async def test_journal_that_is_taken_away_is_told_to_who_waits(tmp_path: Path, what: str) -> None:
    path = tmp_path / "state" / "m.sqlite"
    journal = SqliteJournal(path, "b", 15)
    await journal.record(PutFlow(FlowFacts("f")))
    if what == "removed":
        shutil.rmtree(path.parent)
    else:
        path.parent.rename(tmp_path / "elsewhere")
    for _ in range(2):
        with pytest.raises(JournalError, match="was removed or moved while"):
            await journal.record(PutFlow(FlowFacts("g")))
    journal.close()


async def test_of_two_that_write_one_journal_the_earlier_learns_of_it_before_it_sends_anything(tmp_path: Path) -> None:
    """Where a file system's locks hold nobody back."""
    path = tmp_path / "m.sqlite"
    earlier = SqliteJournal(path, "b", 15)
    await earlier.record(PutFlow(FlowFacts("f")))
    for file in (earlier._log, os.open(path.with_suffix(".lock"), os.O_RDWR)):
        fcntl.flock(file, fcntl.LOCK_UN)
    path.with_suffix(".lock").unlink()
    later = SqliteJournal(path, "b", 15)
    for _ in range(2):
        with pytest.raises(JournalError, match="another run writes the journal"):
            await earlier.record(PutFlow(FlowFacts("f", FlowState.STARTED, "i")))
    await later.record(PutFlow(FlowFacts("g")))
    earlier.close()
    await later.record(PutFlow(FlowFacts("h")))
    later.close()
    with closing(JournalReader(path)) as reader:
        assert [(facts.name, facts.state) for facts in reader.flows()] == [(name, FlowState.PLANNED) for name in "fgh"]


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


def test_a_journal_says_whose_it_is(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    SqliteJournal(path, "b", 15).close()
    with closing(JournalReader(path)) as reader:
        assert reader.about == {}, "as those of an older batcher"
    about = {"manifest": "/a/m.yaml", "endpoint": "e", "batch": "b"}
    SqliteJournal(path, "b", 15, about=about).close()
    SqliteJournal(path, "b", 15).close()
    with closing(JournalReader(path)) as reader:
        assert reader.about == about


def test_the_writing_connections_refuse_another_thread(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "j.sqlite", "b", 15)
    with ThreadPoolExecutor(1) as another, pytest.raises(sqlite3.ProgrammingError):
        another.submit(journal._commit, [PutFlow(FlowFacts("x"))]).result()
    with pytest.raises(sqlite3.ProgrammingError):
        journal._checkpointer.execute("PRAGMA wal_checkpoint(PASSIVE)")
    journal.close()


async def test_journal_that_is_closed_at_once_keeps_what_was_posted(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "m.sqlite", "b", 15)
    journal.post(PutFlow(FlowFacts("f")))
    waiting = asyncio.ensure_future(journal.record(PutFlow(FlowFacts("g"))))
    await asyncio.sleep(0)
    journal.close()
    await asyncio.wait_for(waiting, 5)
    await asyncio.sleep(2 * LINGER_S)  # the writer finds nothing left, and touches nothing
    with closing(SqliteJournal(tmp_path / "m.sqlite", "b", 15)) as journal:
        assert [facts.name for facts in journal.flows()] == ["f", "g"]


def test_loop_that_ends_cancels_no_write(tmp_path: Path) -> None:
    """Its tasks are cancelled, also the writer: while it lingers, while the disk is waited for, before it has begun."""
    done: list[str] = []

    async def stubborn(journal: SqliteJournal, name: str) -> None:
        """Records once more when it is cancelled."""
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await journal.record(PutFlow(FlowFacts(name)))
            done.append(name)
            raise

    async def story(journal: SqliteJournal, ahead: str) -> None:
        tasks.append(asyncio.ensure_future(stubborn(journal, f"{ahead} 1")))
        await asyncio.sleep(0)
        if ahead == "lingering":
            journal.post(PutFlow(FlowFacts("posted")))
            await asyncio.sleep(LINGER_S / 5)
        elif ahead == "syncing":
            tasks.append(asyncio.ensure_future(journal.record(PutFlow(FlowFacts("recorded")))))
            while journal._items or journal._writing is None:
                await asyncio.sleep(0)
        elif ahead == "beginning":
            journal.post(PutFlow(FlowFacts("posted")))
        tasks.append(asyncio.ensure_future(stubborn(journal, f"{ahead} 2")))
        await asyncio.sleep(0)

    for ahead in ("idle", "lingering", "syncing", "beginning"):
        tasks: list[asyncio.Future[None]] = []
        path = tmp_path / ahead / "m.sqlite"
        with closing(SqliteJournal(path, "b", 15)) as journal:
            asyncio.run(story(journal, ahead))
            assert sorted(done) == [f"{ahead} 1", f"{ahead} 2"]
            assert {facts.name for facts in journal.flows()} >= set(done)
        with closing(JournalReader(path)) as reader:
            assert reader.count_flows() == {"idle": 2}.get(ahead, 3)
        done.clear()


async def test_commit_is_bounded_and_all_of_it_is_written(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "m.sqlite", "b", 15)
    before = journal._commits
    for number in range(2 * COMMIT_ROWS + 1):
        journal.post(PutFlow(FlowFacts(f"f{number}")))
    await journal.record()
    assert journal.count_flows() == 2 * COMMIT_ROWS + 1
    assert journal._commits - before == 3
    journal.close()


async def test_who_is_woken_comes_along_with_the_next_commit(tmp_path: Path) -> None:
    """Sixteen workers that record one after the other cost as many commits as one of them."""
    journal = SqliteJournal(tmp_path / "m.sqlite", "b", 15)
    before = journal._commits

    async def work(number: int) -> None:
        for turn in range(10):
            await journal.record(PutFlow(FlowFacts(f"f{number}-{turn}")))

    await asyncio.gather(*map(work, range(16)))
    assert journal._commits - before == 10
    journal.close()
