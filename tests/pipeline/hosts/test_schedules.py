"""Random schedules of several owners, which are frozen, cut off and overtaken at any moment: whatever they do, every flow is
started once, with exactly its inputs, and nothing is left behind.
"""

from __future__ import annotations

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from .database import Rules
from .disturbances import Disturbance, Plan
from .schedules import LEASE_S, SETTLE_S, Pause, Schedule, play

# Shorter than a lease, longer, longer than lease and settling time, and as long as all that the others do.
FROZEN_S = st.sampled_from([0.0, 0.4, LEASE_S + 0.5, LEASE_S + SETTLE_S + 2, 25.0, 90.0])
LATE_S = st.sampled_from([0.0, 0.5, SETTLE_S - 0.1, SETTLE_S + 0.5, LEASE_S + SETTLE_S + 3, 30.0, 3000.0])
WRITES = st.tuples(st.sampled_from(["create", "upload", "start", "delete"]), st.integers(0, 5))
READS = st.tuples(st.sampled_from(["flows", "inputs", "flow"]), st.integers(0, 8))
JOURNAL = st.tuples(st.sampled_from(["record", "claim", "release", "lead", "look"]), st.integers(0, 30))
CREW = st.tuples(st.just("crew"), st.integers(0, 60))
ANSWERS = st.sampled_from(["ok", "lost", "500", "503", "cut off"])

of_requests = st.builds(Disturbance, FROZEN_S, FROZEN_S, ANSWERS, LATE_S, st.booleans())
of_transactions = st.builds(Disturbance, FROZEN_S, FROZEN_S, cut_s=FROZEN_S)


def plans(least: int) -> st.SearchStrategy[Plan]:
    """`least`: so many disturbances of requests, and of transactions."""
    return st.builds(
        lambda requests, transactions: {**requests, **transactions},
        st.dictionaries(WRITES | READS, of_requests, min_size=least, max_size=10),
        st.dictionaries(JOURNAL | CREW, of_transactions, min_size=least, max_size=8),
    )


pauses = st.lists(st.builds(Pause, st.integers(0, 2), st.floats(0, 40).map(lambda at: round(at, 2)), FROZEN_S, st.booleans()),
                  max_size=3).map(tuple)  # fmt: skip
begins = st.lists(st.sampled_from([0.0, 0.05, 1.0, 7.0, 30.0]), min_size=2, max_size=3).map(tuple)
schedules = st.builds(
    Schedule, st.integers(1, 3), st.integers(1, 2), st.booleans(), begins, plans(0) | plans(3), pauses, seed=st.integers(0, 3)
)


# What was found by random schedules once, each a mistake that is mended.
@example(Schedule(plan={("crew", 0): Disturbance(after_s=10.0)}))
@example(Schedule(begins_s=(0.05, 0.0), flows=2, pauses=(Pause(1, 0.02, 0.0, cut=True),)))
@example(Schedule(begins_s=(0.0, 1.0), plan={("upload", 0): Disturbance(answer="lost"), ("look", 12): Disturbance(25.0)}))
@example(Schedule(plan={("lead", 0): Disturbance(cut_s=0.4), ("record", 1): Disturbance(after_s=10.0),
                        ("record", 3): Disturbance(cut_s=0.4)}))  # fmt: skip
@given(schedules)
@pytest.mark.timeout(3600)
def test_flows_are_started_once_and_rightly_whoever_is_frozen(schedule: Schedule) -> None:
    assert play(schedule) == []


@pytest.mark.parametrize("held", [("upload", 0), ("upload", 1)])
def test_run_that_lost_its_claims_has_all_of_its_memory_again(held: tuple[str, int]) -> None:
    """Else it waits for ever for what the stages held that were cancelled, and keeps its flows with its heartbeats."""
    frozen = {held: Disturbance(before_s=LEASE_S + 0.5)}
    assert play(Schedule(flows=3, inputs=2, begins_s=(0.0, 0.05), plan=frozen, memory_bytes=1)) == []


# ---- that the judge sees it where one of the rules is missing


class Seen(Exception):
    pass


def is_seen(words: str, rules: Rules, plan: st.SearchStrategy[Plan]) -> bool:
    """Whether this goes wrong under these rules."""

    @settings(phases=[Phase.generate], max_examples=400, derandomize=True, database=None)
    @given(st.builds(Schedule, begins_s=begins, plan=plan))
    def look(schedule: Schedule) -> None:
        if any(words in wrong for wrong in play(schedule, rules)):
            raise Seen

    try:
        look()
    except Seen:
        return True
    return False


def test_without_the_fence_a_flow_is_paid_for_twice() -> None:
    """An owner that wakes up writes what it knows over what the next one has done."""
    keys = st.tuples(st.sampled_from(["record", "start"]), st.integers(0, 4))
    plan = st.dictionaries(keys, of_requests, min_size=1, max_size=4)
    assert is_seen("was started 2 times", Rules(fenced=False), plan)


def test_without_the_settling_of_what_was_announced_an_input_arrives_twice() -> None:
    """The next owner sends it again into the same flow, and the first request arrives before its start does."""
    overtaken = st.sampled_from([LEASE_S + 0.5, LEASE_S + SETTLE_S + 2])
    uploads, starts = st.builds(Disturbance, overtaken, arrives_s=LATE_S), st.builds(Disturbance, arrives_s=LATE_S)
    plan = st.fixed_dictionaries({("upload", 0): uploads, ("start", 0): starts})
    assert is_seen("was started with", Rules(settled=False), plan)
