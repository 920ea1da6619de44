"""Who may write what: claims, the lead, and what a new owner finds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from batcher.core.errors import ClaimLost, Locked
from batcher.core.facts import (
    WATCH_S,
    AddOrphan,
    ClearOrphan,
    EndFacts,
    FlowFacts,
    ForgetInputs,
    InputFacts,
    OutputFacts,
    PutEnd,
    PutFlow,
    PutInput,
    PutOutput,
    PutRun,
    PutTimes,
    Record,
    ReleaseFlow,
    SeeOutput,
    UnknownFlowsChecked,
    Watch,
)
from batcher.core.lifecycle import FlowState, InputState
from batcher.core.measuring import FlowTimes
from batcher.journal.postgres import writer
from batcher.journal.postgres.journal import PostgresJournal
from tests.postgres import journal_at, server

pytestmark = pytest.mark.anyio

KEYS = [bytes([n + 1]) * 16 for n in range(4)]
FENCED: list[Record] = [
    PutFlow(FlowFacts("f", FlowState.OPEN, "late")),
    PutInput("f", InputFacts(KEYS[0], InputState.SENDING)),
    ForgetInputs("f"),
    AddOrphan("late", "f"),
]
FACTS: list[Record] = [
    PutTimes("f", FlowTimes(1.0)),
    PutRun(1.0, 1, {}),
    Watch(3.0),
    ClearOrphan("x"),
    ReleaseFlow("y"),
    PutEnd(EndFacts("i", "f", "completed")),
    SeeOutput(OutputFacts("i", "a")),
    PutOutput(OutputFacts("i", "b")),
]
Opener = Callable[..., PostgresJournal]


@pytest.fixture
def opened(tmp_path) -> Iterator[Opener]:
    """Runs on one schema: `a`, `b` and so on."""
    with ExitStack() as stack:

        def opener(run: str, *, exclusive: bool = False) -> PostgresJournal:
            journal = journal_at(tmp_path, run=run, exclusive=exclusive)
            stack.callback(journal.close)
            return journal

        yield opener


async def lost(*awaited: Awaitable[None]) -> None:
    for one in awaited:
        with pytest.raises(ClaimLost):
            await one


@pytest.mark.parametrize("record", FENCED, ids=lambda record: type(record).__name__)
async def test_whose_claim_was_taken_over_writes_nothing_more(opened: Opener, record: Record) -> None:
    a, b = opened("a"), opened("b")
    await a.claim(["f"])
    await a.record(PutFlow(FlowFacts("f", FlowState.CREATING, generation=1)))
    await a.record(PutInput("f", InputFacts(KEYS[3], InputState.ACCEPTED)))
    await b.claim(["f"])
    before = b.flow("f"), list(b.input_rows("f")), b.orphans()
    a.post(PutEnd(EndFacts("in the same transaction", "f", "failed")))
    await lost(a.record(record))
    await lost(a.record(*FACTS), a.claim(["g"]), a.record(), a.take_lead())
    assert (b.flow("f"), list(b.input_rows("f")), b.orphans()) == before
    assert b.end("in the same transaction") is None
    await b.record(PutFlow(FlowFacts("f", FlowState.OPEN, "i", 1)))
    assert a.flow("f") == FlowFacts("f", FlowState.OPEN, "i", 1), "it may look"


@pytest.mark.parametrize("record", FENCED, ids=lambda record: type(record).__name__)
async def test_flow_that_nobody_claimed_is_the_leads_and_nobody_elses(opened: Opener, record: Record) -> None:
    a, b = opened("a"), opened("b")
    await a.take_lead()
    await a.record(PutFlow(FlowFacts("f")))
    await a.record(record)
    await lost(b.record(record))


@pytest.mark.parametrize("record", FENCED, ids=lambda record: type(record).__name__)
async def test_lead_writes_no_flow_that_another_has_claimed(opened: Opener, record: Record) -> None:
    a, b = opened("a"), opened("b")
    await a.take_lead()
    await a.record(PutFlow(FlowFacts("f")))
    await b.claim(["f"])
    await lost(a.record(record))
    await a.rejoin()
    await a.take_lead()
    await b.release(["f"])
    await a.record(record)


@pytest.mark.parametrize("record", FACTS, ids=lambda record: type(record).__name__)
async def test_facts_are_anybodys(opened: Opener, record: Record) -> None:
    a = opened("a")
    await a.record(record)


async def test_lead_that_was_taken_over_writes_no_flow_that_is_not_its_own(opened: Opener) -> None:
    a, b = opened("a"), opened("b")
    await a.take_lead()
    await a.claim(["mine"])
    await b.take_lead()
    await a.record(PutFlow(FlowFacts("mine")))
    await lost(a.record(PutFlow(FlowFacts("f"))))


async def test_that_flows_were_checked_is_the_leads_word_or_that_of_who_has_a_claim(opened: Opener) -> None:
    a, b, c = opened("a"), opened("b"), opened("c")
    await lost(a.record(UnknownFlowsChecked()))
    await b.claim(["f"])
    await c.claim(["f"])
    await lost(b.record(UnknownFlowsChecked()))
    assert not c.unknown_flows_checked
    await c.record(UnknownFlowsChecked())
    assert c.unknown_flows_checked
    await a.rejoin()
    await a.take_lead()
    await a.record(UnknownFlowsChecked())
    await c.take_lead()
    await lost(a.record(UnknownFlowsChecked()))


async def test_run_that_was_lost_goes_on_once_it_joins_again(opened: Opener) -> None:
    a, b = opened("a"), opened("b")
    await a.claim(["f", "g"])
    await a.take_lead()
    await b.claim(["f"])
    await lost(a.record(PutFlow(FlowFacts("f"))))
    a.post(PutRun(5.0, 1, {}))
    await a.release(["g"])
    await a.drop_lead()
    await a.rejoin()
    assert a.runs() == [], "what was posted meanwhile is forgotten"
    await b.take_lead()
    await b.record(PutFlow(FlowFacts("g")))
    await lost(a.record(PutFlow(FlowFacts("g"))))
    await a.rejoin()
    await a.claim(["g"])
    await a.record(PutFlow(FlowFacts("g", inputs=3)))
    assert b.flow("g") == FlowFacts("g", inputs=3)


async def test_run_may_join_again_while_the_writer_waits_for_more(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it waited with is forgotten, and the wait is over before anything else comes: as of a run that was frozen then."""
    monkeypatch.setattr(writer, "LINGER_S", 0.1)
    a = opened("a")
    a.post(PutRun(5.0, 1, {}))
    await asyncio.sleep(0.05)
    with a._writer._changed:
        a._writer._items.clear()
    await asyncio.sleep(0.2)
    await asyncio.wait_for(a.rejoin(), 10)
    await asyncio.wait_for(a.record(PutRun(6.0, 1, {})), 10)
    assert [at for at, _ in a.runs()] == [6.0]


