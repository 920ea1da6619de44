"""The end of a session, asked for while something waits."""

from __future__ import annotations

import asyncio
import gc
import time

import pytest

from batcher.assembly import SystemClock
from batcher.core.errors import JournalError, Reason, Stop
from batcher.core.events import SILENT
from batcher.core.report import Report
from batcher.pipeline import shutdown as shutdown_module
from batcher.pipeline.reporter import Reporter
from batcher.pipeline.shutdown import Shutdown

pytestmark = pytest.mark.anyio
DEADLINE = Stop(Reason.DEADLINE, "the time is over")
SIGNAL = Stop(Reason.SIGTERM, "stopped by SIGTERM")
FATAL = Stop(Reason.FATAL, "the credit is exhausted")


def made() -> tuple[Shutdown, Report]:
    report = Report("m.yaml", "")
    return Shutdown(SystemClock(), Reporter(report, SILENT, SystemClock())), report


async def test_the_first_reason_stays_but_a_signal_comes_before_it() -> None:
    shutdown, report = made()
    heard: list[Stop] = []
    shutdown.on_stop(heard.append)
    for stop, stays in ((DEADLINE, DEADLINE), (FATAL, DEADLINE), (SIGNAL, SIGNAL), (FATAL, SIGNAL)):
        shutdown.halt(stop)
        assert shutdown.stop is report.stop is heard[-1] is stays


async def test_whoever_waits_is_woken_and_nobody_waits_after_it() -> None:
    shutdown, _ = made()
    waiting = [asyncio.ensure_future(shutdown.sleep(60)), asyncio.ensure_future(shutdown.pauses().wait())]
    await asyncio.sleep(0)
    began = time.monotonic()
    shutdown.halt(SIGNAL)
    for result in await asyncio.gather(*waiting, shutdown.sleep(60), return_exceptions=True):
        assert result is SIGNAL
    assert time.monotonic() - began < 1


async def test_pauses_grow_to_the_last_step_and_are_over_in_time() -> None:
    shutdown, _ = made()
    pauses = shutdown.pauses(within_s=0.2, steps_s=(0.01, 0.02, 0.05))
    took_s = []
    while not pauses.over:
        began = time.monotonic()
        await pauses.wait()
        took_s.append(time.monotonic() - began)
    assert pauses.spent
    assert 3 <= len(took_s) <= 6, took_s
    assert took_s[0] >= 0.01
    assert min(took_s[2:]) >= 0.05
    began = time.monotonic()
    await shutdown.pauses(steps_s=(60.0,)).wait(at_most_s=0.01)
    assert time.monotonic() - began < 1


async def test_work_that_does_not_end_in_time_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown_module, "DRAIN_S", 0.1)
    shutdown, _ = made()
    ended: list[str] = []

    async def work(seconds: float) -> str:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return "done"

    assert await shutdown.in_time(work(0.01)) == "done"
    shutdown.halt(DEADLINE)
    assert await shutdown.in_time(work(0.01)) == "done", "there is time for it"
    with pytest.raises(Stop) as raised:
        await shutdown.in_time(work(60))
    assert raised.value is DEADLINE
    assert ended == ["cancelled"]


async def test_what_ends_the_work_is_in_the_report_and_a_bug_goes_on() -> None:
    shutdown, report = made()
    with shutdown.reported():
        raise DEADLINE
    assert report.stop is DEADLINE
    with shutdown.reported():
        raise FATAL
    assert report.stop is DEADLINE, "the first"
    with shutdown.reported():
        raise ExceptionGroup("tasks", [ExceptionGroup("more", [JournalError("the disk is full", "make room")])])
    assert report.stop is not None
    assert (report.stop.reason, report.stop.message) == (Reason.UNSETTLED, "the disk is full")
    with pytest.raises(ExceptionGroup) as raised, shutdown.reported():
        raise ExceptionGroup("tasks", [JournalError("the disk is full"), ValueError("a bug")])
    assert [str(error) for error in raised.value.exceptions] == ["a bug"]


async def test_work_that_fails_just_when_it_is_cancelled_is_no_message_of_the_loops() -> None:
    """A run whose claims are lost is told so by its heartbeat and by its stages at the same time."""
    shutdown, _ = made()
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("in the middle of something")

    task = asyncio.ensure_future(shutdown.in_time(work()))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    del task
    gc.collect()
    assert told == []
