"""What is begun is finished before more is begun, judged by the sandbox's own record of the requests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from batcher.sandbox import Sandbox, parse_fault

from .batch import LIMITS, Batch, files, sent, small

pytestmark = pytest.mark.anyio
SLOW = parse_fault("*:latency=20ms")


def open_at_once(requests: list[dict]) -> int:
    """Flows created and not started, at most."""
    most = now = 0
    for request in requests:
        now += (request["endpoint"] == "create") - (request["endpoint"] == "start")
        most = max(most, now)
    return most


async def test_few_flows_are_open_at_a_time(tmp_path: Path) -> None:
    batch = small(tmp_path, 3, 60)
    batch.limits = replace(batch.limits, concurrency=4)
    async with Sandbox(tmp_path / "sandbox", faults=[SLOW]) as sandbox:
        report = await batch.run(sandbox.url)
        await batch.judge(sandbox.url, report)
        requests = await sent(sandbox.url)
    assert report.exit_code == 0
    assert open_at_once(requests) <= 3 * batch.limits.concurrency


async def test_with_a_rate_the_first_flow_is_started_before_others_are_made(tmp_path: Path) -> None:
    batch = small(tmp_path, 1, 8)
    batch.limits = replace(batch.limits, rate_per_s=15.0)
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        report = await batch.run(sandbox.url)
        requests = await sent(sandbox.url)
    assert report.exit_code == 0
    kinds = [request["endpoint"] for request in requests]
    assert kinds[: kinds.index("start")].count("create") <= 2


async def test_flow_whose_create_takes_long_holds_up_no_other(tmp_path: Path) -> None:
    """Its payloads wait with it, and not in the workers' hands."""
    batch = Batch(tmp_path, files(tmp_path, 14)[2:], limits=replace(LIMITS, concurrency=2, timeout_s=20))
    slow = parse_fault("create:after=1,count=1,latency=1s")
    async with Sandbox(tmp_path / "sandbox", faults=[slow]) as sandbox:
        report = await batch.run(sandbox.url)
        await batch.judge(sandbox.url, report)
        requests = await sent(sandbox.url)
    assert report.exit_code == 0
    flows = {request["flow_id"] for request in requests if request["endpoint"] == "upload"}
    starts = [number for number, request in enumerate(requests) if request["endpoint"] == "start"]
    last_begun = max(min(number for number, r in enumerate(requests) if r["flow_id"] == flow and r["endpoint"] == "upload")
                     for flow in flows)  # fmt: skip
    assert sum(start < last_begun for start in starts) == 3