async def test_released_flow_is_nobodys_and_one_that_was_taken_over_stays_so(opened: Opener) -> None:
    a, b = opened("a"), opened("b")
    await a.claim(["f", "g"])
    a.post(PutFlow(FlowFacts("f", inputs=7)))
    await b.claim(["g"])
    await a.release(["f", "g", "never had"])
    assert b.flow("f") == FlowFacts("f", inputs=7), "posted before it was released"
    with server().connect(a._address) as beside:
        found = beside.execute("SELECT flow, epoch, run FROM claims ORDER BY flow").fetchall()
        assert found == [("f", 1, None), ("g", 2, "b")]
    await lost(a.record(PutFlow(FlowFacts("f"))))


async def test_what_an_earlier_owner_left_open_is_settled_by_the_claim(opened: Opener) -> None:
    a, b = opened("a"), opened("b")
    await a.claim(["f", "creating", "starting", "far", "near", "other"])
    far = a.now() + 1000
    rows = [
        InputFacts(KEYS[0], InputState.SENDING, answered=True, resent=True),
        InputFacts(KEYS[1], InputState.ACCEPTED, b"s" * 32),
        InputFacts(KEYS[2], InputState.UNKNOWN, settle_deadline=far, answered=True),
        InputFacts(KEYS[3], InputState.UNKNOWN, settle_deadline=5.0, answered=True),
    ]
    await a.record(
        PutFlow(FlowFacts("f", FlowState.OPEN, "i")),
        PutFlow(FlowFacts("creating", FlowState.CREATING)),
        PutFlow(FlowFacts("starting", FlowState.STARTING, "j")),
        PutFlow(FlowFacts("far", FlowState.STARTING, "k", settle_deadline=far, start_after=far)),
        PutFlow(FlowFacts("near", FlowState.CREATING, settle_deadline=4.0, start_after=3.0)),
        PutFlow(FlowFacts("other", FlowState.STARTING, "l")),
        *(PutInput("f", row) for row in rows),
        *(PutInput("other", row) for row in rows),
    )
    before = b.now()
    await b.claim(["f", "creating", "starting", "far", "near", "new"])
    after = b.now()
    deadline = b.flow("starting").settle_deadline
    assert before + 15 - 0.1 <= deadline <= after + 15 + 0.1
    assert list(b.input_rows("f")) == [
        replace(rows[0], state=InputState.UNKNOWN, settle_deadline=deadline, answered=False),
        rows[1],
        replace(rows[2], settle_deadline=deadline),
        rows[3],
    ]
    assert b.flow("f") == FlowFacts("f", FlowState.OPEN, "i")
    assert b.flow("creating") == FlowFacts("creating", FlowState.CREATING, settle_deadline=deadline)
    assert b.flow("far") == FlowFacts("far", FlowState.STARTING, "k", settle_deadline=deadline, start_after=deadline)
    assert b.flow("near") == FlowFacts("near", FlowState.CREATING, settle_deadline=4.0, start_after=3.0)
    assert b.watch_until == deadline + WATCH_S
    assert b.flow("other") == FlowFacts("other", FlowState.STARTING, "l"), "not claimed"
    assert list(b.input_rows("other")) == rows
    await a.rejoin()
    await asyncio.sleep(0.01)
    await a.claim(["starting", "creating"])
    assert a.flow("starting").settle_deadline == deadline, "the next claim does not begin the wait anew"
    assert a.watch_until == deadline + WATCH_S


