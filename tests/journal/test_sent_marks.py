"""What had left, as a file tells it after a kill."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from batcher.core.facts import FlowFacts, InputFacts, PutFlow, PutInput
from batcher.core.lifecycle import FlowState, InputState
from batcher.journal.clock import BOOT_BYTES
from batcher.journal.sent_marks import SIZE, SLOTS, SentMarks, read_sent_marks
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


BOOT = b"this".ljust(BOOT_BYTES, b"\0")


def test_marks_outlive_the_process_and_are_gone_once_they_are_cleared(tmp_path: Path) -> None:
    path = tmp_path / "m.left"
    with closing(SentMarks(path, BOOT)) as marks:
        assert marks.left is None, "nothing is known"
        marks.begin()
        for number in range(3):
            marks.mark(key(number))
        marks.clear(key(1))
        marks.clear(key(7))
    assert read_sent_marks(path, BOOT) == {key(0), key(2)}
    with closing(SentMarks(path, BOOT)) as marks:
        assert marks.left == {key(0), key(2)}
        marks.begin()
    assert read_sent_marks(path, BOOT) == frozenset()


@pytest.mark.parametrize("boot", [b"another".ljust(BOOT_BYTES, b"\0"), b""])
def test_after_a_start_of_the_machine_nothing_is_known(tmp_path: Path, boot: bytes) -> None:
    path = tmp_path / "m.left"
    with closing(SentMarks(path, BOOT)) as marks:
        marks.begin()
        marks.mark(key(0))
        marks.committed(9)
        marks.synced(7)
    assert read_sent_marks(path, boot) is None
    with closing(SentMarks(path, boot)) as marks:
        assert (marks.left, marks.commits) == (None, 7), "what was not on the disk may be gone"
    with closing(SentMarks(path, BOOT)) as marks:
        assert marks.commits == 9


def test_file_of_another_length_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.left"
    assert read_sent_marks(path, BOOT) is None
    with closing(SentMarks(path, BOOT)) as marks:
        marks.begin()
    path.write_bytes(path.read_bytes()[:-1])
    assert read_sent_marks(path, BOOT) is None
    with closing(SentMarks(path, BOOT)) as marks:
        assert marks.left is None
    assert path.stat().st_size == SIZE
