"""Flows that a lost journal had made are taken over, and never paid for again."""

from __future__ import annotations

from pathlib import Path

import pytest

from batcher.api import Settings
from batcher.core.planning import Options
from batcher.sandbox import Sandbox, parse_fault

from .batch import Batch, files, read_record
from .paged import QUICK, lose_journal, read, service

pytestmark = pytest.mark.anyio


async def test_adopting_never_pays_again_for_what_was_started(tmp_path: Path) -> None:
    paths = files(tmp_path, 3)
    batch = Batch(tmp_path, paths, additional={1: [1, 2]})
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        assert (await batch.run(sandbox.url)).exit_code == 0
        for path in (tmp_path / ".batcher").glob("m-*"):
            path.unlink()
        only = Options(adopt=True, only=lambda name: name == "flow 1")
        assert (await batch.run(sandbox.url, Settings(only))).flows.started_now == 0
        report = await batch.run(sandbox.url, Settings(Options(resubmit_changed=True)))
        assert (report.exit_code, report.flows.started, report.flows.started_now, report.flows.changed) == (0, 4, 0, 0)
        assert [problem.message for problem in report.problems] == ["what it was started with is not known"] * 4


async def test_started_flow_with_other_inputs_is_adopted_as_changed(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 4)[2:], flows=2)
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        assert (await batch.run(sandbox.url)).exit_code == 0
        lose_journal(tmp_path)
        batch.paths[0].write_bytes(b"\x89PNG\r\n\x1a\nanother")
        for adopt in (True, False):
            report = await batch.run(sandbox.url, Settings(Options(adopt=adopt)))
            assert (report.exit_code, report.flows.started_now, report.flows.changed) == (0, 0, 2)


async def test_open_flow_with_a_missing_input_is_not_adopted(tmp_path: Path) -> None:
    """The journal that was lost may have sent it without an answer: it may yet arrive, and is never sent there again."""
    batch = Batch(tmp_path, files(tmp_path, 4), flows=1)
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault("upload:nth=1,late_commit=3s")]) as sandbox:
        assert (await batch.run(sandbox.url, Settings(max_duration_s=0.9))).exit_code == 10
        adopting = Settings(options=Options(adopt=True), state=tmp_path / "another journal")
        report = await batch.run(sandbox.url, adopting)
        flows = await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.problems
    assert [(flow["starts"], flow["deleted"]) for flow in flows] == [(0, True), (1, False)]


async def test_adopting_on_the_word_of_a_part_pays_for_nothing_again(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], limits=QUICK)
    adopting = Settings(options=Options(adopt=True))
    async with service(tmp_path, "pages=none") as sandbox:
        assert (await batch.run(sandbox.url)).exit_code == 0
        lose_journal(tmp_path)
        await read(sandbox.url, "pages=has_more,page_params=ignored")
        assert (await batch.run(sandbox.url, adopting)).exit_code == 12
        await read(sandbox.url, "pages=cap")  # two of the four are taken over, the others would be built anew
        assert (await batch.run(sandbox.url, adopting)).exit_code == 12
        await read(sandbox.url, "pages=none")
        report = await batch.run(sandbox.url, adopting)
        assert (report.exit_code, report.flows.started, report.flows.started_now) == (0, 4, 0)
        assert (await batch.run(sandbox.url)).exit_code == 0, "what was taken over is known from then on"
        flows = (await read_record(sandbox.url))["flows"]
    assert sum(flow["starts"] for flow in flows) == 4
    assert not [flow for flow in flows if not flow["starts"] and not flow["deleted"]]
