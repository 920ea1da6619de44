"""What had left, as a file tells it after a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from batcher.core.facts import FlowFacts, InputFacts, PutFlow, PutInput
from batcher.core.lifecycle import FlowState, InputState
from batcher.journal.sent_marks import SLOTS
from batcher.journal.sqlite import SqliteJournal

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
