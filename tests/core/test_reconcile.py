"""A start follows only from a list that is exactly what was meant."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.core.facts import InputFacts
from batcher.core.lifecycle import InputState
from batcher.core.reconcile import (
    Incomplete,
    Listed,
    Rebuild,
    Reconciled,
    SendAgain,
    Start,
    Wait,
    expected_sum,
    listed_sum,
    reconcile,
)
from batcher.core.tags import Multiset

KEYS = [bytes([n]) * 16 for n in range(5)]
SHA = [bytes([n]) * 32 for n in range(5)]


def row(n: int, state: InputState = InputState.ACCEPTED, **more: object) -> InputFacts:
    return replace(InputFacts(KEYS[n], state, SHA[n]), **more)


def shown(n: int, status: str = "ready") -> Listed:
    return Listed(KEYS[n], SHA[n], status)


def decide(rows: list[InputFacts], listed: list[Listed], now: float = 100.0, start_after: float | None = None) -> object:
    return reconcile(rows, {}, listed, meant=len(rows), now=now, start_after=start_after).decision


@given(
    st.lists(st.sampled_from([InputState.ACCEPTED, InputState.UNKNOWN, InputState.PENDING, InputState.REFUSED]), max_size=4),
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["ready", "available", "processing", "error"])), max_size=6),
    st.booleans(),
)
def test_start_only_for_exactly_what_was_meant(
    states: list[InputState], listed: list[tuple[int, str]], answered: bool
) -> None:
    rows = [row(n, state, settle_deadline=50.0, answered=answered) for n, state in enumerate(states)]
    assets = [shown(n, status) for n, status in listed]
    if isinstance(decide(rows, assets), Start):
        assert sorted(n for n, _ in listed) == list(range(len(rows)))
        assert all(status in ("ready", "available") for _, status in listed)
        assert all(state in (InputState.ACCEPTED, InputState.UNKNOWN) for state in states)


def test_sum_of_a_right_list_is_the_sum_of_the_rows_in_any_order() -> None:
    total = Multiset()
    assert listed_sum([shown(2), shown(0), shown(1)], total)
    assert expected_sum([row(0), row(1), row(2)], {}) == total
    assert expected_sum([row(0), row(1, InputState.UNKNOWN)], {}) is None


def test_silent_unknown_is_waited_for_and_then_never_sent_again_into_that_flow() -> None:
    unknown = row(1, InputState.UNKNOWN, settle_deadline=200.0)
    assert decide([row(0), unknown], [shown(0)]) == Wait(200.0, "an input was sent without an answer")
    assert isinstance(decide([row(0), unknown], [shown(0)], now=200.0), Rebuild)
    assert decide([row(0), unknown], [shown(0), shown(1)]) == Start()


def test_answered_unknown_is_sent_again_and_holds_the_start_back() -> None:
    unknown = row(1, InputState.UNKNOWN, settle_deadline=200.0, answered=True)
    assert decide([row(0), unknown], [shown(0)]) == SendAgain((KEYS[1],), 200.0)
    assert isinstance(decide([row(0), row(1)], [shown(0), shown(1)], start_after=200.0), Wait)
    assert decide([row(0), row(1)], [shown(0), shown(1)], now=200.0, start_after=200.0) == Start()


def test_foreign_repeated_or_other_content_is_beyond_repair() -> None:
    assert isinstance(decide([row(0)], [shown(0), shown(1)]), Rebuild)
    assert isinstance(decide([row(0)], [shown(0), shown(0)]), Rebuild)
    assert isinstance(decide([row(0)], [Listed(KEYS[0], SHA[1], "ready")]), Rebuild)


def test_rows_that_are_not_the_manifests_inputs_never_start() -> None:
    assert reconcile([row(0)], {}, [shown(0)], meant=2, now=0, start_after=None).decision == Incomplete()
    assert decide([row(0, InputState.PENDING)], []) == Incomplete()


def test_seen_once_after_it_was_sent_twice_says_nothing_of_the_other_request() -> None:
    """The first was answered with an error and may be done until its settling time is over; the second got no answer, so
    it may be done at any time: one on the list may be either."""
    silent = row(1, InputState.UNKNOWN, settle_deadline=200.0, resent=True)
    assert isinstance(decide([row(0), silent], [shown(0), shown(1)]), Rebuild)
    answered = row(1, InputState.UNKNOWN, settle_deadline=200.0, answered=True, resent=True)
    assert isinstance(decide([row(0), answered], [shown(0), shown(1)]), Wait)
    assert decide([row(0), answered], [shown(0), shown(1)], now=200.0) == Start()
    assert decide([row(0), row(1, resent=True)], [shown(0), shown(1)]) == Start(), "its start is held back by start_after"


def equal(n: int, state: InputState = InputState.UNKNOWN, **more: object) -> InputFacts:
    """One of several inputs without tags that are all the same."""
    return row(n, state, sha256=SHA[0], tagged=False, **more)


def held_against(rows: list[InputFacts], shown_times: int, now: float = 100.0) -> Reconciled:
    listed = [Listed(b"same", SHA[0], "ready", tagged=False)] * shown_times
    return reconcile(rows, dict.fromkeys(KEYS, b"same"), listed, meant=len(rows), now=now, start_after=None)


def test_silent_one_of_equal_inputs_is_not_taken_for_the_one_that_is_shown() -> None:
    rows = [equal(0, settle_deadline=200.0), equal(1, settle_deadline=150.0, answered=True)]
    found = held_against(rows, 1)
    assert found.decision == Wait(200.0, "an input was sent without an answer")
    assert found.seen == (KEYS[1],)
    assert isinstance(held_against(rows, 1, now=200.0).decision, Rebuild)
    assert held_against(rows, 2, now=200.0).decision == Start()


def test_equal_input_that_was_sent_again_may_be_shown_in_place_of_a_silent_one() -> None:
    rows = [equal(0, settle_deadline=200.0), equal(1, InputState.ACCEPTED, resent=True)]
    assert isinstance(held_against(rows, 2).decision, Rebuild)


def test_equal_input_that_is_seen_holds_the_start_back_as_long_as_it_may_be_another() -> None:
    rows = [equal(0, settle_deadline=300.0, answered=True), equal(1, settle_deadline=150.0, answered=True)]
    decision = held_against(rows, 1).decision
    assert isinstance(decision, SendAgain)
    assert decision.start_after == 300.0
    assert decision.keys in ((KEYS[0],), (KEYS[1],))


@pytest.mark.parametrize("state", [InputState.PENDING, InputState.REFUSED])
def test_row_of_an_input_that_was_never_taken_and_has_left_the_manifest_is_no_obstacle(state: InputState) -> None:
    rows = [row(0), row(1), row(2, state)]
    listed = [shown(0), shown(1)]
    assert reconcile(rows, {}, listed, meant=2, now=0, start_after=None).decision == Start()
    total = Multiset()
    assert listed_sum(listed, total)
    assert expected_sum(rows, {}) == total
    rows[2] = row(2, state, resent=True)  # an earlier attempt was answered, and may yet be done
    assert reconcile(rows, {}, listed, meant=2, now=0, start_after=None).decision == Incomplete()
    assert expected_sum(rows, {}) is None
