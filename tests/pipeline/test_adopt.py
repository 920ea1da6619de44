"""Flows that a lost journal had made are taken over, and never paid for again."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from batcher.api import Settings, collect
from batcher.core.planning import Options
from batcher.journal.open import read_journal
from batcher.sandbox import Sandbox, parse_fault

from .batch import Batch, files, read_record
from .collect.folder import outputs, sandbox_of
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
        for options in (Options(), Options(adopt=True, resubmit_changed=True), Options(resubmit_changed=True)):
            report = await batch.run(sandbox.url, Settings(options))
            assert (report.exit_code, report.flows.started_now, report.flows.changed) == (0, 0, 0), "that cannot be told"
        batch.paths[0].write_bytes(batch.paths[2].read_bytes())
        assert (await batch.run(sandbox.url)).flows.changed == 4, "it changed since"


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


def small(folder: Path, flows: int) -> Batch:
    return Batch(folder, files(folder, 3)[2:], flows=flows, limits=QUICK)


ADOPT = Settings(Options(adopt=True))


async def test_of_several_attempts_the_one_that_has_not_failed_is_taken_over_and_all_are_known(tmp_path: Path) -> None:
    batch = small(tmp_path, 1)
    async with sandbox_of(tmp_path, "start:nth=1,fail_flow=1") as sandbox:
        await batch.run(sandbox.url)
        assert (await collect(batch.manifest(sandbox.url), tmp_path / "out")).exit_code == 13
        assert (await batch.run(sandbox.url, Settings(Options(redo_failed=True)))).flows.started_now == 1
        first, second = [flow["flow_id"] for flow in (await read_record(sandbox.url))["flows"]]
        lose_journal(tmp_path)
        report = await batch.run(sandbox.url, ADOPT)
        assert (report.exit_code, report.flows.started_now, report.paid) == (0, 0, 2)
        journal = read_journal(batch.manifest(sandbox.url), None)
        assert journal is not None
        with closing(journal):
            (facts,) = journal.flows()
            assert facts.flow_id == second
            assert [one.flow_id for one in journal.attempts(["flow 0"])["flow 0"]] == [first]
        assert (await collect(batch.manifest(sandbox.url), tmp_path / "out")).exit_code == 0
        assert (await batch.run(sandbox.url, Settings(Options(redo_failed=True)))).flows.started_now == 0
        batch.flows = 2
        report = await batch.run(sandbox.url)
        assert (report.exit_code, report.flows.started_now) == (0, 1), "the failed attempt is no unknown flow"


async def test_of_several_attempts_the_one_that_matches_is_taken_over(tmp_path: Path) -> None:
    batch = small(tmp_path, 1)
    async with sandbox_of(tmp_path) as sandbox:
        before = batch.paths[0].read_bytes()
        await batch.run(sandbox.url)
        batch.paths[0].write_bytes(before + b"changed")
        assert (await batch.run(sandbox.url, Settings(Options(resubmit_changed=True)))).flows.started_now == 1
        for content in (before + b"changed", before):
            batch.paths[0].write_bytes(content)
            lose_journal(tmp_path)
            report = await batch.run(sandbox.url, Settings(Options(adopt=True, resubmit_changed=True)))
            assert (report.exit_code, report.flows.started_now, report.flows.changed, report.paid) == (0, 0, 0, 2)


async def test_what_is_paid_for_and_has_left_the_manifest_is_taken_over_and_collected(tmp_path: Path) -> None:
    batch = small(tmp_path, 3)
    async with sandbox_of(tmp_path) as sandbox:
        await batch.run(sandbox.url)
        lose_journal(tmp_path)
        batch.flows = 1
        report = await batch.run(sandbox.url, ADOPT)
        assert (report.exit_code, report.paid, [problem.kind for problem in report.problems]) == (0, 3, ["note"])
        assert "“flow 1”, “flow 2”" in report.problems[0].message
        assert (await collect(batch.manifest(sandbox.url), tmp_path / "out")).exit_code == 0
        assert len(outputs(tmp_path / "out")) == 3
        batch.flows = 4
        report = await batch.run(sandbox.url)
        assert (report.exit_code, report.flows.started_now) == (0, 1), "they are back, and paid for"


@pytest.mark.parametrize("left", [True, False])
async def test_a_list_of_outputs_that_lags_loses_none_of_a_flow_that_does_not_match(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: bool
) -> None:  # fmt: skip
    monkeypatch.setattr("batcher.pipeline.collect.output_list.RELIST_S", (0.01, 0.01))
    batch = Batch(tmp_path, files(tmp_path, 5)[2:], flows=1, limits=QUICK)
    async with sandbox_of(tmp_path, readings="output_delay=60") as sandbox:
        await batch.run(sandbox.url)
        lose_journal(tmp_path)
        batch.paths[1].write_bytes(batch.paths[0].read_bytes())
        batch.flows = 0 if left else 1
        assert (await batch.run(sandbox.url, ADOPT)).exit_code == 0
        report = await collect(batch.manifest(sandbox.url), tmp_path / "out", delete_remote=True)
        assert report.exit_code == 12, "it lists the first of three only"
        assert not (await read_record(sandbox.url))["flows"][0]["deleted"]
        await read(sandbox.url, "output_delay=0")
        report = await collect(batch.manifest(sandbox.url), tmp_path / "out", delete_remote=True)
        assert (report.exit_code, len(outputs(tmp_path / "out"))) == (0, 3)
        assert (await read_record(sandbox.url))["flows"][0]["deleted"]
