"""A create without a reply is looked for, and no twin is left."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from batcher.api import Settings, clean
from batcher.core.planning import Options
from batcher.sandbox import Sandbox, parse_fault

from .batch import Batch, files, order_faults, read_record
from .paged import QUICK, make_flows, ours, read, service

pytestmark = pytest.mark.anyio


async def test_a_list_of_something_else_is_no_list_without_our_flows(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2))
    faults = ["create:nth=1,lost_reply=close", "flows:nth=2,garbage=json"]
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault(fault) for fault in faults]) as sandbox:
        report = await batch.run(sandbox.url)
        flows = await batch.judge(sandbox.url, report)
    assert (report.exit_code, len(flows)) == (0, batch.flows), "a twin was made"


async def test_who_cannot_ask_cannot_settle(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2))
    faults = ["create:nth=1,lost_reply=close", "flows:after=1,status=400"]
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault(fault) for fault in faults]) as sandbox:
        report = await batch.run(sandbox.url)
        await batch.judge(sandbox.url, report)
    assert report.exit_code == 12, "nothing was refused, but an outcome is open"


@pytest.mark.parametrize("readings", ["pages=cap", "pages=total,page_params=ignored"])
async def test_create_that_is_not_listed_is_not_sent_again_on_the_word_of_a_part(tmp_path: Path, readings: str) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], flows=3, limits=QUICK)
    async with service(tmp_path, "pages=none") as sandbox:
        await batch.run(sandbox.url, Settings(options=Options(only=lambda name: name != "flow 2")))
        await make_flows(sandbox.url, 3)
        await order_faults(sandbox.url, "create:nth=1,lost_reply=close")
        await read(sandbox.url, readings)
        for _ in range(2):
            report = await batch.run(sandbox.url)
            assert report.exit_code == 12, report.problems
            assert any("whether it was created cannot be told" in problem.message for problem in report.problems)
        await make_flows(sandbox.url, 3)
        flows = ours((await read_record(sandbox.url))["flows"])
        names = Counter(flow["additional"]["batcher"]["flow"] for flow in flows if not flow["deleted"])
        assert names == {"flow 0": 1, "flow 1": 1, "flow 2": 1}, "no twin is left"
        await read(sandbox.url, "pages=none")
        report = await batch.run(sandbox.url)
        assert report.exit_code == 0, report.problems
        flows = ours((await read_record(sandbox.url))["flows"])
    assert sum(flow["starts"] for flow in flows) == 3
    assert not [flow for flow in flows if not flow["starts"] and not flow["deleted"]]


async def test_create_that_the_part_shows_is_found_and_its_twins_stay_an_open_question(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], flows=3, limits=QUICK)
    async with service(tmp_path, "pages=none") as sandbox:
        await batch.run(sandbox.url, Settings(options=Options(only=lambda name: name != "flow 2")))
        await order_faults(sandbox.url, "create:nth=1,lost_reply=close")
        await read(sandbox.url, "pages=cap,order=desc")
        report = await batch.run(sandbox.url)
        assert (report.exit_code, report.flows.started) == (12, 3), report.problems
        assert "lost creates" in report.problems[0].message
        await read(sandbox.url, "pages=none")
        report = await batch.run(sandbox.url)
        flows = (await read_record(sandbox.url))["flows"]
    assert (report.exit_code, [flow["starts"] for flow in flows]) == (0, [1, 1, 1])


async def test_create_that_was_done_and_answered_with_503_leaves_no_twin(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], flows=2, limits=QUICK)
    faults = [parse_fault("create:nth=1,error_after_commit=503")]
    async with Sandbox(tmp_path / "sandbox", faults=faults) as sandbox:
        report = await batch.run(sandbox.url)
        flows = await batch.judge(sandbox.url, report)
    assert (report.exit_code, len(flows)) == (0, 3)


async def test_clean_knows_both_flows_of_one_tag(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], flows=1, limits=QUICK)
    faults = [parse_fault(text) for text in ("create:nth=1,error_after_commit=503", "flows:after=3,status=400")]
    async with Sandbox(tmp_path / "sandbox", faults=faults) as sandbox:
        assert (await batch.run(sandbox.url, Settings(Options(start=False)))).exit_code in (0, 12)
        await order_faults(sandbox.url)
        found, _ = await clean(batch.manifest(sandbox.url), Settings(), False)
        there = [flow["flow_id"] for flow in (await read_record(sandbox.url))["flows"] if not flow["deleted"]]
        assert sorted(flow.flow_id for flow in found) == sorted(there)
        report = await batch.run(sandbox.url)
        await batch.judge(sandbox.url, report)
        assert report.exit_code == 0
