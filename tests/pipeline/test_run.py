"""The four guarantees under faults, judged by the sandbox's own record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batcher.api import Settings, run
from batcher.core.errors import Reason, Stop
from batcher.core.facts import FileStat
from batcher.core.model import Flow, Input, Problem
from batcher.core.price import parse_price
from batcher.pipeline.operation import Operation
from batcher.pipeline.ports import Seen
from batcher.sandbox import Sandbox, parse_fault

from .batch import LIMITS, Batch, files, order_faults, read_record

pytestmark = pytest.mark.anyio
WRITES = ("create", "upload", "start")
HEALED = [
    *(f"{call}:p=0.3,lost_reply=close" for call in WRITES),
    *(f"{call}:p=0.3,error_after_commit=500" for call in WRITES),
    *(f"{call}:p=0.3,garbage=html" for call in WRITES),
    *(f"{call}:p=0.2,late_commit=1.0s" for call in WRITES),
    "upload:p=0.2,status=500",
    "upload:nth=3,late_commit=4s",
    "create:nth=2,late_commit=4s",
    "upload:nth=4,drop_mid=1",
    "upload:nth=4,drop_before=1",
    "upload:p=0.2,status=408",
    "*:p=0.1,status=503",
    "*:nth=9,status=429,retry_after=1",
    "inputs:nth=2,truncate=1",
    "inputs:nth=2,corrupt_list=missing",
    "inputs:nth=2,corrupt_list=twice",
    "inputs:nth=2,corrupt_list=foreign",
    "*:nth=7,status=502",
]
FATAL = [
    ("upload:nth=3,status=413", 3),
    ("upload:nth=3,status=422", 3),
    ("start:nth=2,status=422", 3),
    ("create:nth=2,status=422", 3),
    ("*:status=401", 7),
    ("upload:nth=5,status=402", 3),
    ("upload:nth=5,status=403", 3),
    ("*:status=403", 7),
    ("create:status=429,body=quota", 7),
    ("upload:after=4,status=503", 5),
    ("upload:status=500", 5),
    ("create:status=500", 5),
    ("start:status=500", 5),
    ("delete:status=400+upload:nth=3,late_commit=4s", 5),
    ("templates:huge=3MB", 5),
]


@pytest.mark.parametrize("fault", HEALED)
async def test_run_heals_in_one_go(tmp_path: Path, fault: str) -> None:
    batch = Batch(tmp_path, files(tmp_path, 4))
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault(fault)]) as sandbox:
        report = await batch.run(sandbox.url)
        flows = await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.problems or report.stop
    assert flows


@pytest.mark.parametrize(("fault", "code"), FATAL)
async def test_run_ends_with_its_code_and_the_next_one_completes(tmp_path: Path, fault: str, code: int) -> None:
    batch = Batch(tmp_path, files(tmp_path, 4), limits=replace(LIMITS, retries=2, settle_s=0.3))
    faults = [parse_fault(one) for one in fault.split("+")]
    async with Sandbox(tmp_path / "sandbox", faults=faults) as sandbox:
        report = await batch.run(sandbox.url)
        assert report.exit_code == code, report.problems or report.stop
        await batch.judge(sandbox.url, report)
        await order_faults(sandbox.url)
        report = await batch.run(sandbox.url)
        await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.problems or report.stop


async def test_second_run_sends_nothing(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 4))
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        assert (await batch.run(sandbox.url)).exit_code == 0
        report = await batch.run(sandbox.url)
        await batch.judge(sandbox.url, report)
    assert (report.exit_code, report.requests.sent, report.flows.started) == (0, 0, 4)


async def test_run_that_ends_in_the_middle_of_a_walk_ends_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batcher.pipeline.planner.KEEP", 0)  # all of it is looked at again when it is to be sent
    batch = Batch(tmp_path, files(tmp_path, 12), flows=40)

    def started(operation: Operation) -> None:
        loop = asyncio.get_running_loop()
        looks = 0
        look = operation.sources.look

        def counted(source: Input, seen: Seen | None = None) -> FileStat | Problem:
            nonlocal looks
            looks += 1
            if looks == 12 * 50:  # of the second walk
                loop.call_soon_threadsafe(operation.halt, Stop(Reason.SIGTERM, "stopped by SIGTERM"))
                time.sleep(0.2)
            return look(source, seen)

        operation.sources.look = counted  # type: ignore[method-assign]

    async with Sandbox(tmp_path / "service", processing_s=0.05) as sandbox:
        report = await run(batch.manifest(sandbox.url), Settings(), started=started)
        assert report.exit_code == 143
        await batch.judge(sandbox.url, report)
        report = await batch.run(sandbox.url)
        assert report.exit_code == 0
        await batch.judge(sandbox.url, report)


@pytest.mark.parametrize(
    "caps", [{"max_starts": 5}, {"price_per_start": parse_price("1 EUR"), "max_cost": parse_price("5 EUR")}]
)
async def test_flows_that_come_after_the_look_at_all_do_not_pass_a_cap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caps: dict[str, Any]
) -> None:
    """Where the plan was too large to keep the manifest is walked again: files have come since."""
    monkeypatch.setattr("batcher.pipeline.planner.KEEP", 0)
    batch = Batch(tmp_path, files(tmp_path, 1), flows=5, limits=replace(LIMITS, **caps))
    manifest = batch.manifest("")
    walks = 0

    def flows() -> Iterator[Flow | Problem]:
        nonlocal walks
        walks += 1
        batch.flows = 5 if walks == 1 else 8
        return batch._flows()

    async with Sandbox(tmp_path / "sandbox") as sandbox:
        report = await run(replace(manifest, endpoint=sandbox.url, flows=flows), Settings())
        record = (await read_record(sandbox.url))["flows"]
    assert walks > 1
    assert report.exit_code == 0, report.problems or report.stop
    assert sum(flow["starts"] for flow in record) == 5
