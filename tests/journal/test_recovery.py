"""What a journal says once it is opened again, wherever its last process had died."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from pipeline.batch import LIMITS, Batch, files

from batcher.api import Settings, run
from batcher.core.errors import JournalError
from batcher.core.facts import FlowFacts, ForgetInputs, InputFacts, PutFlow, PutInput, Record
from batcher.core.lifecycle import FLOW, INPUT, FlowState, InputState
from batcher.core.planning import Action, Change, Options, Tally, change_of, decide
from batcher.core.tags import flow_key
from batcher.journal.memory import MemoryJournal
from batcher.journal.sqlite import LINGER_S, SqliteJournal
from batcher.sandbox import Sandbox, parse_fault

pytestmark = pytest.mark.anyio


ANOTHER_BOOT = b"another".ljust(48, b"\0")
FAULTS = [
    "upload:nth=3,lost_reply=close", "create:nth=1,status=500", "start:nth=1,error_after_commit=500",
    "inputs:nth=2,corrupt_list=twice",
]  # fmt: skip
NEVER_LEFT = ((FlowState.CREATING, FlowState.PLANNED), (FlowState.STARTING, FlowState.OPEN))


def key(number: int) -> bytes:
    return (number + 1).to_bytes(16, "big")


async def test_announced_and_never_left_is_pending_after_a_crash_and_left_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    keys = [key(number) for number in range(3)]
    pid = os.fork()
    if pid == 0:

        async def crash() -> None:
            journal = SqliteJournal(path, "b", 15)
            sending = [InputFacts(key, InputState.SENDING) for key in keys]
            await journal.record(
                PutFlow(FlowFacts("a flow", FlowState.OPEN, "id-1")), PutFlow(FlowFacts("c", FlowState.CREATING, generation=1)),
                PutFlow(FlowFacts("d", FlowState.CREATING, generation=1)), *(PutInput("a flow", row) for row in sending),
            )  # fmt: skip
            journal.mark_sent(keys[0])
            journal.mark_sent(keys[1])
            journal.mark_sent(flow_key("b", "d"))
            await journal.record(PutInput("a flow", InputFacts(keys[0], InputState.ACCEPTED)))
            os._exit(9)

        asyncio.new_event_loop().run_until_complete(crash())
    os.waitpid(pid, 0)
    journal = SqliteJournal(path, "b", 15)
    rows = journal.inputs("a flow", keys)
    assert [rows[key].state for key in keys] == [InputState.ACCEPTED, InputState.UNKNOWN, InputState.PENDING]
    assert rows[keys[1]].settle_deadline is not None
    states = {facts.name: facts.state for facts in journal.flows()}
    assert (states["c"], states["d"]) == (FlowState.PLANNED, FlowState.CREATING)
    journal.close()


async def test_where_the_boot_has_no_name_everything_that_was_announced_may_have_left(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    journal = SqliteJournal(path, "b", 15, boot=lambda: b"")
    await journal.record(
        PutFlow(FlowFacts("f", FlowState.OPEN, "i")), PutInput("f", InputFacts(key(1), InputState.SENDING)),
        PutFlow(FlowFacts("c", FlowState.CREATING, generation=1)),
    )  # fmt: skip
    journal.close()
    journal = SqliteJournal(path, "b", 15, boot=lambda: b"")
    assert next(journal.input_rows("f")).state is InputState.UNKNOWN
    creating = journal.flow("c")
    assert creating is not None
    assert creating.settle_deadline is not None
    assert journal.watch_until > creating.settle_deadline
    journal.close()


@pytest.mark.parametrize("cut", ["power", "damage"])
async def test_power_cut_takes_what_nobody_waited_for_and_damage_is_told_from_it(tmp_path: Path, cut: str) -> None:
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
    journal = SqliteJournal(after / path.name, "b", 15, boot=lambda: ANOTHER_BOOT)
    assert next(journal.input_rows("f")).state is InputState.UNKNOWN, "it may have left"
    journal.close()


async def test_commit_that_failed_is_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    journal = SqliteJournal(path, "b", 15)
    await journal.record(PutFlow(FlowFacts("f", FlowState.OPEN, "i")))
    journal._writer.execute("PRAGMA query_only=1")  # a disk that has become read-only
    with pytest.raises(JournalError):
        await journal.record(PutFlow(FlowFacts("g")))
    journal.close()
    journal = SqliteJournal(path, "b", 15, boot=lambda: ANOTHER_BOOT)  # not damaged: nothing is missing
    assert journal.flow("f") is not None
    journal.close()


# ---- a journal that ends anywhere: every prefix of what a real run records is opened again as after a kill, and what is
# decided from it makes progress and calls nothing done that is not


class Recording(MemoryJournal):
    """Keeps all that it is given, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Record] = []

    def post(self, *records: Record) -> None:
        self.kept += records
        super().post(*records)


