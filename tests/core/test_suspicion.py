"""Whom a 403 means: the rule by itself, with the times passed in."""

from __future__ import annotations

import pytest

from batcher.core.retry import Call
from batcher.core.suspicion import AT_END, NEVER_DONE, SINCE_DONE, Meaning, Suspicion


def served(*calls: Call, at: float = 1.0) -> Suspicion:
    """A key that has been served with these."""
    suspicion = Suspicion()
    for call in calls:
        suspicion.done(call, at)
    return suspicion


def test_a_refusal_among_successes_is_its_own() -> None:
    suspicion = served(Call.TEMPLATES, Call.UPLOAD)
    suspicion.done(Call.UPLOAD, 3.0)
    assert suspicion.refused(Call.UPLOAD, 403, 2.0) is Meaning.ITS_OWN


def test_a_refusal_since_which_nothing_was_done_asks_for_a_look() -> None:
    suspicion = served(Call.TEMPLATES, Call.UPLOAD)
    assert suspicion.refused(Call.UPLOAD, 403, 2.0) is Meaning.LOOK
    suspicion.done(Call.TEMPLATES, 3.0)  # the look
    assert suspicion.refused(Call.UPLOAD, 403, 2.5) is Meaning.ITS_OWN, "one look for all that were under way"


@pytest.mark.parametrize("status", [402, 403])
def test_many_different_things_in_a_row_are_everything(status: int) -> None:
    suspicion = served(Call.TEMPLATES, Call.CREATE)
    most = SINCE_DONE[status]
    found = [suspicion.refused(Call.CREATE, status, 0.5) for _ in range(most)]
    assert found == [Meaning.ITS_OWN] * (most - 1) + [Meaning.EVERYTHING]


def test_a_success_of_the_same_call_begins_anew_and_one_of_another_does_not() -> None:
    suspicion = served(Call.TEMPLATES)
    for _ in range(NEVER_DONE - 1):
        suspicion.refused(Call.UPLOAD, 403, 0.5)
        suspicion.done(Call.FLOW, 1.0)
    assert suspicion.refused(Call.UPLOAD, 403, 0.5) is Meaning.EVERYTHING
    suspicion = served(Call.TEMPLATES)
    for _ in range(10 * NEVER_DONE):
        assert suspicion.refused(Call.UPLOAD, 403, 0.5) is Meaning.ITS_OWN
        suspicion.done(Call.UPLOAD, 1.0)


def test_a_key_that_may_not_delete_is_good_for_everything_else() -> None:
    suspicion = served(Call.TEMPLATES)
    assert {suspicion.refused(Call.DELETE, 403, 0.5) for _ in range(1000)} == {Meaning.ITS_OWN}


def test_a_key_that_may_look_at_nothing_is_refused_by_the_second_refusal() -> None:
    suspicion = Suspicion()
    assert suspicion.refused(Call.TEMPLATES, 403, 0.0) is Meaning.ITS_OWN
    assert suspicion.refused(Call.FLOWS, 403, 0.1) is Meaning.EVERYTHING


def test_a_key_that_may_not_see_templates_is_judged_by_numbers_alone() -> None:
    suspicion = Suspicion()
    suspicion.refused(Call.TEMPLATES, 403, 0.0)
    suspicion.done(Call.FLOWS, 1.0)
    found = [suspicion.refused(Call.UPLOAD, 403, 2.0) for _ in range(NEVER_DONE)]
    assert found == [Meaning.ITS_OWN] * (NEVER_DONE - 1) + [Meaning.EVERYTHING], "no look, for it would be refused anyway"


@pytest.mark.parametrize("status", [402, 403])
def test_at_the_end_what_was_never_done_is_no_single_thing(status: int) -> None:
    suspicion = served(Call.TEMPLATES, Call.CREATE)
    assert suspicion.at_end() is None
    for number in range(AT_END[status]):
        assert suspicion.at_end() is None, number
        suspicion.refused(Call.START, status, 0.5)
    assert suspicion.at_end() == status
    suspicion.done(Call.START, 2.0)
    assert suspicion.at_end() is None
