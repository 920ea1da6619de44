"""The adaptive limit against services in virtual time: a capacity that moves, refusals at random, latency that varies."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from batcher.core.adaptive import Adaptive


@dataclass
class Run:
    """What came of it, per second."""

    done: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    most: int = 0

    def per_s(self, begin: int, end: int) -> float:
        return sum(self.done[begin:end]) / (end - begin)

    def refused_share(self, begin: int, end: int) -> float:
        refused = sum(self.refused[begin:end])
        return refused / (refused + sum(self.done[begin:end]))


def simulate(
    most: int, seconds: int, capacity: Callable[[float], int], *, mode: str = "503", service_s: Callable[[], float],
    at_random: Callable[[float], float] = lambda now: 0.0, rng: random.Random, refusal_s: float = 0.001,
) -> Run:  # fmt: skip
    """A client that always has work, in a world where only the service takes time."""
    limit = Adaptive(most)
    run = Run([0] * (seconds + 1), [0] * (seconds + 1))
    events: list[tuple[float, int, str, float]] = [(0.0, 0, "look", 0.0)]
    number = in_flight = busy = 0
    queue: list[float] = []
    now = 0.0

    def push(at: float, kind: str, entered: float) -> None:
        nonlocal number
        number += 1
        heapq.heappush(events, (at, number, kind, entered))

    while events and now < seconds:
        now, _, kind, entered = heapq.heappop(events)
        if kind == "done":
            in_flight -= 1
            busy -= 1
            run.done[int(now)] += 1
            limit.done(now, now - entered, full=True)
        elif kind == "refused":
            in_flight -= 1
            run.refused[int(now)] += 1
            limit.refused(now, now - entered)
        while queue and busy < capacity(now):
            busy += 1
            push(now + service_s(), "done", queue.pop(0))
        while in_flight < limit.allowed(now):
            in_flight += 1
            run.most = max(run.most, in_flight)
            if rng.random() < at_random(now):
                push(now + service_s(), "refused", now)
            elif busy < capacity(now):
                busy += 1
                push(now + service_s(), "done", now)
            elif mode == "503":
                push(now + refusal_s, "refused", now)
            else:
                queue.append(now)
        if (change := limit.next_change()) is not None:
            push(max(change, now + 1e-4), "look", 0.0)
    return run


def moving(now: float) -> int:
    return 8 if now < 20 else 32 if now < 40 else 4


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("refusal_s", [0.001, 0.05])
@pytest.mark.parametrize("mode", ["503", "queue"])
def test_a_capacity_that_moves_is_followed_within_ten_seconds(mode: str, seed: int, refusal_s: float) -> None:
    rng = random.Random(seed)
    run = simulate(64, 60, moving, mode=mode, service_s=lambda: rng.uniform(0.045, 0.055), rng=rng,
                   refusal_s=refusal_s)  # fmt: skip
    for begin, capacity in ((10, 8), (30, 32), (50, 4)):
        assert run.per_s(begin, begin + 10) >= 0.85 * capacity / 0.05
    assert run.refused_share(0, 60) < 0.05
    assert run.most <= 64


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("share", "least"), [(0.05, 0.95), (0.1, 0.9)])
def test_refusals_at_random_do_not_slow_it_down(share: float, least: float, seed: int) -> None:
    rng = random.Random(seed)
    run = simulate(64, 20, lambda now: 1000, service_s=lambda: rng.uniform(0.045, 0.055), at_random=lambda now: share,
                   rng=rng)  # fmt: skip
    assert run.per_s(5, 20) >= least * (1 - share) * 64 / 0.05


@pytest.mark.parametrize("seed", range(5))
def test_refusals_at_random_that_end_are_forgotten(seed: int) -> None:
    """What was put up with as the service's way is none when a capacity is what is left of it."""
    rng = random.Random(seed)
    run = simulate(64, 60, lambda now: 1000 if now < 20 else 16, service_s=lambda: rng.uniform(0.045, 0.055),
                   at_random=lambda now: 0.1 if now < 20 else 0.0, rng=rng, refusal_s=0.05)  # fmt: skip
    assert run.refused_share(5, 20) > 0.05
    assert run.refused_share(40, 60) < 0.05
    assert run.per_s(40, 60) >= 0.85 * 16 / 0.05


