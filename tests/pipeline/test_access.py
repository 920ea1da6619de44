"""Whom a 403 or a 402 costs what: one thing its own, a key that is revoked the run, within a few requests."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from batcher.api import collect
from batcher.sandbox import Sandbox, parse_fault

from .batch import LIMITS, order_faults, sent, small

pytestmark = pytest.mark.anyio
FEW = 2 * LIMITS.concurrency + 2  # what may be under way while the look is, and the looks
OWN = [
    ("upload:nth=3,status=403", 3, 7),
    ("upload:nth=3,status=402", 3, 7),
    ("create:nth=2,status=403", 3, 7),
    ("create:nth=2,status=402", 3, 7),
    ("start:nth=2,status=403", 3, 7),
    ("start:nth=2,status=402", 3, 7),
    ("inputs:nth=2,status=403", 12, 7),
]
REVOKED = [
    ("*:after={n},status=403", 7),
    ("*:status=403", 7),
    ("*:status=402", 7),
    ("upload:status=403", 7),
    ("create:status=402", 7),
    ("create:after=3,status=402", 7),
    ("start:status=402", 7),
]


@pytest.mark.parametrize(("fault", "code", "started"), OWN)
async def test_what_is_refused_once_is_refused_alone(tmp_path: Path, fault: str, code: int, started: int) -> None:
    batch = small(tmp_path, 2, 8)
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault(fault)]) as sandbox:
        report = await batch.run(sandbox.url)
        assert (report.exit_code, report.flows.started) == (code, started), report.problems or report.stop
        assert report.stop is None
        (problem,) = report.problems
        advice = {402: "top up the account, or change", 403: "use a key that may do it, or change"}
        assert problem.kind != "refused" or problem.hint.startswith(advice[problem.status or 0])
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
