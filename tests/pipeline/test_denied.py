"""Whom a 403 or a 402 costs what: one thing its own, a key that is revoked the run, within a few requests. And ways and keys
that are wrong: said at once, or waited for within a bound."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from batcher.api import Settings, collect, run
from batcher.sandbox import Sandbox, parse_fault

from .batch import LIMITS, Batch, files, order_faults

pytestmark = pytest.mark.anyio
FEW = 2 * LIMITS.concurrency + 2  # what may be under way while the look is, and the looks


def small(folder: Path, inputs: int, flows: int) -> Batch:
    return Batch(folder, files(folder, inputs + 2)[2:], flows=flows, limits=replace(LIMITS, settle_s=0.3, retries=2))


async def sent(url: str) -> list[dict]:
    import aiohttp

    async with aiohttp.ClientSession() as session, session.get(f"{url}/_sandbox/requests") as response:
        return (await response.json())["requests"]


OWN = [
    ("upload:nth=3,status=403", 3, 7),
    ("upload:nth=3,status=402", 3, 7),
    ("create:nth=2,status=403", 3, 7),
    ("create:nth=2,status=402", 3, 7),
    ("start:nth=2,status=403", 3, 7),
    ("start:nth=2,status=402", 3, 7),
    ("inputs:nth=2,status=403", 12, 7),
]


@pytest.mark.parametrize(("fault", "code", "started"), OWN)
async def test_what_is_refused_once_is_refused_alone(tmp_path: Path, fault: str, code: int, started: int) -> None:
    batch = small(tmp_path, 2, 8)
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault(fault)]) as sandbox:
        report = await batch.run(sandbox.url)
        assert (report.exit_code, report.flows.started) == (code, started), report.problems or report.stop
        assert report.stop is None
        (problem,) = report.problems
        assert problem.status in (402, 403)
        await order_faults(sandbox.url)
        again = await batch.run(sandbox.url)
        assert again.exit_code == 0, again.problems
        await batch.judge(sandbox.url, again)


async def test_images_that_a_moderation_refuses_do_not_stop_the_others(tmp_path: Path) -> None:
    batch = small(tmp_path, 1, 60)
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault("upload:p=0.3,status=403")], seed=3) as sandbox:
        report = await batch.run(sandbox.url)
        record = await sent(sandbox.url)
    refused = len(report.problems)
    assert report.exit_code == 3, report.stop
    assert refused > 8
    assert report.flows.started == 60 - refused
    looks = sum(request["endpoint"] == "templates" for request in record)
    assert looks <= 1 + refused


async def test_a_key_that_may_not_delete_sends_all_the_rest(tmp_path: Path) -> None:
    batch = small(tmp_path, 2, 4)
    faults = ["delete:status=403", "inputs:nth=1,corrupt_list=foreign"]
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault(fault) for fault in faults]) as sandbox:
        began = time.monotonic()
        report = await batch.run(sandbox.url)
        record = await sent(sandbox.url)
        assert time.monotonic() - began < 5, "nobody waits for a right"
    assert (report.exit_code, report.flows.started) == (12, 3)
    assert all(problem.status == 403 for problem in report.problems)
    assert sum(request["endpoint"] == "delete" for request in record) <= 3


REVOKED = [
    ("*:after={n},status=403", 7),
    ("*:status=403", 7),
    ("*:status=402", 7),
    ("upload:status=403", 7),
    ("create:status=402", 7),
    ("create:after=3,status=402", 7),
    ("start:status=402", 7),
]


@pytest.mark.parametrize(("fault", "code"), REVOKED)
async def test_a_key_or_an_account_that_is_refused_stops_the_run_within_a_few_requests(
    tmp_path: Path, fault: str, code: int
) -> None:
    batch = small(tmp_path, 1, 60)
    faults = [parse_fault(fault.format(n=30))]
    async with Sandbox(tmp_path / "sandbox", faults=faults) as sandbox:
        report = await batch.run(sandbox.url)
        record = await sent(sandbox.url)
        assert report.exit_code == code, report.problems
        refused = [request for request in record if request["status"] in (402, 403)]
        assert 1 <= len(refused) <= FEW, len(refused)
        if "status=402" in fault:
            assert "credit is exhausted" in str(report.stop)
        await order_faults(sandbox.url)
        again = await batch.run(sandbox.url)
        assert again.exit_code == 0, again.problems
        await batch.judge(sandbox.url, again)


async def test_a_credit_that_is_too_small_for_the_only_flow_is_no_fault_of_the_flow(tmp_path: Path) -> None:
    batch = small(tmp_path, 1, 1)
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault("start:status=402")]) as sandbox:
        report = await batch.run(sandbox.url)
    assert report.exit_code == 7
    assert "credit is exhausted" in str(report.stop)


async def test_one_output_of_forty_that_may_not_be_had_leaves_the_others(tmp_path: Path) -> None:
    batch = small(tmp_path, 10, 4)
    async with Sandbox(tmp_path / "sandbox", processing_s=0.05) as sandbox:
        assert (await batch.run(sandbox.url)).exit_code == 0
        await order_faults(sandbox.url, "output:nth=7,status=403", "flow:nth=1,status=403")
        report = await collect(batch.manifest(sandbox.url), tmp_path / "out")
        assert report.exit_code == 12, report.stop
        assert report.outputs is not None
        assert (report.outputs.collected, report.outputs.failed) == (29, 1), "and the flow that may not be looked at"
        await order_faults(sandbox.url)
        report = await collect(batch.manifest(sandbox.url), tmp_path / "out")
    assert report.exit_code == 0
    assert report.outputs is not None
    assert report.outputs.collected == 40


async def test_a_quota_that_is_spent_ends_the_run_at_once(tmp_path: Path) -> None:
    batch = small(tmp_path, 1, 20)
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault("upload:status=429,body=quota")]) as sandbox:
        began = time.monotonic()
        report = await batch.run(sandbox.url)
    assert report.exit_code == 7
    assert time.monotonic() - began < 5
    assert "quota is exhausted" in str(report.stop)
    assert "insufficient_quota" in str(report.stop)
    assert "network" not in str(report.stop)


async def test_constant_error_on_one_file_is_said_with_the_file_the_status_and_the_words(tmp_path: Path) -> None:
    batch = small(tmp_path, 2, 3)
    faults = [parse_fault("upload:flow=flow 1,status=500,body=problem")]
    async with Sandbox(tmp_path / "sandbox", faults=faults) as sandbox:
        report = await batch.run(sandbox.url)
    assert (report.exit_code, report.flows.started) == (5, 2)
    (problem,) = report.problems
    assert problem.status == 500
    assert problem.input in [path.name for path in batch.paths]
    assert problem.input in problem.message
    assert "500: Internal Server Error: Sandbox fault" in problem.message


async def test_words_of_a_422_that_says_a_large_input_again_are_told(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=1)
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault("upload:status=422,body=input")]) as sandbox:
        report = await batch.run(sandbox.url)
    assert report.exit_code == 3
    assert all("422: body.data: Sandbox fault: not this one" in problem.message for problem in report.problems)


# ---- the way


async def test_a_run_ends_with_2_after_one_request(tmp_path: Path) -> None:
    batch = small(tmp_path, 1, 2)
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        report = await run(batch.manifest(sandbox.url.replace("http:", "https:")), Settings())
    assert (report.exit_code, report.requests.sent) == (2, 1), report.stop
    assert "does not speak TLS" in str(report.stop)


async def test_an_endpoint_with_a_wrong_path_is_said_after_two_requests(tmp_path: Path) -> None:
    batch = small(tmp_path, 1, 2)
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        report = await batch.run(f"{sandbox.url}/api/v9")
    assert (report.exit_code, report.requests.sent) == (2, 2), report.stop
    assert "has no /flows" in str(report.stop)


# ---- the key


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
