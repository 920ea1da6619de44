"""Whom a 403 means: the rule by itself, with the times passed in."""

from __future__ import annotations

import pytest

from batcher.core.denials import AT_END, NEVER_DONE, SINCE_DONE, Denials, DenialScope
from batcher.core.retry import Call


def served(*calls: Call, at: float = 1.0) -> Denials:
    """A key that has been served with these."""
    denials = Denials()
    for call in calls:
        denials.done(call, at)
    return denials


def test_a_refusal_among_successes_is_its_own() -> None:
    denials = served(Call.TEMPLATES, Call.UPLOAD)
    denials.done(Call.UPLOAD, 3.0)
    assert denials.denied(Call.UPLOAD, 403, 2.0) is DenialScope.ITEM


def test_a_refusal_since_which_nothing_was_done_asks_for_an_access_check() -> None:
    denials = served(Call.TEMPLATES, Call.UPLOAD)
    assert denials.denied(Call.UPLOAD, 403, 2.0) is DenialScope.UNCLEAR
    denials.done(Call.TEMPLATES, 3.0)  # the access check
    assert denials.denied(Call.UPLOAD, 403, 2.5) is DenialScope.ITEM, "one check for all that were under way"


def test_request_that_left_before_says_nothing_of_a_refusal_however_late_it_is_done() -> None:
    denials = served(Call.TEMPLATES, Call.UPLOAD)
    denials.done(Call.UPLOAD, 1.9)
    assert denials.denied(Call.INPUTS, 403, 2.0) is DenialScope.UNCLEAR


@pytest.mark.parametrize("status", [402, 403])
def test_many_different_things_in_a_row_are_everything(status: int) -> None:
    denials = served(Call.TEMPLATES, Call.CREATE)
    most = SINCE_DONE[status]
    found = [denials.denied(Call.CREATE, status, 0.5) for _ in range(most)]
    assert found == [DenialScope.ITEM] * (most - 1) + [DenialScope.ACCOUNT]


def test_a_success_of_the_same_call_begins_anew_and_one_of_another_does_not() -> None:
    denials = served(Call.TEMPLATES)
    for _ in range(NEVER_DONE - 1):
        denials.denied(Call.UPLOAD, 403, 0.5)
        denials.done(Call.FLOW, 1.0)
    assert denials.denied(Call.UPLOAD, 403, 0.5) is DenialScope.ACCOUNT
    denials = served(Call.TEMPLATES)
    for _ in range(10 * NEVER_DONE):
        assert denials.denied(Call.UPLOAD, 403, 0.5) is DenialScope.ITEM
        denials.done(Call.UPLOAD, 1.0)


def test_a_key_that_may_not_delete_is_good_for_everything_else() -> None:
    denials = served(Call.TEMPLATES)
    assert {denials.denied(Call.DELETE, 403, 0.5) for _ in range(1000)} == {DenialScope.ITEM}


def test_a_key_that_may_look_at_nothing_is_refused_by_the_second_refusal() -> None:
    denials = Denials()
    assert denials.denied(Call.TEMPLATES, 403, 0.0) is DenialScope.ITEM
    assert denials.denied(Call.FLOWS, 403, 0.1) is DenialScope.ACCOUNT


def test_a_key_that_may_not_see_templates_is_judged_by_numbers_alone() -> None:
    denials = Denials()
    denials.denied(Call.TEMPLATES, 403, 0.0)
    denials.done(Call.FLOWS, 1.0)
    found = [denials.denied(Call.UPLOAD, 403, 2.0) for _ in range(NEVER_DONE)]
    assert found == [DenialScope.ITEM] * (NEVER_DONE - 1) + [DenialScope.ACCOUNT], "no check, for it would be denied anyway"


@pytest.mark.parametrize("status", [402, 403])
def test_at_the_end_what_was_never_done_is_no_single_thing(status: int) -> None:
    denials = served(Call.TEMPLATES, Call.CREATE)
    assert denials.at_end() is None
    for number in range(AT_END[status]):
        assert denials.at_end() is None, number
        denials.denied(Call.START, status, 0.5)
    assert denials.at_end() == status
    denials.done(Call.START, 2.0)
    assert denials.at_end() is None
