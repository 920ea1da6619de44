"""Verdicts: every call with every status has one, and no write that may have been done is called safe."""

from __future__ import annotations

import random

import pytest

from batcher.core.retry import BACKOFF_CAP_S, BUDGET, Call, Fault, FaultKind, Kind, Reply, RetryBudget, backoff_s, classify


@pytest.mark.parametrize("call", list(Call))
def test_every_status_has_a_verdict(call: Call) -> None:
    for status in range(200, 600):
        verdict = classify(call, Reply(status))
        assert (verdict.kind is Kind.DONE) == (200 <= status < 300 or (call is Call.DELETE and status == 404))
        if verdict.kind is Kind.UNKNOWN:
            assert call.writes


@pytest.mark.parametrize("call", [call for call in Call if call.writes])
@pytest.mark.parametrize("status", [500, 502, 504, 520, 524])
def test_write_that_may_have_been_done_is_unknown(call: Call, status: int) -> None:
    verdict = classify(call, Reply(status))
    assert (verdict.kind, verdict.answered) == (Kind.UNKNOWN, status in (500, 502))


def test_silence_after_the_body_left_is_unknown_and_before_it_is_not() -> None:
    assert classify(Call.UPLOAD, Fault(FaultKind.NO_ANSWER, "")).kind is Kind.UNKNOWN
    assert not classify(Call.UPLOAD, Fault(FaultKind.NO_ANSWER, "")).answered
    assert classify(Call.UPLOAD, Fault(FaultKind.CUT_OFF, "", 200)).answered
    assert classify(Call.UPLOAD, Fault(FaultKind.NOT_SENT, "")).kind is Kind.UNAVAILABLE
    assert classify(Call.UPLOAD, Fault(FaultKind.CUT_OFF, "", 422)).kind is Kind.REFUSED
    assert classify(Call.INPUTS, Fault(FaultKind.NO_ANSWER, "")).kind is Kind.UNAVAILABLE


def test_retry_after_pauses_everybody() -> None:
    assert classify(Call.UPLOAD, Reply(429, retry_after_s=7.0)).pause_s == 7.0
    assert classify(Call.UPLOAD, Reply(503, retry_after_s=7.0)).kind is Kind.THROTTLED
    assert classify(Call.UPLOAD, Reply(503)).kind is Kind.UNAVAILABLE


def test_backoff_grows_to_its_cap() -> None:
    chance = random.Random(1)
    for attempt in range(1, 40):
        assert 0 <= backoff_s(attempt, chance) <= min(BACKOFF_CAP_S, 0.5 * 2 ** (attempt - 1))


def test_spent_budget_makes_retries_wait_longer_until_successes_earn_it_back() -> None:
    budget = RetryBudget()
    assert [budget.patience(1) for _ in range(int(BUDGET))] == [1] * int(BUDGET)
    assert budget.patience(1) == 5
    budget.earn()
    budget.earn()
    assert budget.patience(2) == 2
    assert budget.patience(2) == 6
