"""The conformance suite for journals: SQLite and memory behave alike; and what only SQLite promises."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from batcher.core.errors import JournalError, Locked
from batcher.core.facts import (
    RUNS_KEPT,
    AddOrphan,
    ClearOrphan,
    EndFacts,
    FileStat,
    FlowFacts,
    ForgetInputs,
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
    Remote,
    SeeOutput,
    Watch,
)
from batcher.core.lifecycle import FlowState, InputState
from batcher.core.measuring import FlowTimes
from batcher.core.tags import flow_key
from batcher.journal.sqlite import MIGRATIONS, JournalReader, MemoryJournal, SqliteJournal

pytestmark = pytest.mark.anyio

KEYS = [bytes([n + 1]) * 16 for n in range(3)]
ROWS = [
    InputFacts(KEYS[0], InputState.ACCEPTED, b"s" * 32, b"m", FileStat(3, 4, 5), resent=True),
    InputFacts(KEYS[1], InputState.UNKNOWN, None, b"m", FileStat(1), False, 12.5, True),
    InputFacts(KEYS[2], InputState.PENDING),
]
FLOW = FlowFacts("a flow", FlowState.OPEN, "id-1", 2, False, b"m", b"q", b"c", 1.5, None, 3, 9, None, '{"kind": "refused"}')


@pytest.fixture(params=["sqlite", "memory"])
def journal(request, tmp_path: Path):
    made = MemoryJournal() if request.param == "memory" else SqliteJournal(tmp_path / "s" / "j.sqlite", "b", 15)
    yield made
    made.close()


async def test_what_is_recorded_is_read_back(journal) -> None:
    journal.post(PutFlow(FLOW))
    await journal.record(*(PutInput("a flow", row) for row in ROWS))
    assert journal.flow("a flow") == FLOW
    assert journal.flow("another") is None
    assert list(journal.flows()) == [FLOW]
    assert journal.inputs("a flow", [KEYS[0], KEYS[1], b"x" * 16]) == {KEYS[0]: ROWS[0], KEYS[1]: ROWS[1]}
    assert sorted(journal.input_rows("a flow"), key=lambda row: row.key) == ROWS
    assert journal.count_inputs("a flow") == 2
    assert journal.count_flows() == 1


async def test_rows_are_replaced_and_forgotten(journal) -> None:
    await journal.record(PutFlow(FLOW), *(PutInput("a flow", row) for row in ROWS))
    changed = InputFacts(KEYS[1], InputState.ACCEPTED, b"t" * 32)
    await journal.record(PutFlow(FlowFacts("a flow")), PutInput("a flow", changed))
    assert journal.flow("a flow") == FlowFacts("a flow")
    assert journal.inputs("a flow", [KEYS[1]]) == {KEYS[1]: changed}
    await journal.record(ForgetInputs("a flow"))
    assert list(journal.input_rows("a flow")) == []


async def test_a_shorter_watch_ends_no_longer_one(journal) -> None:
    journal.post(Watch(77.0))
    await journal.record(Watch(55.0))
    assert journal.watch_until == 77.0


async def test_flows_are_known_by_their_ids_and_what_was_let_go_of_stays_known(journal) -> None:
    await journal.record(PutFlow(FLOW), LetGo("id-9"))
    assert journal.name_of(FLOW.flow_id) == "a flow"
    assert journal.name_of("id-9") is None
    assert journal.was_let_go("id-9")
    assert not journal.was_let_go(FLOW.flow_id)


async def test_flows_that_are_on_the_service_are_named_from_both_ends(journal) -> None:
    await journal.record(*(PutFlow(replace(FLOW, name=f"f{n}", flow_id=None if n == 8 else f"id-{n}")) for n in range(9)))
    await journal.record(PutEnd(EndFacts("id-0", "f0", "completed", True, Remote.DELETED)))
    await journal.record(PutEnd(EndFacts("id-1", "f1", "failed")))
    assert set(journal.some_flow_ids(2)) == {"id-1", "id-2", "id-6", "id-7"}
    assert set(journal.some_flow_ids(5)) == {f"id-{n}" for n in range(1, 8)}


async def test_litter_and_watch_are_kept(journal) -> None:
    await journal.record(AddOrphan("id-1", "a"), AddOrphan("id-2", "b"), AddOrphan("id-1", "a"), Watch(77.0))
    assert journal.orphans() == [("id-1", "a"), ("id-2", "b")]
    await journal.record(ClearOrphan("id-1"))
    assert journal.orphans() == [("id-2", "b")]
    assert journal.watch_until == 77.0
    assert journal.owner


async def test_outputs_are_seen_once_placed_and_found_by_key_and_by_path(journal) -> None:
    seen = [OutputFacts("id-1", asset, KEYS[n % 2]) for n, asset in enumerate(("a1", "a2", "a3"))]
    foreign = OutputFacts("id-1", "a0", None, OutputState.REFUSED)
    await journal.record(*(SeeOutput(row) for row in (*seen, foreign)), SeeOutput(OutputFacts("id-2", "a1")))
    kept = replace(seen[0], state=OutputState.COLLECTED, source="x.png", place="f/X", path="f/X.glb", sha256=b"s" * 32,
                   stat=FileStat(3, 4, 5))  # fmt: skip
    await journal.record(PutOutput(kept), SeeOutput(seen[0]))
    assert journal.outputs("id-1") == [foreign, kept, *seen[1:]]
    assert journal.outputs("id-1", "a1", 1) == [seen[1]]
    assert journal.outputs_of("id-1", [KEYS[0]]) == [kept, seen[2]]
    assert journal.output_at("F/x.GLB") == kept
    assert journal.output_at("f/y.glb") is None
    assert journal.outputs("id-3") == []
    placed = replace(foreign, place="f/a0")
    await journal.record(PutOutput(placed), SeeOutput(replace(foreign, state=OutputState.LISTED)))
    assert journal.outputs("id-1", "", 1) == [replace(placed, state=OutputState.LISTED)]
    await journal.record(PutOutput(replace(kept, path="")))
    assert journal.output_at("f/X.glb") is None


async def test_end_of_a_flow_is_kept(journal) -> None:
    assert journal.end("id-1") is None
    await journal.record(PutEnd(EndFacts("id-1", "a flow", "completed")))
    assert journal.bad_ends() == {}
    end = EndFacts("id-1", "a flow", "failed", True, Remote.DELETING, 3, True, "out of memory")
    await journal.record(PutEnd(end))
    assert journal.end("id-1") == end
    assert journal.bad_ends() == {"id-1": end}


async def test_times_are_joined_and_counts_are_told_in_one_walk(journal) -> None:
    await journal.record(PutFlow(FLOW), *(PutInput("a flow", row) for row in ROWS))
    await journal.record(PutTimes("a flow", FlowTimes(1.5, 2.5)), PutTimes("nobody", FlowTimes(1.0)))
    await journal.record(PutTimes("a flow", FlowTimes(9.5, None, 10.5, 11.5)))
    assert journal.flow_times() == {"a flow": FlowTimes(1.5, 2.5, 10.5, 11.5)}
    tally = {InputState.ACCEPTED: (1, 3), InputState.UNKNOWN: (1, 1), InputState.PENDING: (1, 0)}
    assert journal.tallies() == {"a flow": tally}


async def test_runs_are_bounded_and_idle_ones_push_none_out(journal) -> None:
    for at in range(30):
        await journal.record(PutRun(float(at), 0, {"n": -1}), PutRun(float(at), at % 3, {"n": at}))
    kept = journal.runs()
    assert [at for at, _ in kept] == sorted((at for at in range(30) if at % 3), reverse=True)[:RUNS_KEPT]
    for at in range(40, 90):
        await journal.record(PutRun(float(at), 0, {}))
    assert [at for at, _ in journal.runs()[:3]] == [89.0, 29.0, 28.0]
    assert journal.runs()[1][1] == {"n": 29}
    assert len(journal.runs()) <= RUNS_KEPT


async def test_journal_of_an_older_batcher_is_read_as_it_is_and_migrated_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(MIGRATIONS[0] + "PRAGMA user_version=1; PRAGMA journal_mode=WAL")
    connection.close()
    reader = JournalReader(path)
    assert (reader.runs(), reader.flow_times(), reader.tallies(), reader.bad_ends()) == ([], {}, {}, {})
    reader.close()
    journal = SqliteJournal(path, "b", 15)
    await journal.record(PutRun(1.0, 1, {}), PutFlow(FLOW), SeeOutput(OutputFacts("id-1", "a1")))
    assert journal.runs() == [(1.0, {})]
    assert len(journal.outputs("id-1")) == 1
    journal.close()


async def test_flow_that_an_older_batcher_took_for_collected_with_outputs_missing_is_listed_again(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(";".join(MIGRATIONS[:5]) + ";PRAGMA user_version=5; PRAGMA journal_mode=WAL")
    started = "INSERT INTO flows VALUES(?, ?, 'started', ?, 1, 0, x'', x'', x'', NULL, NULL, 2, 9, 1.0, NULL, NULL)"
    for number, (state, outputs) in enumerate((("completed", 1), ("completed", 2), ("failed", 1))):
        flow_id = f"id-{number}"
        connection.execute(started, (number, f"f{number}", flow_id))
        connection.execute("INSERT INTO ends VALUES(?, ?, ?, 1, 'kept')", (flow_id, f"f{number}", state))
        for asset in range(outputs):
            row = (flow_id, f"a{asset}")
            connection.execute("INSERT INTO outputs VALUES(?, ?, NULL, 'listed', '', '', '', NULL, 0, 0, 0, NULL)", row)
    connection.commit()
    connection.close()
    journal = SqliteJournal(path, "b", 15)
    ends = [journal.end(f"id-{number}") for number in range(3)]
    journal.close()
    assert [(end.state, end.listed, end.missing) for end in ends if end is not None] == [
        ("completed", False, 0), ("completed", True, 0), ("failed", True, 0),
    ]  # fmt: skip


async def test_second_process_is_locked_out_and_files_are_the_owners_only(tmp_path: Path) -> None:
    path = tmp_path / "state" / "j.sqlite"
    journal = SqliteJournal(path, "b", 15)
    with pytest.raises(Locked):
        SqliteJournal(path, "b", 15)
    assert os.stat(path.parent).st_mode & 0o777 == 0o700
    assert all(os.stat(file).st_mode & 0o077 == 0 for file in path.parent.iterdir())
    journal.close()
    SqliteJournal(path, "b", 15).close()


async def test_announced_and_never_left_is_pending_after_a_crash_and_left_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    pid = os.fork()
    if pid == 0:
        import asyncio

        async def crash() -> None:
            journal = SqliteJournal(path, "b", 15)
            sending = [InputFacts(key, InputState.SENDING) for key in KEYS]
            await journal.record(
                PutFlow(FLOW), PutFlow(FlowFacts("c", FlowState.CREATING, generation=1)),
                PutFlow(FlowFacts("d", FlowState.CREATING, generation=1)), *(PutInput("a flow", row) for row in sending),
            )  # fmt: skip
            journal.mark_sent(KEYS[0])
            journal.mark_sent(KEYS[1])
            journal.mark_sent(flow_key("b", "d"))
            await journal.record(PutInput("a flow", ROWS[0]))
            os._exit(9)

        asyncio.new_event_loop().run_until_complete(crash())
    os.waitpid(pid, 0)
    journal = SqliteJournal(path, "b", 15)
    rows = journal.inputs("a flow", KEYS)
    assert [rows[key].state for key in KEYS] == [InputState.ACCEPTED, InputState.UNKNOWN, InputState.PENDING]
    assert rows[KEYS[1]].settle_deadline is not None
    states = {facts.name: facts.state for facts in journal.flows()}
    assert (states["c"], states["d"]) == (FlowState.PLANNED, FlowState.CREATING)
    journal.close()


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


async def test_what_was_collected_is_told(journal) -> None:
    rows = [OutputFacts("id-1", f"o{n}", None, state, "", "p", f"p{n}", b"s", FileStat(n, n, 9 - n))
            for n, state in enumerate((OutputState.COLLECTED, OutputState.LISTED, OutputState.COLLECTED))]  # fmt: skip
    await journal.record(*(PutOutput(row) for row in rows))
    assert list(journal.collected()) == [FileStat(0, 0, 9), FileStat(2, 2, 7)]


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
