"""Many records in one statement for each kind: in PostgreSQL they come to what they come to one after the other in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from batcher.core.facts import (
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
from batcher.journal.ports import JournalView
from batcher.journal.postgres.journal import PostgresJournal
from batcher.journal.postgres.texts import original, stored
from tests.postgres import journal_at, server

KNOWN = ["f0", "half \ud800 a pair"]  # flows that have a row from the beginning
NAMES = [*KNOWN, "NUL \0 and \x1a0041", "f3"]
IDS = ["id-0", "id-1", "id-\udfff"]
KEYS = [bytes([n]) * 16 for n in range(3)]

names, ids, keys = st.sampled_from(NAMES), st.sampled_from(IDS), st.sampled_from(KEYS)
times = st.none() | st.sampled_from([1.5, 2.5, 3.5])
small = st.integers(0, 3)
flows = st.builds(
    FlowFacts, names, st.sampled_from(FlowState), st.none() | ids, small, st.booleans(), settle_deadline=times,
    start_after=times, inputs=small, problem=st.none() | st.sampled_from(["{}", "\0"]),
)  # fmt: skip
inputs = st.builds(
    InputFacts, keys, st.sampled_from(InputState), st.none() | st.just(b"s"), stat=st.builds(FileStat, small, st.just(-1)),
    tagged=st.booleans(), settle_deadline=times, answered=st.booleans(), resent=st.booleans(),
)  # fmt: skip
outputs = st.builds(
    OutputFacts, ids, st.sampled_from(["a", "b"]), st.none() | keys, st.sampled_from(OutputState), st.sampled_from(["", "s\0"]),
    path=st.sampled_from(["", "p/q.glb"]),
)  # fmt: skip
ends = st.builds(EndFacts, ids, names, st.sampled_from(["completed", "failed"]), remote=st.sampled_from(Remote), missing=small,
                 seen_at=times, folder=st.sampled_from(["", "to\0"]))  # fmt: skip
records = st.one_of(
    st.builds(PutFlow, flows), st.builds(PutInput, st.sampled_from(KNOWN), inputs), st.builds(ForgetInputs, names),
    st.builds(AddOrphan, ids, names), st.builds(ClearOrphan, ids), st.builds(ReleaseFlow, ids),
    st.builds(Watch, st.sampled_from([7.0, 10.5, 1e9])), st.just(UnknownFlowsChecked()),
    st.builds(PutTimes, names, st.builds(FlowTimes, times, times, times, times, times, times)),
    st.builds(PutRun, st.sampled_from([1.0, 2.0, 3.0]), small, st.just({"n": "\0"})),
    st.builds(PutEnd, ends), st.builds(PutAttempt, st.builds(AttemptFacts, names, ids, small, times)),
    st.builds(SeeOutput, outputs), st.builds(PutOutput, outputs),
)  # fmt: skip


@pytest.fixture(scope="module")
def journal() -> Iterator[PostgresJournal]:
    made = journal_at("folding")
    yield made
    made.close()


def all_of(journal: JournalView) -> list[object]:
    return [
        list(journal.flows()),
        list(journal.flows_and_ends()),
        [list(journal.input_rows(name)) for name in NAMES],
        sorted(journal.orphans()),  # what is escaped sorts elsewhere
        [sorted(journal.orphans(name)) for name in NAMES],
        [journal.was_released(one) for one in IDS],
        [journal.name_of(one) for one in IDS],
        set(journal.some_flow_ids(2)),
        journal.watch_until,
        journal.unknown_flows_checked,
        journal.flow_times(NAMES),
        {name: sorted(found, key=lambda one: (one.generation, one.flow_id)) for name, found in journal.attempts(NAMES).items()},
        journal.count_starts(),
        journal.output_tallies(IDS),
        journal.runs(),
        [journal.end(one) for one in IDS],
        journal.bad_ends(),
        [journal.outputs(one) for one in IDS],
        [sorted(row.asset_id for row in journal.outputs_of(one, KEYS)) for one in IDS],
        sorted(stat.size for stat in journal.collected()),
        {name: tally for name, tally in journal.tallies(NAMES).items() if tally},
        journal.counts(NAMES),
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([[PutAttempt(AttemptFacts("f0", "id-0", 0)), PutAttempt(AttemptFacts("f0", "id-\udfff", 0))]])
@example([[PutTimes("f3", FlowTimes(1.5)), PutFlow(FlowFacts("f3"))]])
@example([[PutFlow(FlowFacts("f3")), PutTimes("f3", FlowTimes(1.5))]])
@given(st.lists(st.lists(records, max_size=12), max_size=4))
def test_records_come_to_the_same_however_many_are_written_together(
    journal: PostgresJournal, together: list[list[Record]]
) -> None:
    with server().connect(journal._address) as beside:
        tables = ("flows", "inputs", "orphans", "released_flows", "flow_times", "runs", "ends", "attempts", "outputs", "meta")
        for table in tables:
            beside.execute(f"DELETE FROM {table}")
    memory = MemoryJournal()

    async def story() -> None:
        for part in ([PutFlow(FlowFacts(name)) for name in KNOWN], *together):
            memory.post(*part)
            for record in part[:-1]:
                journal.post(record)
            await journal.record(*part[-1:])

    asyncio.run(story())
    assert all_of(journal) == all_of(memory)


@given(st.text(st.characters(codec=None, exclude_categories=[]) | st.sampled_from("\0\x1a\ud8000a")))
def test_any_text_comes_back_as_it_was(text: str) -> None:
    kept = stored(text)
    kept.encode()
    assert "\0" not in kept
    assert original(kept) == text
