"""A journal without a disk."""

from __future__ import annotations

import pytest

from batcher.core.facts import AddOrphan, FlowFacts, ForgetInputs, InputFacts, PutFlow, PutInput, UnknownFlowsChecked
from batcher.core.lifecycle import FlowState, InputState
from batcher.journal.memory import MemoryJournal

pytestmark = pytest.mark.anyio


def key(number: int) -> bytes:
    return (number + 1).to_bytes(16, "big")


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
