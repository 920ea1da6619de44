"""Whose request leaves next: what finishes first, and nobody waits for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.core.retry import Call
from batcher.core.turns import PASSED, PATIENCE_S, Turns

ORDER = [Call.START, Call.INPUTS, Call.UPLOAD, Call.CREATE]


def test_what_finishes_first_goes_first() -> None:
    turns: Turns[Call] = Turns()
    for call in reversed(ORDER):
        turns.add(call, call, 0.0)
    assert [turns.take(0.0) for _ in ORDER] == ORDER
    assert not turns


@given(st.lists(st.sampled_from(Call), max_size=40))
def test_requests_of_one_kind_go_in_their_order_and_none_is_lost(calls: list[Call]) -> None:
    turns: Turns[tuple[Call, int]] = Turns()
    for number, call in enumerate(calls):
        turns.add(call, (call, number), 0.0)
    gone = [turns.take(0.0) for _ in range(len(turns))]
    assert sorted(number for _, number in gone) == list(range(len(calls)))
    for call in Call:
        numbers = [number for other, number in gone if other is call]
        assert numbers == sorted(numbers)


def test_kind_that_was_passed_over_often_and_for_long_gets_a_turn() -> None:
    turns: Turns[str] = Turns()
    turns.add(Call.CREATE, "create", 0.0)
    turns.add(Call.CREATE, "another", 0.0)
    for number in range(3 * PASSED):
        turns.add(Call.INPUTS, f"look {number}", 0.0)
    early = [turns.take(PATIENCE_S / 2) for _ in range(PASSED)]
    assert "create" not in early  # often enough, and not for long
    assert turns.take(PATIENCE_S) == "create"
    late = [turns.take(3 * PATIENCE_S) for _ in range(PASSED + 1)]
    assert late.index("another") == PASSED  # for long, and only then often enough


@given(st.lists(st.sampled_from([Call.START, Call.INPUTS, Call.UPLOAD]), min_size=1, max_size=5), st.sampled_from(ORDER))
def test_nothing_waits_for_ever_however_many_of_others_come(flood: list[Call], call: Call) -> None:
    turns: Turns[str] = Turns()
    turns.add(call, "patient", 0.0)
    for step in range(10 * PASSED):
        now = step * PATIENCE_S / PASSED
        for other in flood:
            turns.add(other, "other", now)
        if turns.take(now) == "patient":
            return
    pytest.fail("it is still waiting")


def test_where_the_service_may_be_away_something_that_only_reads_goes_first() -> None:
    turns: Turns[Call] = Turns()
    for call in ORDER:
        turns.add(call, call, 0.0)
    assert turns.take(0.0, probe=True) is Call.INPUTS
    assert turns.take(0.0, probe=True) is Call.START  # nothing that only reads


def test_all_are_taken_at_once() -> None:
    turns: Turns[Call] = Turns()
    for call in ORDER:
        turns.add(call, call, 0.0)
    assert list(turns.take_all()) == ORDER
    assert not turns
    with pytest.raises(IndexError):
        turns.take(0.0)
