"""When outputs are fetched, and which are missing."""

from __future__ import annotations

import random

import pytest

from batcher.core.collecting import POLL_S, End, Ids, Lack, Step, end_of, poll_delay_s, stands_still, step


def test_what_is_missing_is_named_where_it_can_be_told() -> None:
    lack = Lack(inputs=6, outputs=1)
    for label in ("a", "b", "c", "d", "e"):
        lack.add(label, True)
    assert (lack.missing, lack.named, lack.words) == (5, 5, "5 are missing, of a, b, c and 2 more")
    lack = Lack(inputs=3, outputs=2, unsourced=2)  # two outputs that tell of nothing may be of any
    for label in ("a", "b", "c"):
        lack.add(label, True)
    assert (lack.missing, lack.named, lack.words) == (1, 0, "1 is missing; of which inputs cannot be told")
    lack = Lack(inputs=2, outputs=4)  # one input has all of them
    lack.add("b", True)
    assert (lack.missing, lack.words) == (1, "1 is missing, of b")
    assert Lack(inputs=3, outputs=3).missing == Lack(inputs=0, outputs=2).missing == 0


def test_ids_are_a_set_however_often_each_is_listed() -> None:
    once, again, other = Ids(), Ids(), Ids()
    for ids, names in ((once, "abc"), (again, "cabbac"), (other, "abd")):
        for name in names:
            ids.add(name)
    assert once.distinct() == again.distinct() != other.distinct()
    assert len(again.distinct()) == 3


def test_states_that_nobody_knows_are_not_the_end_and_polling_eases_off() -> None:
    assert {end_of(state) for state in ("completed", "succeeded", "success", "done", "finished")} == {End.COMPLETED}
    assert {end_of(state) for state in ("failed", "error", "errored", "expired", "timeout", "timed-out")} == {End.FAILED}
    assert {end_of(state) for state in ("aborted", "cancelled", "canceled")} == {End.ABORTED}
    assert step("succeeded") is step("completed") is Step.FETCH
    assert step("failed") is step("canceled") is step("aborted") is Step.FETCH_APART
    assert {step(state) for state in ("created", "starting", "running", "aborting", "", "post-processing")} == {Step.WAIT}
    rng = random.Random(1)
    assert all(0.8 * POLL_S[n] <= poll_delay_s(n, rng) <= 1.2 * POLL_S[n] for n in range(len(POLL_S)))
    assert poll_delay_s(10_000, rng) <= 36.0


@pytest.mark.parametrize(
    ("state", "finished", "progress", "unchanged_s", "over", "found"),
    [
        ("archived", True, 0.3, 59, False, False),
        ("archived", True, 0.3, 60, False, True),
        ("archived", False, 1.0, 60, False, True),
        ("archived", False, 0.9, 9999, True, False),
        ("archived", True, 0.3, 0, True, True),
        ("archived", False, 1.0, 0, True, False),
        ("running", True, 1.0, 9999, True, False),
        ("completed", True, 1.0, 9999, True, False),
    ],
)
def test_unknown_state_that_stands_still_at_its_end_is_waited_for_no_longer(
    state: str, finished: bool, progress: float, unchanged_s: float, over: bool, found: bool
) -> None:
    assert stands_still(state, finished, progress, unchanged_s, over) is found