async def record_run(folder: Path) -> list[Record]:
    batch = Batch(folder, files(folder, 3), flows=2)
    journal = Recording()
    async with Sandbox(folder / "sandbox", faults=[parse_fault(fault) for fault in FAULTS]) as sandbox:
        report = await run(batch.manifest(sandbox.url), Settings(), journal=journal)
        await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.problems or report.stop
    return journal.kept


def follows(before: FlowFacts | None, after: FlowFacts) -> bool:
    """Whether the row may follow: by one event, or two that are recorded as one."""
    state = before.state if before is not None else FlowState.PLANNED
    one = {b for (a, _), b in FLOW.items() if a is state} | {state}
    return after.state in one | {b for (a, _), b in FLOW.items() if a in one}


async def test_every_prefix_of_a_real_journal_is_legal_and_goes_on(tmp_path: Path) -> None:
    records = await record_run(tmp_path)
    assert len(records) > 40
    kinds = {type(record).__name__ for record in records}
    assert {"PutFlow", "PutInput", "ForgetInputs", "AddOrphan", "ClearOrphan"} <= kinds
    last: dict[bytes, InputFacts] = {}
    for record in records:
        if isinstance(record, PutInput):
            last[record.facts.key] = record.facts

    path = tmp_path / "j" / "m.sqlite"
    growing = SqliteJournal(path, "m", LIMITS.settle_s)
    flows: dict[str, FlowFacts] = {}
    rows: dict[str, dict[bytes, InputFacts]] = {}
    states: set[tuple[FlowState, bool]] = set()
    try:
        for count, record in enumerate(records, 1):
            match record:
                case PutFlow(facts):
                    assert follows(flows.get(facts.name), facts), (flows.get(facts.name), facts)
                    flows[facts.name] = facts
                    if facts.state is FlowState.CREATING and count % 2:
                        growing.mark_sent(flow_key("m", facts.name))
                case PutInput(name, row):
                    before = rows.setdefault(name, {}).get(row.key)
                    state = before.state if before is not None else InputState.PENDING
                    assert row.state is state or row.state in {b for (a, _), b in INPUT.items() if a is state}, (before, row)
                    rows[name][row.key] = row
                    if row.state is InputState.SENDING and count % 2:
                        growing.mark_sent(row.key)
                case ForgetInputs(name):
                    rows[name] = {}
            await growing.record(record)
            image = tmp_path / "image"
            shutil.rmtree(image, ignore_errors=True)
            shutil.copytree(path.parent, image)  # as kill -9 leaves it: nothing of it is closed
            opened = SqliteJournal(image / path.name, "m", LIMITS.settle_s)
            states |= look(opened, flows, rows, last)
            opened.close()
    finally:
        growing.close()
    assert {state for state, _ in states} == set(FlowState), "the run went through every state"


def look(
    journal: SqliteJournal, flows: dict[str, FlowFacts], rows: dict[str, dict[bytes, InputFacts]], last: dict[bytes, InputFacts]
) -> set[tuple[FlowState, bool]]:
    """Hold the journal after its recovery against what was recorded; returns what was met."""
    met: set[tuple[FlowState, bool]] = set()
    found = {facts.name: facts for facts in journal.flows()}
    assert found.keys() == flows.keys()
    for name, facts in found.items():
        kept = flows[name]
        assert facts.flow_id == kept.flow_id
        assert facts.generation == kept.generation, "a build's name is never given twice"
        if facts.state is not kept.state:  # announced, and never left
            assert (kept.state, facts.state) in NEVER_LEFT
        if facts.state in (FlowState.CREATING, FlowState.STARTING):
            assert facts.settle_deadline is not None, "an outcome that is not known has a time at which it is settled"
        mine = list(journal.input_rows(name))
        assert {row.key for row in mine} == rows.get(name, {}).keys()
        for row in mine:
            assert row.state is not InputState.SENDING, "nothing is under way after a crash"
            assert (row.settle_deadline is not None) == (row.state is InputState.UNKNOWN)
            before = rows[name][row.key]
            if before.state is InputState.SENDING:
                assert row.state in (InputState.PENDING, InputState.UNKNOWN)
            else:
                assert row == before
        action = decide(facts, kept.spec_digest, tally(mine, last), journal.count_inputs(name), False, False, Options())
        assert (action is Action.DONE) == (kept.state is FlowState.STARTED)
        assert action.works or action is Action.DONE, "something always follows"
        met.add((facts.state, action.works))
    return met


def tally(mine: Sequence[InputFacts], last: dict[bytes, InputFacts]) -> Tally:
    """As the planner counts, with unchanged sources."""
    known = {row.key: row for row in mine}
    found = Tally()
    for key, meant in last.items():
        if key in known or not mine:
            match change_of(known.get(key), meant.spec_digest, meant.stat, None, trust=True):
                case Change.NEW:
                    found.new += 1
                case Change.DIFFERS:
                    found.differs += 1
                case _:
                    found.same += 1
    return found
