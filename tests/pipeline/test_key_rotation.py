"""A key that is replaced is taken up; one that is not any good is waited for within a bound."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from batcher.api import Settings
from batcher.sandbox import Sandbox, parse_fault

from .batch import LIMITS, Batch, files, sent, small

pytestmark = pytest.mark.anyio


async def test_key_that_is_replaced_while_requests_are_under_way_is_taken_up_once(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 4))
    keys = iter(["old", "new", "newer"])
    faults = [parse_fault("upload:latency=300ms,status=401,count=4")]
    async with Sandbox(tmp_path / "sandbox", faults=faults) as sandbox:
        report = await batch.run(sandbox.url, Settings(key=lambda: next(keys)))
        await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.stop


class Keys:
    """A file that holds a key, and the service's idea of it."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self.held: str | None = "key-0"
        self.reads = 0
        self.good("key-0")

    def good(self, key: str) -> None:
        self._sandbox.service.keys = frozenset({key})
        self._sandbox.service.expired_keys = frozenset()

    def __call__(self) -> str | None:
        self.reads += 1
        return self.held


async def test_a_key_that_is_replaced_again_and_again_is_taken_up_each_time(tmp_path: Path) -> None:
    batch = small(tmp_path, 1, 40)
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault("upload:latency=60ms")], keys=["key-0"]) as sandbox:
        keys = Keys(sandbox)

        async def rotate() -> None:
            for number in range(1, 4):
                await asyncio.sleep(0.15)
                keys.held = f"key-{number}"
                keys.good(keys.held)

        rotating = asyncio.ensure_future(rotate())
        report = await batch.run(sandbox.url, Settings(key=keys))
        await rotating
        refused = [request for request in await sent(sandbox.url) if request["status"] == 401]
    assert report.exit_code == 0, report.stop
    assert report.flows.started == 40
    assert 1 <= len(refused) <= 3 * LIMITS.concurrency


async def test_a_new_key_that_is_written_late_is_waited_for_by_one_and_nobody_asks_meanwhile(tmp_path: Path) -> None:
    batch = small(tmp_path, 1, 40)
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault("upload:latency=60ms")], keys=["key-0"]) as sandbox:
        keys = Keys(sandbox)

        async def rotate() -> None:
            await asyncio.sleep(0.2)
            keys.good("key-1")
            keys.held = None  # being written
            await asyncio.sleep(1.0)
            keys.held = "key-1"

        rotating = asyncio.ensure_future(rotate())
        report = await batch.run(sandbox.url, Settings(key=keys, key_wait_s=10.0))
        await rotating
        refused = [request for request in await sent(sandbox.url) if request["status"] == 401]
    assert report.exit_code == 0, report.stop
    assert 1 <= len(refused) <= LIMITS.concurrency, "those under way"
    assert keys.reads <= 10, "one reader"


@pytest.mark.parametrize("changing", [False, True])
async def test_no_key_is_looked_for_for_ever(tmp_path: Path, changing: bool) -> None:
    batch = small(tmp_path, 1, 20)
    async with Sandbox(tmp_path / "sandbox", keys=["good"]) as sandbox:
        numbers = iter(range(1000))
        began = time.monotonic()
        key = (lambda: f"bad-{next(numbers)}") if changing else lambda: "bad"
        report = await batch.run(sandbox.url, Settings(key=key, key_wait_s=0.5))
        took_s = time.monotonic() - began
    assert report.exit_code == 7
    assert report.requests.sent <= 12
    assert took_s < 3


async def test_request_that_left_before_and_is_done_does_not_disturb_who_waits_for_a_new_key(tmp_path: Path) -> None:
    batch = small(tmp_path, 1, 8)
    faults = [parse_fault("upload:status=401,count=1"), parse_fault("upload:latency=300ms")]
    first_read = time.monotonic()

    def key() -> str:
        return "old" if time.monotonic() - first_read < 2.0 else "new"

    async with Sandbox(tmp_path / "sandbox", faults=faults) as sandbox:
        report = await batch.run(sandbox.url, Settings(key=key, key_wait_s=10.0))
        await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.stop
