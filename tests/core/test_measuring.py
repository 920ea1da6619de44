"""Measurements: whatever their number, they take fixed room, and their sums come out right."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.core.errors import Reason, Stop
from batcher.core.measuring import (
    BUCKETS,
    LATENCY_BUCKETS,
    PROBLEMS_KEPT,
    WIDTH_S,
    FlowTimes,
    Measures,
    latency_bucket,
    latency_end_s,
    run_document,
)
from batcher.core.model import Problem
from batcher.core.report import Report
from batcher.core.retry import Call, Kind


@given(st.lists(st.tuples(st.floats(0, 400), st.floats(0, 900)), min_size=1, max_size=40))
def test_request_seconds_are_booked_where_they_were_spent_however_often_the_width_doubles(requests) -> None:
    measures = Measures(1000.0)
    events = sorted([(1000 + at, 0, took) for at, took in requests] + [(1000 + at + took, 1, took) for at, took in requests])
    for at, end, took in events:
        if end:
            measures.ends(at, Call.UPLOAD, took, Kind.DONE)
        else:
            measures.leaves(at)
    assert measures.flying == 0
    assert sum(measures.requests) == len(requests)
    assert math.isclose(sum(measures.busy_s), sum(took for _, took in requests), rel_tol=1e-6, abs_tol=1e-6)
    assert len(measures.busy_s) == BUCKETS
    most = len(requests) * measures.width_s * (1 + 1e-9) + 1e-9
    assert max(measures.busy_s) <= most, "more requests in flight than there were"


def test_series_show_when_things_happened() -> None:
    measures = Measures(50.0)
    measures.leaves(50.0)
    measures.leaves(50.0)
    measures.ends(50.25, Call.UPLOAD, 0.25, Kind.DONE)
    measures.accepted(50.25, 1000)
    measures.ends(50.31, Call.START, 0.31, Kind.THROTTLED)
    document = measures.json(50.42)
    assert document["busy_s"] == pytest.approx([0.2, 0.2, 0.15, 0.01, 0.0])
    assert document["requests"] == [0, 0, 1, 1, 0]
    assert document["slowed"] == [0, 0, 0, 1, 0]
    assert (document["inputs"], document["sent_bytes"]) == ([0, 0, 1, 0, 0], [0, 0, 1000, 0, 0])
    assert document["latency"]["start"]["outcomes"] == {"throttled": 1}


def test_a_week_is_told_in_as_much_room_as_a_minute() -> None:
    measures = Measures(0.0)
    for second in range(0, 7 * 86400, 60):
        measures.leaves(second)
        measures.accepted(second + 30, 10_000_000_000)
        measures.ends(second + 45, Call.UPLOAD, 45, Kind.DONE)
    text = json.dumps(measures.json(7 * 86400))
    assert measures.width_s / WIDTH_S == 2**14
    assert BUCKETS / 2 < len(measures.json(7 * 86400)["busy_s"]) <= BUCKETS
    assert len(text) < 30_000
    assert sum(measures.sent_bytes) == 7 * 1440 * 10_000_000_000


@given(st.floats(0, 10_000))
def test_latency_falls_into_its_bucket(took: float) -> None:
    bucket = latency_bucket(took)
    assert bucket == LATENCY_BUCKETS - 1 or took <= latency_end_s(bucket) * 1.000001
    assert bucket == 0 or took >= latency_end_s(bucket - 1) * 0.999999


def test_times_of_a_resumed_flow_are_joined_and_those_of_one_built_anew_replaced() -> None:
    first = FlowTimes(begun=1, opened=2, first_upload=3, last_upload=4)
    second = FlowTimes(begun=10, first_upload=11, last_upload=12, verified=13, started=14)
    assert second.after(first) == FlowTimes(1, 2, 3, 12, 13, 14)
    anew = FlowTimes(begun=10, opened=11)
    assert anew.after(first) == anew
    assert second.after(None) == second


def test_document_of_a_run_keeps_the_reason_it_was_stopped_for_and_some_problems() -> None:
    report = Report("m.yaml", "https://x")
    for number in range(200):
        report.add(Problem("refused", f"no {number}"))
    report.stop = Stop(Reason.FATAL, "the credit is exhausted", "top it up", 402)
    document = run_document(report, Measures(5.0), 8.5, ended=True)
    assert document["exit_code"] == 7
    assert document["elapsed_s"] == 3.5
    assert len(document["problems"]) == PROBLEMS_KEPT
    assert document["problems"][-1]["message"] == "the credit is exhausted"
    assert document["problems_total"] == 201
    assert run_document(report, Measures(5.0), 8.5, ended=False)["exit_code"] is None
