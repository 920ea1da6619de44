"""The limiter: never more in flight than allowed, silence during a pause, one probe at a time in an outage; also when its clock
moves between two looks at it, and for requests that leave it early."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from batcher.core.errors import Reason, Stop
from batcher.core.retry import Call, Kind, Verdict
from batcher.service.limiter import Limiter
from batcher.service.pace import Pace

pytestmark = pytest.mark.anyio
DONE = Verdict(Kind.DONE)
DOWN = Verdict(Kind.UNAVAILABLE, "503", 503)


def limiter(concurrency: int = 4, retries: int = 3, rate: float | None = None) -> Limiter:
    return Limiter(concurrency, retries, Pace(rate), random.Random(1), time.monotonic)


async def test_never_more_in_flight_than_the_concurrency() -> None:
    one = limiter(5)
    most = 0

    async def request() -> None:
        nonlocal most
        entered = await one.acquire(Call.UPLOAD)
        most = max(most, one.in_flight)
        await asyncio.sleep(0.001)
        one.release(DONE, entered)

    await asyncio.gather(*(request() for _ in range(200)))
    assert most == 5
    assert one.in_flight == 0


async def test_pause_that_the_service_asked_for_holds_everybody() -> None:
    one = limiter()
    one.release(Verdict(Kind.THROTTLED, "429", 429, pause_s=0.3), await one.acquire(Call.UPLOAD))
    began = time.monotonic()
    await asyncio.wait_for(one.acquire(Call.UPLOAD), 5)
    assert time.monotonic() - began >= 0.29


async def test_pause_beyond_all_bounds_ends_the_run() -> None:
    one = limiter()
    one.release(Verdict(Kind.THROTTLED, "429", 429, pause_s=86400.0), await one.acquire(Call.UPLOAD))
    with pytest.raises(Stop, match="asks to wait"):
        await one.acquire(Call.UPLOAD)


async def test_outage_lets_one_probe_at_a_time_through_and_ends_after_retries_plus_one(monkeypatch) -> None:
    monkeypatch.setattr("batcher.service.limiter.backoff_s", lambda attempt, rng: 0.005)
    one = limiter(8, retries=3)
    for _ in range(6):  # past the slow start
        for entered in [await one.acquire(Call.UPLOAD) for _ in range(4)]:
            one.release(DONE, entered)
    for entered in [await one.acquire(Call.UPLOAD) for _ in range(8)]:
        one.release(DOWN, entered)
    probes = 0

    async def probe() -> None:
        nonlocal probes
        entered = await one.acquire(Call.UPLOAD)
        probes += 1
        assert one.in_flight == 1, "one probe at a time"
        await asyncio.sleep(0.002)
        one.release(DOWN, entered)

    results = await asyncio.gather(*(probe() for _ in range(20)), return_exceptions=True)
    assert probes == 4
    assert sum(isinstance(result, Stop) for result in results) == 16


async def test_success_ends_an_outage(monkeypatch) -> None:
    monkeypatch.setattr("batcher.service.limiter.backoff_s", lambda attempt, rng: 0.005)
    one = limiter(8)
    one.release(DOWN, await one.acquire(Call.UPLOAD))
    one.release(DONE, await one.acquire(Call.UPLOAD))
    await asyncio.wait_for(asyncio.gather(one.acquire(Call.UPLOAD), one.acquire(Call.UPLOAD)), 1)
    assert one.in_flight == 2


async def test_rate_does_not_burst() -> None:
    one = limiter(100, rate=100.0)
    began = time.monotonic()

    async def request() -> None:
        one.release(DONE, await one.acquire(Call.UPLOAD))

    await asyncio.gather(*(request() for _ in range(20)))
    assert time.monotonic() - began >= 0.18


class Creeping:
    """A steady clock of which each look takes time: it is past the pause just after it was found not to be."""

    def __init__(self) -> None:
        self.at = 100.0
        self.step = 0.0

    def __call__(self) -> float:
        self.at += self.step
        return self.at


async def test_pause_that_ends_between_two_looks_at_the_clock_leaves_nobody_waiting() -> None:
    """`_may_go` says no, for the pause is not over; when the timer is to be set it is. Nobody else is in flight, so without
    a timer nobody would ever look again."""
    clock = Creeping()
    one = Limiter(4, 3, Pace(None), random.Random(1), clock)
    one.release(Verdict(Kind.THROTTLED, "429", 429, pause_s=1.0), await one.acquire(Call.UPLOAD))
    clock.at, clock.step = 100.8, 0.09  # two looks find the pause on, at 100.89 and 100.98; the third is past it
    waiting = asyncio.ensure_future(one.acquire(Call.UPLOAD))
    await asyncio.wait_for(waiting, 5)
    assert one.in_flight == 1


async def test_request_that_is_cancelled_while_it_waits_takes_no_place() -> None:
    one = Limiter(1, 3, Pace(None), random.Random(1), time.monotonic)
    entered = await one.acquire(Call.UPLOAD)
    first, second = asyncio.ensure_future(one.acquire(Call.UPLOAD)), asyncio.ensure_future(one.acquire(Call.UPLOAD))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    one.release(DONE, entered)
    await asyncio.wait_for(second, 5)
    assert one.in_flight == 1


async def test_request_that_is_cancelled_just_when_it_may_go_gives_its_place_on() -> None:
    one = Limiter(1, 3, Pace(None), random.Random(1), time.monotonic)
    entered = await one.acquire(Call.UPLOAD)
    first, second = asyncio.ensure_future(one.acquire(Call.UPLOAD)), asyncio.ensure_future(one.acquire(Call.UPLOAD))
    await asyncio.sleep(0)
    one.release(DONE, entered)  # the first may go, and does not know it yet
    first.cancel()
    await asyncio.wait_for(second, 5)
    assert one.in_flight == 1


async def test_end_of_the_run_wakes_all_who_wait() -> None:
    one = Limiter(1, 3, Pace(None), random.Random(1), time.monotonic)
    await one.acquire(Call.UPLOAD)
    waiting = [asyncio.ensure_future(one.acquire(Call.UPLOAD)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.sleep(0)
    one.close(Stop(Reason.SIGINT, "enough"))
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in found] == [Stop, asyncio.CancelledError, Stop]


async def test_silences_in_a_row_are_an_outage_and_one_probe_at_a_time_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batcher.service.limiter.backoff_s", lambda attempt, rng: 0.001)
    one = Limiter(16, 9, Pace(None), random.Random(1), time.monotonic)
    for _ in range(12):
        for entered in [await one.acquire(Call.UPLOAD) for _ in range(4)]:
            one.release(DONE, entered)
    under_way = [await one.acquire(Call.UPLOAD) for _ in range(8)]
    for entered in under_way[:6]:
        one.release(Verdict(Kind.UNKNOWN, "silence"), entered)
    one.release(Verdict(Kind.UNKNOWN, "500", 500, answered=True), under_way[6])
    one.release(None, under_way[7])
    entered = await asyncio.wait_for(one.acquire(Call.UPLOAD), 5)
    probe = asyncio.ensure_future(one.acquire(Call.UPLOAD))
    await asyncio.sleep(0.05)
    assert not probe.done(), "one probe at a time, after six silences in a row"
    one.release(DONE, entered)
    await asyncio.wait_for(probe, 5)


async def test_run_that_has_no_share_yet_waits_for_one_at_rest() -> None:
    looks = 0

    def steady() -> float:
        nonlocal looks
        looks += 1
        return time.monotonic()

    one = Limiter(4, 3, Pace(None), random.Random(1), steady)
    one.share(0, time.monotonic() + 60, True)
    waiting = asyncio.ensure_future(one.acquire(Call.UPLOAD))
    await asyncio.sleep(0.1)
    assert looks < 10
    assert not waiting.done()
    one.share(1, time.monotonic() + 60, True)
    entered = await waiting
    second = asyncio.ensure_future(one.acquire(Call.UPLOAD))
    looks = 0
    await asyncio.sleep(0.1)
    assert looks < 10
    one.release(DONE, entered)
    one.release(DONE, await second)


async def test_what_finishes_first_leaves_first() -> None:
    one = limiter(1)
    entered = await one.acquire(Call.UPLOAD)
    left: list[Call] = []

    async def request(call: Call) -> None:
        moment = await one.acquire(call)
        left.append(call)
        one.release(DONE, moment)

    calls = [Call.CREATE, Call.UPLOAD, Call.INPUTS, Call.START]
    waiting = [asyncio.ensure_future(request(call)) for call in calls]
    await asyncio.sleep(0)
    one.release(DONE, entered)
    await asyncio.gather(*waiting)
    assert left == calls[::-1]
