"""Verdicts: every call with every status has one, and no write that may have been done is called safe."""

from __future__ import annotations

import random

import pytest

from batcher.core.remote import StartReply
from batcher.core.retry import (
    ANSWERED,
    BACKOFF_CAP_S,
    BUDGET,
    Call,
    Fault,
    FaultKind,
    Kind,
    Reply,
    RetryBudget,
    backoff_s,
    classify,
)


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
    assert (verdict.kind, verdict.answered, verdict.failed) == (Kind.UNKNOWN, status in (500, 502), status in (500, 502))


@pytest.mark.parametrize("call", [Call.UPLOAD, Call.START])
def test_success_that_cannot_be_read_is_answered_and_no_failure(call: Call) -> None:
    for what in (Reply(200, readable=False), Fault(FaultKind.CUT_OFF, "", 200)):
        verdict = classify(call, what)
        assert (verdict.kind, verdict.answered, verdict.failed) == (Kind.UNKNOWN, True, False)
    assert classify(call, Fault(FaultKind.CUT_OFF, "", 502)).failed
    assert not classify(call, Fault(FaultKind.NO_ANSWER, "")).failed


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
    rng = random.Random(1)
    assert 0 <= backoff_s(0, rng) <= 0.1
    for attempt in range(1, 40):
        assert 0 <= backoff_s(attempt, rng) <= min(BACKOFF_CAP_S, 0.5 * 2 ** (attempt - 1))


def test_spent_budget_makes_retries_wait_longer_until_successes_earn_it_back() -> None:
    budget = RetryBudget()
    assert [budget.patience(1) for _ in range(int(BUDGET))] == [0] * int(BUDGET)
    assert budget.patience(1) == 5
    budget.earn()
    budget.earn()
    assert budget.patience(2) == 0, "two in a row may be chance"
    assert budget.patience(3) == 7


OUTCOMES = [
    *(Reply(status, readable=readable, retry_after_s=pause)
      for status in range(100, 600) for readable in (True, False) for pause in (None, 3.0)),
    *(Fault(kind, "words", status) for kind in FaultKind for status in (None, *range(100, 600))),
]  # fmt: skip
SENT_AGAIN = {Kind.THROTTLED, Kind.UNAVAILABLE, Kind.KEY}  # what `ask` sends again by itself


@pytest.mark.parametrize("call", list(Call))
def test_every_outcome_has_a_verdict_and_no_write_that_may_be_done_is_sent_again(call: Call) -> None:
    for what in OUTCOMES:
        verdict = classify(call, what)
        status = what.status
        if isinstance(what, Fault):
            cut = what.kind in (FaultKind.CUT_OFF, FaultKind.NO_LIST) and (status is None or status < 300 or status >= 500)
            may_be_done = what.kind is FaultKind.NO_ANSWER or cut
        else:
            may_be_done = status // 100 in (2, 5)
        may_be_done = may_be_done and status != 503  # the service says that it has not done it
        if call.writes and may_be_done:
            assert verdict.kind in (Kind.UNKNOWN, Kind.DONE), (call, what)
        if verdict.kind is Kind.DONE:
            gone = call is Call.DELETE and status == 404
            assert gone or (isinstance(what, Reply) and 200 <= what.status < 300 and what.readable)
        if verdict.kind is Kind.UNKNOWN:
            assert call.writes, "a read is asked again"
        if isinstance(what, Fault) and what.kind in (FaultKind.NOT_CONNECTED, FaultKind.NOT_SENT):
            assert verdict.kind is Kind.UNAVAILABLE, "what has not left may be sent again"
        if isinstance(what, Fault) and what.kind is FaultKind.NO_WAY:
            assert verdict.kind is Kind.NO_WAY, "what can never leave is not tried again"
        if verdict.answered:
            assert verdict.kind is Kind.UNKNOWN
            assert (
                what.kind in (FaultKind.CUT_OFF, FaultKind.NO_LIST)
                if isinstance(what, Fault)
                else status in ANSWERED or status < 300
            )
        assert (verdict.pause_s is not None) <= (verdict.kind is Kind.THROTTLED)
        assert verdict.status == status
    assert {classify(call, what).kind for what in OUTCOMES} >= SENT_AGAIN | {Kind.DONE, Kind.DENIED, Kind.NO_WAY, Kind.REFUSED}


SPENT = [
    "insufficient_quota: You exceeded your current quota, please check your plan and billing details.",
    "billing_hard_limit_reached: Billing hard limit has been reached",
    "Monthly quota exceeded",
    "You have used up your quota",
    "insufficient funds",
]
TOO_FAST = [
    "", "rate limit exceeded", "Too Many Requests", "Quota exceeded for quota metric 'Reads' and limit 'Reads per minute'",
    "rate_limit_exceeded: quota reached", "Quota exceeded, try again in 20 s",
]  # fmt: skip


@pytest.mark.parametrize("words", SPENT)
def test_a_quota_that_is_spent_is_fatal_and_not_waited_for(words: str) -> None:
    assert classify(Call.UPLOAD, Reply(429, detail=words)).kind is Kind.FATAL


@pytest.mark.parametrize("words", TOO_FAST)
def test_a_429_that_says_nothing_of_that_kind_is_throttled(words: str) -> None:
    assert classify(Call.UPLOAD, Reply(429, detail=words)).kind is Kind.THROTTLED
    assert classify(Call.UPLOAD, Reply(429, detail="quota exceeded", retry_after_s=2.0)).kind is Kind.THROTTLED


def test_what_was_lost_on_the_way_is_told_from_what_was_answered() -> None:
    lost = {kind for kind in FaultKind if classify(Call.UPLOAD, Fault(kind, "")).lost}
    assert lost == {FaultKind.NOT_SENT, FaultKind.NO_ANSWER}
    assert not classify(Call.UPLOAD, Fault(FaultKind.NOT_SENT, "", 413)).lost, "there was an answer"
    assert not any(classify(Call.UPLOAD, Reply(status)).lost for status in range(200, 600))


@pytest.mark.parametrize(
    ("state", "error", "started"),
    [
        ("starting", "", True), ("running", "", True), ("completed", "", True), ("created", "", False), ("", "", False),
        ("error", "", False), ("ok", "", False), ("rejected", "", False), ("starting", "no capacity", False),
    ],
)  # fmt: skip
def test_a_start_counts_by_its_reply_only_where_that_shows_a_state_after_it(state: str, error: str, started: bool) -> None:
    assert StartReply(state, error).started is started
