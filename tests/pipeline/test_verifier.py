"""A list of inputs lets a flow start only where it is right, and proves nothing where it is a part."""

from __future__ import annotations

from pathlib import Path

import pytest

from batcher.api import Settings, collect
from batcher.core.planning import Options
from batcher.sandbox import Sandbox, parse_fault

from .batch import Batch, files, read_record
from .paged import CAPS, QUICK, read, service

pytestmark = pytest.mark.anyio


async def test_inputs_that_cannot_carry_a_tag_are_compared_by_their_data(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 4), additional={0: "words", 1: [1, 2], 2: None})
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault("upload:p=0.3,lost_reply=close")]) as sandbox:
        report = await batch.run(sandbox.url)
        await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.problems or report.stop


@pytest.mark.parametrize("when", ["before", "after"])
async def test_upload_whose_success_says_that_it_was_not_done_is_settled_by_the_list(tmp_path: Path, when: str) -> None:
    batch = Batch(tmp_path, files(tmp_path, 4), flows=1)
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault(f"upload:nth=1,garbage=error,when={when}")]) as sandbox:
        report = await batch.run(sandbox.url)
        flows = await batch.judge(sandbox.url, report)
    assert (report.exit_code, len(flows)) == (0, 1), report.problems


async def test_additional_that_speaks_of_data_does_not_pass_for_the_data(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), additional={1: [{"data": "data:image/png;base64,QQ=="}]}, flows=1)
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        report = await batch.run(sandbox.url)
        await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.problems or report.stop


async def test_lists_of_which_the_second_shows_less_prove_nothing(tmp_path: Path) -> None:
    """Inputs without tags need two; nothing ever leaves a flow, so the shorter one is not what is there."""
    batch = Batch(tmp_path, files(tmp_path, 3), flows=1, additional=dict.fromkeys(range(3), "x"))
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault("inputs:nth=2,corrupt_list=missing")]) as sandbox:
        report = await batch.run(sandbox.url)
        flows = await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.problems
    assert [(flow["starts"], flow["deleted"]) for flow in flows] == [(0, True), (1, False)]


@pytest.mark.parametrize("tagged", [True, False])
@pytest.mark.parametrize("readings", [*CAPS, "pages=has_more,page_params=ignored", "pages=next,page_end=circle"])
async def test_inputs_of_which_a_part_is_shown_are_not_built_anew(tmp_path: Path, readings: str, tagged: bool) -> None:
    extra = {} if tagged else dict.fromkeys(range(5), "words")
    batch = Batch(tmp_path, files(tmp_path, 7)[2:], flows=1, limits=QUICK, additional=extra)
    async with service(tmp_path, "pages=none") as sandbox:
        report = await batch.run(sandbox.url, Settings(options=Options(start=False)))
        assert report.exit_code == 0
        await read(sandbox.url, f"paged=all,{readings}")
        for _ in range(3):
            report = await batch.run(sandbox.url)
            assert report.exit_code == 12, report.problems
            assert "its list" in report.problems[0].message or "the list of its inputs" in report.problems[0].message
        record = await read_record(sandbox.url)
        assert [(flow["starts"], flow["deleted"]) for flow in record["flows"]] == [(0, False)]
        assert record["requests"]["upload"] == 5
        await read(sandbox.url, "pages=none")
        report = await batch.run(sandbox.url)
        assert report.exit_code == 0, report.problems
        await batch.judge(sandbox.url, report)


@pytest.mark.parametrize("readings", ["pages=next", "pages=page,pages_in=meta", "pages=has_more", "pages=link,inputs=bare"])
async def test_inputs_and_outputs_in_pages_are_sent_and_collected(tmp_path: Path, readings: str) -> None:
    batch = Batch(tmp_path, files(tmp_path, 7)[2:], flows=2, limits=QUICK)
    async with service(tmp_path, f"paged=all,{readings}") as sandbox:
        report = await batch.run(sandbox.url)
        assert report.exit_code == 0, report.problems or report.stop
        await batch.judge(sandbox.url, report)
        report = await collect(batch.manifest(sandbox.url), tmp_path / "out", delete_remote=True)
        assert report.exit_code == 0, report.problems
        assert report.outputs is not None
        assert report.outputs.collected == 10
        assert all(flow["deleted"] for flow in (await read_record(sandbox.url))["flows"])
