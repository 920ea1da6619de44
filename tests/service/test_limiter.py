"""The limiter: never more in flight than allowed, silence during a pause, one probe at a time in an outage."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from batcher.core.errors import Stop
from batcher.core.retry import Kind, Verdict
from batcher.service.limiter import Bandwidth, ByteBudget, Limiter

pytestmark = pytest.mark.anyio

DONE = Verdict(Kind.DONE)
DOWN = Verdict(Kind.UNAVAILABLE, "503", 503)


def limiter(concurrency: int = 4, retries: int = 3, rate: float | None = None) -> Limiter:
    return Limiter(concurrency, retries, rate, random.Random(1), time.monotonic)


async def test_never_more_in_flight_than_the_concurrency() -> None:
    one = limiter(5)
    most = 0

    async def request() -> None:
        nonlocal most
        entered = await one.enter()
        most = max(most, one.in_flight)
        await asyncio.sleep(0.001)
        one.leave(DONE, entered)

    await asyncio.gather(*(request() for _ in range(200)))
    assert most == 5
    assert one.in_flight == 0


async def test_pause_that_the_service_asked_for_holds_everybody() -> None:
    one = limiter()
    one.leave(Verdict(Kind.THROTTLED, "429", 429, pause_s=0.3), await one.enter())
    began = time.monotonic()
    await asyncio.wait_for(one.enter(), 5)
    assert time.monotonic() - began >= 0.29


async def test_pause_beyond_all_bounds_ends_the_run() -> None:
    one = limiter()
    one.leave(Verdict(Kind.THROTTLED, "429", 429, pause_s=86400.0), await one.enter())
    with pytest.raises(Stop, match="asks to wait"):
        await one.enter()


async def test_outage_lets_one_probe_at_a_time_through_and_ends_after_retries_plus_one(monkeypatch) -> None:
    monkeypatch.setattr("batcher.service.limiter.backoff_s", lambda attempt, rng: 0.005)
    one = limiter(8, retries=3)
    for _ in range(6):  # past the slow start
        for entered in [await one.enter() for _ in range(4)]:
            one.leave(DONE, entered)
    for entered in [await one.enter() for _ in range(8)]:
        one.leave(DOWN, entered)
    probes = 0

    async def probe() -> None:
        nonlocal probes
        entered = await one.enter()
        probes += 1
        assert one.in_flight == 1, "one probe at a time"
        await asyncio.sleep(0.002)
        one.leave(DOWN, entered)

    results = await asyncio.gather(*(probe() for _ in range(20)), return_exceptions=True)
    assert probes == 4
    assert sum(isinstance(result, Stop) for result in results) == 16


async def test_success_ends_an_outage(monkeypatch) -> None:
    monkeypatch.setattr("batcher.service.limiter.backoff_s", lambda attempt, rng: 0.005)
    one = limiter(8)
    one.leave(DOWN, await one.enter())
    one.leave(DONE, await one.enter())
    await asyncio.wait_for(asyncio.gather(one.enter(), one.enter()), 1)
    assert one.in_flight == 2


async def test_rate_does_not_burst() -> None:
    one = limiter(100, rate=100.0)
    began = time.monotonic()

    async def request() -> None:
        one.leave(DONE, await one.enter())

    await asyncio.gather(*(request() for _ in range(20)))
    assert time.monotonic() - began >= 0.18


async def test_bandwidth_makes_the_next_chunk_wait() -> None:
    cap = Bandwidth(1_000_000, time.monotonic)
    began = time.monotonic()
    for _ in range(4):
        await cap.spend(50_000)
    assert time.monotonic() - began >= 0.14


async def test_budget_is_never_exceeded_but_by_one_that_is_alone() -> None:
    budget = ByteBudget(100)
    await budget.take(60)
    waiting = asyncio.ensure_future(budget.take(60))
    await asyncio.sleep(0)
    assert not waiting.done()
    budget.give(60)
    await asyncio.wait_for(waiting, 1)
    budget.give(60)
    await asyncio.wait_for(budget.take(1000), 1)
