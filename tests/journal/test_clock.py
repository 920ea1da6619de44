"""The journal's own time, from one process to the next."""

from __future__ import annotations

import pytest

from batcher.journal.clock import BOOT_BYTES, JournalClock, boot_name

BOOT, ANOTHER = b"this".ljust(BOOT_BYTES, b"\0"), b"another".ljust(BOOT_BYTES, b"\0")


def test_it_goes_on_with_the_steady_clock_within_a_boot() -> None:
    first = JournalClock(None, BOOT, 1000.0, lambda: 50.0)
    assert (first.opened_at, first.new_boot) == (1000.0, False)
    second = JournalClock(first.kept, BOOT, 5.0, lambda: 53.5)  # the wall clock was set back meanwhile
    assert (second.opened_at, second.new_boot) == (1003.5, False)
    assert second.now() == 1003.5


@pytest.mark.parametrize(("boot", "steady"), [(ANOTHER, 60.0), (BOOT, 49.0)])
def test_after_a_start_of_the_machine_the_wall_clock_is_all_there_is(boot: bytes, steady: float) -> None:
    kept = JournalClock(None, BOOT, 1000.0, lambda: 50.0).kept
    clock = JournalClock(kept, boot, 5000.0, lambda: steady)
    assert (clock.opened_at, clock.new_boot) == (5000.0, True)


def test_boot_that_has_no_name_proves_no_start_and_no_going_on() -> None:
    for kept in (JournalClock(None, BOOT, 1.0, lambda: 50.0).kept, JournalClock(None, b"", 1.0, lambda: 50.0).kept):
        clock = JournalClock(kept, b"", 5000.0, lambda: 60.0)
        assert (clock.opened_at, clock.new_boot) == (5000.0, False)


@pytest.mark.parametrize("kept", ["soon", "a b c", ""])
def test_what_is_no_time_is_refused(kept: str) -> None:
    with pytest.raises(ValueError):
        JournalClock(kept, BOOT, 1.0, lambda: 1.0)


def test_name_of_this_boot_is_as_long_as_the_sent_marks_keep_it() -> None:
    assert len(boot_name()) in (0, BOOT_BYTES)
    assert boot_name() == boot_name()