async def test_exclusive_journal_is_at_it_alone_and_settles_all(opened: Opener, tmp_path) -> None:
    a = opened("a")
    await a.claim(["f"])
    await a.record(PutFlow(FlowFacts("f", FlowState.STARTING, "i")), PutInput("f", InputFacts(KEYS[0], InputState.SENDING)))
    with pytest.raises(Locked):
        opened("b", exclusive=True)
    with server().connect(a._address) as beside:  # a run that was killed keeps its claim
        a.close()
        beside.execute("UPDATE claims SET run = 'a'")
        with pytest.raises(Locked):
            opened("b", exclusive=True)
        beside.execute("UPDATE claims SET run = NULL")
    b = opened("b", exclusive=True)
    assert b.flow("f").settle_deadline == b.input_rows("f").__next__().settle_deadline > b.now()
    with pytest.raises(Locked):
        opened("c", exclusive=True)
    with pytest.raises(Locked):
        opened("d")
    await b.record(*FENCED, UnknownFlowsChecked())
    b.close()
    opened("e").close()


async def test_claim_waits_for_what_the_lead_is_writing(opened: Opener) -> None:
    """Also of a flow that has no row that could be locked."""
    a, b = opened("a"), opened("b")
    await a.take_lead()
    await a.record(PutFlow(FlowFacts("other")))
    with server().connect(a._address) as beside:
        beside.execute("BEGIN")  # its row holds up who writes the flow, and not who claims it
        columns = "name, state, generation, external, spec_digest, stat_digest, content, inputs, size_bytes"
        beside.execute(f"INSERT INTO flows({columns}) VALUES ('f', 'open', 0, false, '', '', '', 0, 0)")
        writing = asyncio.ensure_future(a.record(PutFlow(FlowFacts("f", inputs=1))))
        await asyncio.sleep(0.2)
        claiming = asyncio.ensure_future(b.claim(["f"]))
        await asyncio.sleep(0.2)
        assert not claiming.done()
        beside.execute("ROLLBACK")
        await asyncio.gather(writing, claiming)
    assert b.flow("f") == FlowFacts("f", inputs=1)
    await lost(a.record(PutFlow(FlowFacts("f", inputs=2))))


async def test_first_lead_waits_for_a_claim_that_is_being_made(opened: Opener) -> None:
    """Else it would not see that the flow is somebody's."""
    a, b = opened("a"), opened("b")
    await b.claim(["other"])
    with server().connect(a._address) as beside:
        beside.execute("BEGIN")
        beside.execute("LOCK TABLE flows IN EXCLUSIVE MODE")
        claiming = asyncio.ensure_future(b.claim(["f"]))
        await asyncio.sleep(0.2)
        leading = asyncio.ensure_future(a.take_lead())
        await asyncio.sleep(0.2)
        assert not leading.done()
        beside.execute("ROLLBACK")
        await asyncio.gather(claiming, leading)
    await lost(a.record(PutFlow(FlowFacts("f"))))
