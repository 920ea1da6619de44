"""Inputs are sent again, or the flow is built anew, and no input arrives twice."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from batcher.api import Settings
from batcher.core.planning import Options
from batcher.sandbox import Sandbox, parse_fault

from .batch import LIMITS, Batch, files, read_record

pytestmark = pytest.mark.anyio


async def test_second_attempt_that_is_lost_is_waited_for_though_the_first_one_turns_up(tmp_path: Path) -> None:
    """The first is answered with an error and done late; the second gets no answer, and may be done as late as the settling
    time allows: a list that shows one of them is not yet right."""
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], flows=1, limits=replace(LIMITS, timeout_s=1.0, settle_s=2.0))
    faults = ["upload:nth=1,status=500,late_commit=300ms", "upload:nth=1,late_commit=2700ms"]  # the second meets the second
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault(fault) for fault in faults]) as sandbox:
        report = await batch.run(sandbox.url)
        flows = await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.problems
    assert [(flow["starts"], flow["deleted"]) for flow in flows] == [(0, True), (1, False)]


async def test_input_that_was_refused_and_taken_out_is_no_obstacle(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 5), flows=1, additional={number: {} for number in range(5)})
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault("upload:nth=5,status=422")]) as sandbox:
        report = await batch.run(sandbox.url)
        assert report.exit_code == 3
        record = await read_record(sandbox.url)
        sent = {asset["sha256"] for asset in record["flows"][0]["inputs"]}
        batch.paths = [path for path in batch.paths if hashlib.sha256(path.read_bytes()).hexdigest() in sent]
        assert len(batch.paths) == 4
        report = await batch.run(sandbox.url)
        flows = await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.problems
    assert sum(flow["starts"] for flow in flows) == 1


async def test_flow_that_somebody_else_started_is_paid_for_and_can_be_redone(tmp_path: Path) -> None:
    """While an input of it was still to be sent. It is never started again but by its name."""
    batch = Batch(tmp_path, files(tmp_path, 4)[2:], flows=1, limits=replace(LIMITS, concurrency=1))
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault("upload:nth=2,status=422")]) as sandbox:
        assert (await batch.run(sandbox.url)).exit_code == 3
        (flow,) = (await read_record(sandbox.url))["flows"]
        async with aiohttp.ClientSession() as session:
            await session.patch(f"{sandbox.url}/flows/{flow['flow_id']}", json={"action": "start"})
        report = await batch.run(sandbox.url)
        assert (report.exit_code, report.flows.started_now) == (12, 0)
        (problem,) = report.problems
        assert "--redo NAME pays for it again" in problem.hint
        report = await batch.run(sandbox.url, Settings(Options(resubmit_changed=True)))
        assert (report.exit_code, report.flows.started, report.flows.started_now) == (0, 1, 0), report.problems
        report = await batch.run(sandbox.url, Settings(Options(redo=lambda name: True)))
        assert (report.exit_code, report.flows.started_now) == (0, 1), report.problems
        flows = (await read_record(sandbox.url))["flows"]
        assert [(len(flow["inputs"]), flow["starts"]) for flow in flows] == [(1, 1), (2, 1)]
