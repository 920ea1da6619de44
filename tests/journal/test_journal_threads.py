"""Many threads read one journal at once, while the loop writes it: each gets its own rows, and no errors.

On a connection that two threads use at the same time CPython 3.12 and 3.13 hand one thread the other's rows.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batcher.core.facts import (
    AddOrphan,
    EndFacts,
    FileStat,
    FlowFacts,
    InputFacts,
    LetGo,
    OutputFacts,
    OutputState,
    PutEnd,
    PutFlow,
    PutInput,
    PutOutput,
    PutRun,
    PutTimes,
    Record,
    UnknownFlowsChecked,
    Watch,
)
from batcher.core.lifecycle import FlowState, InputState
from batcher.core.measuring import FlowTimes
from batcher.journal.sqlite import JournalReader, MemoryJournal, SqliteJournal

FLOWS = 200
INPUTS = 3
THREADS = 4
ROUNDS = 150  # of every reading call, in each thread


def _name(number: int) -> str:
    return f"flow-{number}"


def _key(number: int, index: int) -> bytes:
    return number.to_bytes(8, "big") + index.to_bytes(8, "big")


def _records() -> Iterator[Record]:
    for n in range(FLOWS):
        yield PutFlow(FlowFacts(_name(n), FlowState.STARTED, f"id-{n}", generation=n, inputs=INPUTS, started_at=1.0))
        for i in range(INPUTS):
            yield PutInput(_name(n), InputFacts(_key(n, i), InputState.ACCEPTED, bytes([n % 256]) * 32, stat=FileStat(n + 1)))
            yield PutOutput(OutputFacts(f"id-{n}", f"out-{n}-{i}", _key(n, i), OutputState.COLLECTED, path=f"{n}/{i}.glb"))
        yield PutEnd(EndFacts(f"id-{n}", _name(n), "completed", True))
        yield PutTimes(_name(n), FlowTimes(begun=float(n)))
        yield AddOrphan(f"orphan-{n}", _name(n))
        yield LetGo(f"gone-{n}")
    yield PutRun(1.0, 7, {"n": 1})
    yield Watch(123.0)
    yield UnknownFlowsChecked()


Journal = SqliteJournal | JournalReader | MemoryJournal


def _check(journal: Journal, n: int) -> None:
    """Every reading call of the port, and of what status and report ask; each answer is of flow number `n`."""
    facts = journal.flow(_name(n))
    assert facts is not None
    assert (facts.name, facts.generation, facts.flow_id) == (_name(n), n, f"id-{n}")
    assert journal.name_of(f"id-{n}") == _name(n)
    assert journal.was_let_go(f"gone-{n}")
    assert not journal.was_let_go(f"id-{n}")
    keys = [_key(n, i) for i in range(INPUTS)]
    rows = journal.inputs(_name(n), keys)
    assert list(rows) == keys
    assert {row.stat.size for row in rows.values()} == {n + 1}
    assert [row.key for row in journal.input_rows(_name(n))] == keys
    assert journal.count_inputs(_name(n)) == INPUTS
    assert journal.orphans(_name(n)) == [(f"orphan-{n}", _name(n))]
    end = journal.end(f"id-{n}")
    assert end is not None
    assert end.flow == _name(n)
    outputs = [f"out-{n}-{i}" for i in range(INPUTS)]
    assert [row.asset_id for row in journal.outputs(f"id-{n}")] == outputs
    assert [row.asset_id for row in journal.outputs(f"id-{n}", outputs[0], 1)] == outputs[1:2]
    assert [row.asset_id for row in journal.outputs_of(f"id-{n}", keys)] == outputs
    at = journal.output_at(f"{n}/1.glb")
    assert at is not None
    assert at.asset_id == f"out-{n}-1"
    assert journal.watch_until >= 123.0
    assert journal.unknown_flows_checked
    assert len(journal.owner) == 16


def _check_whole(journal: Journal) -> None:
    """The calls that walk all of it."""
    assert [facts.generation for facts in journal.flows() if facts.name.startswith("flow")] == list(range(FLOWS))
    assert len(journal.orphans()) >= FLOWS
    assert journal.count_flows() >= FLOWS
    assert journal.tallies()[_name(7)] == {InputState.ACCEPTED: (INPUTS, INPUTS * 8)}
    assert journal.flow_times()[_name(9)].begun == 9.0
    assert (1.0, {"n": 1}) in journal.runs()


def _in_threads(work: Callable[[int], None], stop: Callable[[], None] = lambda: None) -> list[BaseException]:
    errors: list[BaseException] = []
    barrier = threading.Barrier(THREADS)

    def one(number: int) -> None:
        try:
            barrier.wait()
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop()
    return errors


@pytest.mark.parametrize("kind", ["sqlite", "reader", "memory"])
def test_threads_that_read_at_once_get_their_own_rows(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    writes = 0

    async def story() -> list[BaseException]:
        nonlocal writes
        written: SqliteJournal | MemoryJournal = MemoryJournal() if kind == "memory" else SqliteJournal(path, "b", 15)
        await written.record(*_records())
        journal: Journal = JournalReader(path, "b") if kind == "reader" else written
        done = asyncio.Event()
        loop = asyncio.get_running_loop()

        def work(thread: int) -> None:
            for r in range(ROUNDS):
                _check(journal, (r * (thread + 1)) % FLOWS)
                if r % 30 == thread:
                    _check_whole(journal)

        asked = asyncio.ensure_future(asyncio.to_thread(_in_threads, work, lambda: loop.call_soon_threadsafe(done.set)))
        while not done.is_set():  # the loop writes, and reads, meanwhile
            writes += 1
            await written.record(PutFlow(FlowFacts(f"other-{writes}", generation=writes)), AddOrphan(f"x-{writes}", "other"))
            _check(journal, writes % FLOWS)
            await asyncio.sleep(0)
        errors = await asked
        if journal is not written:
            journal.close()
        written.close()
        return errors

    assert asyncio.run(story()) == []
    assert writes > 2


def test_a_walk_may_go_on_in_another_thread(tmp_path: Path) -> None:
    async def story() -> None:
        journal = SqliteJournal(tmp_path / "j.sqlite", "b", 15)
        await journal.record(*(PutFlow(FlowFacts(_name(n), generation=n)) for n in range(1200)))
        walk = journal.flows()
        found = [next(walk).generation for _ in range(3)]
        await journal.record(PutFlow(FlowFacts("late", generation=1200)))
        found += await asyncio.to_thread(lambda: [next(walk).generation for _ in range(700)])
        assert journal.count_flows() == 1201
        found += [facts.generation for facts in walk]
        journal.close()
        assert found == list(range(1201))

    asyncio.run(story())


def test_the_writing_connections_refuse_another_thread(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "j.sqlite", "b", 15)
    errors = _in_threads(lambda number: journal._commit([PutFlow(FlowFacts("x"))]))
    assert len(errors) == THREADS
    assert {type(error) for error in errors} == {sqlite3.ProgrammingError}
    with pytest.raises(sqlite3.ProgrammingError):
        journal._checkpointer.execute("PRAGMA wal_checkpoint(PASSIVE)")
    journal.close()