@pytest.mark.parametrize("seed", range(5))
def test_a_service_of_very_varying_speed_is_not_throttled_to_nothing(seed: int) -> None:
    rng = random.Random(seed)
    run = simulate(32, 60, lambda now: 1000, service_s=lambda: rng.lognormvariate(-2.5, 1.2), rng=rng)
    mean = 2.718281828 ** (-2.5 + 1.2**2 / 2)
    assert run.per_s(30, 60) >= 0.8 * 32 / mean


def test_latency_that_rises_makes_it_ask_for_less() -> None:
    rng = random.Random(1)
    run = simulate(64, 20, lambda now: 4, mode="queue", service_s=lambda: 0.05, rng=rng)
    assert run.per_s(10, 20) >= 0.95 * 4 / 0.05
    limit = Adaptive(64)
    for number in range(200):
        limit.done(number * 0.01, 0.05, full=True)
    assert limit.limit == 64
    for number in range(200):
        limit.done(2 + number * 0.01, 0.5, full=True)
    assert limit.limit <= 64 * 0.9**3


def test_it_begins_with_a_few_and_never_exceeds_its_bound() -> None:
    assert Adaptive(64).allowed(0.0) == 4
    assert Adaptive(2).allowed(0.0) == 2
    limit = Adaptive(5)
    for number in range(100):
        limit.done(number / 10, 0.01, full=True)
        assert limit.allowed(number / 10) <= 5
    for _ in range(100):
        limit.refused(10.0, 0.0)
    assert limit.allowed(10.0) == 1, "never none: somebody has to find out"


def grown(most: int = 16) -> Adaptive:
    limit = Adaptive(most)
    for _ in range(40):
        limit.done(0.0, 0.01, full=True)
    assert limit.limit == most
    return limit


def test_the_first_request_that_is_lost_after_long_cuts_and_the_others_of_its_time_tell_how_deep() -> None:
    limit = grown()
    limit.lost(3.0, 3.0)
    assert limit.limit == 8
    for _ in range(11):
        limit.lost(3.1, 3.0)
    assert limit.limit == 4, "so many were not lost"
    for _ in range(9):
        limit.lost(3.1, 3.0)
    assert limit.limit == 1


def test_after_a_loss_growth_is_slow_and_slower_after_another_one() -> None:
    limit = grown()
    for _ in range(12):
        limit.lost(3.0, 3.0)
    limit.done(3.0 + 30.0, None, full=True)
    assert limit.limit < 5
    limit.done(3.0 + 45.0, None, full=True)
    at = limit.limit
    assert 5 < at < 8
    limit.lost(50.0, 3.0)
    limit.done(50.0 + 45.0, None, full=True)
    assert limit.limit < at / 2 + 1


def test_time_in_which_nothing_was_in_flight_is_none_in_which_it_grows() -> None:
    limit = grown()
    for _ in range(12):
        limit.lost(3.0, 3.0)
    limit.idle(1000.0)
    limit.done(1003.5, None, full=True)
    assert limit.limit < 4.1


def test_one_loss_among_many_successes_is_chance() -> None:
    limit = grown()
    for _ in range(100):
        for number in range(200):
            limit.done(number / 100, 0.01, full=True)
        limit.lost(2.0, 60.0)
    assert limit.limit > 12


def test_what_is_lost_at_once_counts_as_refused() -> None:
    limit, other = grown(), grown()
    for number in range(100):
        limit.lost(number / 10, 0.01)
        other.refused(number / 10, 0.01)
    assert limit.limit == other.limit < 16
