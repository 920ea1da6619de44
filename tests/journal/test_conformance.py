"""The conformance suite for journals: whatever has the port behaves like this, whichever engine is behind it.

A further engine is one more line in `ENGINES`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from batcher.core.facts import (
    RUNS_KEPT,
    AddOrphan,
    AttemptFacts,
    ClearOrphan,
    EndFacts,
    FileStat,
    FlowFacts,
    ForgetInputs,
    InputFacts,
    OutputFacts,
    OutputState,
    PutAttempt,
    PutEnd,
    PutFlow,
    PutInput,
    PutOutput,
    PutRun,
    PutTimes,
    Record,
    ReleaseFlow,
    Remote,
    SeeOutput,
    UnknownFlowsChecked,
    Watch,
)
from batcher.core.lifecycle import FlowState, InputState
from batcher.core.measuring import FlowTimes
from batcher.journal.memory import MemoryJournal
from batcher.journal.ports import Journal, JournalView
from batcher.journal.postgres.reader import PostgresReader
from batcher.journal.reader import JournalReader
from batcher.journal.sqlite import SqliteJournal
from tests.postgres import journal_at, server

pytestmark = pytest.mark.anyio

KEYS = [bytes([n + 1]) * 16 for n in range(3)]
ROWS = [
    InputFacts(KEYS[0], InputState.ACCEPTED, b"s" * 32, b"m", FileStat(3, 4, 5), resent=True),
    InputFacts(KEYS[1], InputState.UNKNOWN, None, b"m", FileStat(1), False, 12.5, True),
    InputFacts(KEYS[2], InputState.PENDING),
]
FLOW = FlowFacts("a flow", FlowState.OPEN, "id-1", 2, False, b"m", b"q", b"c", 1.5, None, 3, 9, None, '{"kind": "refused"}')


ENGINES: dict[str, Callable[[Path], Journal]] = {
    "sqlite": lambda folder: SqliteJournal(folder / "s" / "j.sqlite", "b", 15),
    "memory": lambda folder: MemoryJournal(),
    "postgres": journal_at,
}
# What looks at a journal of that engine from outside, for plan, status and report.
READERS: dict[str, Callable[[Path], JournalView]] = {
    "sqlite": lambda folder: JournalReader(folder / "s" / "j.sqlite", "b"),
    "postgres": lambda folder: PostgresReader(server().address(folder)),
}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def journal(engine: str, tmp_path: Path) -> Iterator[Journal]:
    with closing(ENGINES[engine](tmp_path)) as made:
        yield made


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


async def test_flows_are_known_by_their_ids_and_what_was_released_of_stays_known(journal) -> None:
    await journal.record(PutFlow(FLOW), ReleaseFlow("id-9"))
    assert journal.name_of(FLOW.flow_id) == "a flow"
    assert journal.name_of("id-9") is None
    assert journal.was_released("id-9")
    assert not journal.was_released(FLOW.flow_id)


async def test_flows_that_are_on_the_service_are_named_from_both_ends(journal) -> None:
    await journal.record(*(PutFlow(replace(FLOW, name=f"f{n}", flow_id=None if n == 8 else f"id-{n}")) for n in range(9)))
    await journal.record(PutEnd(EndFacts("id-0", "f0", "completed", True, Remote.DELETED)))
    await journal.record(PutEnd(EndFacts("id-1", "f1", "failed")))
    assert set(journal.some_flow_ids(2)) == {"id-1", "id-2", "id-6", "id-7"}
    assert set(journal.some_flow_ids(5)) == {f"id-{n}" for n in range(1, 8)}


async def test_starts_without_an_outcome_are_told_by_name(journal) -> None:
    names = ["b", "a", "ä", "B"]
    rows = [replace(FLOW, name=name, state=FlowState.STARTING, flow_id=f"id-{name}") for name in names]
    await journal.record(PutFlow(FLOW), *map(PutFlow, rows))
    assert journal.starting() == sorted(rows, key=lambda facts: facts.name)


async def test_orphans_and_watch_are_kept(journal) -> None:
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
    going = EndFacts("id-1", "a flow", "running", progress=0.25, seen_at=7.5)
    await journal.record(PutEnd(going))
    assert journal.end("id-1") == going
    assert journal.bad_ends() == {}, "it has not ended"
    end = EndFacts("id-1", "a flow", "failed", True, Remote.DELETING, 3, True, "out of memory", 0.5, 8.5, "/out")
    await journal.record(PutEnd(end))
    assert journal.end("id-1") == end
    assert journal.bad_ends() == {"id-1": end}


async def test_attempts_are_kept_and_every_start_is_counted(journal) -> None:
    was = [AttemptFacts("a flow", "id-0", 1, 5.0), AttemptFacts("a flow", "id-9", 3), AttemptFacts("a flow", "id-5", 4, 9.0)]
    await journal.record(PutFlow(replace(FLOW, state=FlowState.STARTED)), *map(PutAttempt, reversed(was)))
    await journal.record(PutAttempt(was[0]), PutFlow(FlowFacts("new")))
    assert journal.attempts(["a flow", "new"]) == {"a flow": was}
    assert journal.count_starts() == 4


async def test_times_are_joined_and_counts_are_told_in_one_walk(journal) -> None:
    await journal.record(PutFlow(FLOW), *(PutInput("a flow", row) for row in ROWS))
    await journal.record(PutTimes("a flow", FlowTimes(1.5, 2.5)), PutTimes("nobody", FlowTimes(1.0)))
    await journal.record(PutTimes("a flow", FlowTimes(9.5, None, 10.5, 11.5)))
    assert journal.flow_times(["a flow", "nobody"]) == {"a flow": FlowTimes(1.5, 2.5, 10.5, 11.5)}
    tally = {InputState.ACCEPTED: (1, 3), InputState.UNKNOWN: (1, 1), InputState.PENDING: (1, 0)}
    assert journal.tallies(["a flow", "nobody"]) == {"a flow": tally}


async def test_runs_are_bounded_and_idle_ones_push_none_out(journal) -> None:
    for at in range(30):
        await journal.record(PutRun(float(at), 0, {"n": -1}), PutRun(float(at), at % 3, {"n": at}))
    kept = journal.runs()
    sent = sorted((float(at) for at in range(30) if at % 3), reverse=True)
    assert [at for at, _ in kept] == sent[:RUNS_KEPT]
    for at in range(40, 90):
        await journal.record(PutRun(float(at), 0, {}))
    assert [at for at, _ in journal.runs()] == [89.0, *sent[: RUNS_KEPT - 1]]
    assert journal.runs()[1][1] == {"n": 29}


async def test_what_was_collected_is_told(journal) -> None:
    rows = [OutputFacts("id-1", f"o{n}", None, state, "", "p", f"p{n}", b"s", FileStat(n, n, 9 - n))
            for n, state in enumerate((OutputState.COLLECTED, OutputState.LISTED, OutputState.COLLECTED))]  # fmt: skip
    await journal.record(*(PutOutput(row) for row in rows))
    assert list(journal.collected()) == [FileStat(0, 0, 9), FileStat(2, 2, 7)]


# ---- many at once


async def test_bulk_forms_tell_the_same_as_one_at_a_time(journal) -> None:
    names = [f"f{n:04}" for n in range(1203)]  # more than one statement takes, and more than a page
    flows = [replace(FLOW, name=name, flow_id=f"id-{name}", generation=n) for n, name in enumerate(names)]
    await journal.record(*(PutFlow(facts) for facts in flows))
    await journal.record(*(PutInput(name, row) for name in names[::2] for row in ROWS))
    await journal.record(*(PutEnd(EndFacts(f"id-{name}", name, "failed")) for name in names[::3]))
    asked = [*names, "nobody"]
    assert journal.flows_named(asked) == {name: journal.flow(name) for name in names}
    assert journal.counts(asked) == dict.fromkeys(names[::2], 2)
    assert journal.ends([f"id-{name}" for name in asked]) == {f"id-{name}": journal.end(f"id-{name}") for name in names[::3]}
    walked = list(journal.flows_and_ends())
    assert [facts for facts, _ in walked] == list(journal.flows()) == flows
    assert [end for _, end in walked] == [journal.end(f"id-{name}") for name in names]
    assert journal.tallies(asked).keys() == set(names[::2])
    outputs = [OutputFacts(f"id-{name}", f"a{n}", None, state, stat=FileStat(n)) for name in names[::4]
               for n, state in enumerate((OutputState.COLLECTED, OutputState.LISTED, OutputState.COLLECTED))]  # fmt: skip
    await journal.record(*(PutOutput(row) for row in outputs))
    tally = {OutputState.COLLECTED: (2, 2), OutputState.LISTED: (1, 1)}
    assert journal.output_tallies([f"id-{name}" for name in asked]) == {f"id-{name}": tally for name in names[::4]}
    assert len(journal.bad_ends()) == len(names[::3]), "more than a page of them"
    assert journal.flows_named([]) == journal.counts([]) == journal.ends([]) == {}


async def test_flow_without_an_id_has_no_end(journal) -> None:
    await journal.record(PutFlow(replace(FLOW, flow_id=None)), PutEnd(EndFacts("", "another", "failed")))
    assert [end for _, end in journal.flows_and_ends()] == [None]


async def test_rows_of_a_large_flow_are_walked_in_the_order_of_their_keys(journal) -> None:
    keys = [bytes([n % 251]) + n.to_bytes(15, "big") for n in range(1000)]
    await journal.record(PutFlow(FLOW), *(PutInput("a flow", InputFacts(key, InputState.ACCEPTED)) for key in keys))
    assert [row.key for row in journal.input_rows("a flow")] == sorted(keys)
    assert journal.inputs("a flow", keys).keys() == set(keys)
    outputs = [OutputFacts("id-1", f"a{n:04}", keys[n]) for n in range(1000)]
    await journal.record(*(PutOutput(row) for row in outputs))
    assert sorted(row.asset_id for row in journal.outputs_of("id-1", keys)) == [row.asset_id for row in outputs]


async def test_new_journal_knows_nothing(journal) -> None:
    assert (journal.flow("f"), journal.end("i"), journal.name_of("i"), journal.output_at("p")) == (None,) * 4
    assert [*journal.flows(), *journal.flows_and_ends(), *journal.input_rows("f"), *journal.collected()] == []
    assert [*journal.orphans(), *journal.runs(), *journal.some_flow_ids(3), *journal.outputs("i")] == []
    assert (journal.count_flows(), journal.count_inputs("f"), journal.watch_until) == (0, 0, 0.0)
    assert (journal.tallies(["f"]), journal.flow_times(["f"]), journal.bad_ends(), journal.about) == ({}, {}, {}, {})
    assert (journal.output_tallies(["i"]), journal.attempts(["f"]), journal.count_starts()) == ({}, {}, 0)
    assert not journal.unknown_flows_checked
    assert journal.held in (True, None)


async def test_look_finds_what_a_read_finds(journal) -> None:
    await journal.record(PutFlow(FLOW))
    assert await journal.look(lambda view: view.flow("a flow")) == FLOW


async def test_its_time_goes_on(journal) -> None:
    before = journal.now()
    await asyncio.sleep(0.01)
    assert before < journal.now() < before + 60


# ---- many threads read it at once, while the loop writes: each gets its own rows, and no errors


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
        yield ReleaseFlow(f"gone-{n}")
    yield PutRun(1.0, 7, {"n": 1})
    yield Watch(123.0)
    yield UnknownFlowsChecked()


def _check(journal: JournalView, n: int) -> None:
    """Every reading call of the port, and of what status and report ask; each answer is of flow number `n`."""
    facts = journal.flow(_name(n))
    assert facts is not None
    assert journal.flows_named([_name(n), "none"]) == {_name(n): facts}
    assert (facts.name, facts.generation, facts.flow_id) == (_name(n), n, f"id-{n}")
    assert journal.name_of(f"id-{n}") == _name(n)
    assert journal.was_released(f"gone-{n}")
    assert not journal.was_released(f"id-{n}")
    keys = [_key(n, i) for i in range(INPUTS)]
    rows = journal.inputs(_name(n), keys)
    assert list(rows) == keys
    assert {row.stat.size for row in rows.values()} == {n + 1}
    assert [row.key for row in journal.input_rows(_name(n))] == keys
    assert journal.count_inputs(_name(n)) == INPUTS
    assert journal.counts([_name(n), "none"]) == {_name(n): INPUTS}
    assert journal.orphans(_name(n)) == [(f"orphan-{n}", _name(n))]
    end = journal.end(f"id-{n}")
    assert end is not None
    assert end.flow == _name(n)
    assert journal.ends([f"id-{n}", "none"]) == {f"id-{n}": end}
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


def _check_whole(journal: JournalView) -> None:
    """The calls that walk all of it."""
    assert [facts.generation for facts in journal.flows() if facts.name.startswith("flow")] == list(range(FLOWS))
    assert len(journal.orphans()) >= FLOWS
    assert journal.count_flows() >= FLOWS
    assert journal.tallies([_name(7)])[_name(7)] == {InputState.ACCEPTED: (INPUTS, INPUTS * 8)}
    assert journal.flow_times([_name(9)])[_name(9)].begun == 9.0
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


@pytest.mark.parametrize(("engine", "outside"), [*((name, False) for name in ENGINES), *((name, True) for name in READERS)])
def test_threads_that_read_at_once_get_their_own_rows(engine: str, outside: bool, tmp_path: Path) -> None:
    """On a connection that two threads use at the same time CPython 3.12 and 3.13 hand one thread the other's rows."""
    writes = 0

    async def story() -> list[BaseException]:
        nonlocal writes
        written = ENGINES[engine](tmp_path)
        await written.record(*_records())
        journal: JournalView = READERS[engine](tmp_path) if outside else written
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


def test_a_walk_may_go_on_in_another_thread(engine: str, tmp_path: Path) -> None:
    async def story() -> None:
        journal = ENGINES[engine](tmp_path)
        await journal.record(*(PutFlow(FlowFacts(_name(n), generation=n)) for n in range(1200)))
        walk = journal.flows()
        found = [next(walk).generation for _ in range(3)]
        await journal.record(PutFlow(FlowFacts("late", generation=1200)))
        found += await asyncio.to_thread(lambda: [next(walk).generation for _ in range(700)])
        assert journal.count_flows() == 1201
        found += [facts.generation for facts in walk]
        journal.close()
        assert found in (list(range(1201)), list(range(1200))), "what is written meanwhile may or may not be in it"

    asyncio.run(story())
