"""A start without an outcome of a flow that has left the manifest is asked about: it may be paid for."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from batcher.api import Settings, collect, refresh, run
from batcher.core.facts import FlowFacts
from batcher.core.lifecycle import FlowState
from batcher.core.model import Manifest
from batcher.core.planning import Options
from batcher.core.report import Report
from batcher.journal.open import read_journal
from batcher.sandbox import Sandbox, parse_fault

from .batch import Batch, files, order_faults, read_record
from .collect.folder import outputs, results
from .paged import QUICK

pytestmark = pytest.mark.anyio

DONE = "start:nth=1,lost_reply=close"
NOT_DONE = "start:nth=1,status=504"


def sandbox_of(folder: Path, *faults: str) -> Sandbox:
    return Sandbox(folder / "sandbox", faults=[parse_fault(fault) for fault in faults], processing_s=0.01)


def one_flow(folder: Path) -> Batch:
    return Batch(folder, files(folder, 3)[2:], flows=1, limits=replace(QUICK, retries=1))


def without_it(batch: Batch, url: str) -> Manifest:
    """What is left when its file was taken away."""
    return replace(batch.manifest(url), flows=lambda: iter(()))


def row(manifest: Manifest) -> FlowFacts:
    journal = read_journal(manifest, None)
    assert journal is not None
    with closing(journal):
        (facts,) = journal.flows()
    return facts


async def left_open(batch: Batch, url: str) -> None:
    """Run until the start has no outcome, with a service that cannot tell what became of it."""
    report = await batch.run(url)
    assert report.exit_code == 12, report.problems
    assert row(batch.manifest(url)).is_starting
    await order_faults(url)


async def run_without_it(batch: Batch, url: str) -> Report:
    return await run(without_it(batch, url))


async def test_start_that_was_done_is_known_and_collected(tmp_path: Path) -> None:
    batch = one_flow(tmp_path)
    async with sandbox_of(tmp_path, DONE, "flow:status=503") as sandbox:
        await left_open(batch, sandbox.url)
        report = await run_without_it(batch, sandbox.url)
        facts = row(batch.manifest(sandbox.url))
        assert (report.exit_code, facts.state, report.paid) == (0, FlowState.STARTED, 1), report.problems
        assert [problem.kind for problem in report.problems if problem.flow == "flow 0"] == ["note"]
        assert (await run_without_it(batch, sandbox.url)).requests.sent == 0
        collected = await collect(without_it(batch, sandbox.url), tmp_path / "out")
        assert (collected.exit_code, len(outputs(tmp_path / "out"))) == (0, 1)
        assert (await batch.run(sandbox.url)).flows.started_now == 0, "its file is back"


async def test_start_that_was_not_done_is_given_up_and_never_sent_again(tmp_path: Path) -> None:
    batch = one_flow(tmp_path)
    async with sandbox_of(tmp_path, NOT_DONE, "flow:status=503") as sandbox:
        await left_open(batch, sandbox.url)
        report = await run_without_it(batch, sandbox.url)
        assert (report.exit_code, row(batch.manifest(sandbox.url)).state) == (0, FlowState.PLANNED), report.problems
        (flow,) = (await read_record(sandbox.url))["flows"]
    assert (flow["starts"], flow["deleted"]) == (0, True)


async def test_start_of_which_nothing_can_be_told_stays_and_is_said(tmp_path: Path) -> None:
    batch = one_flow(tmp_path)
    async with sandbox_of(tmp_path, DONE, "flow:status=503") as sandbox:
        await left_open(batch, sandbox.url)
        await order_faults(sandbox.url, "flow:status=404")
        report = await run_without_it(batch, sandbox.url)
        assert (report.exit_code, report.problems[-1].flow, report.problems[-1].status) == (12, "flow 0", 404)
        assert row(batch.manifest(sandbox.url)).is_starting
        report = await collect(without_it(batch, sandbox.url), tmp_path / "out")
        assert (report.exit_code, report.problems[0].flow) == (12, "flow 0")


async def test_flow_that_another_run_has_not_chosen_is_left_to_one_that_does(tmp_path: Path) -> None:
    """It is in the manifest: whoever plans it settles its start."""
    batch = one_flow(tmp_path)
    async with sandbox_of(tmp_path, NOT_DONE, "flow:status=503") as sandbox:
        await left_open(batch, sandbox.url)
        report = await batch.run(sandbox.url, Settings(Options(only=lambda name: name == "another")))
        assert (report.exit_code, row(batch.manifest(sandbox.url)).is_starting) == (0, True)


@pytest.mark.parametrize("in_manifest", [True, False])
async def test_collect_and_refresh_ask_for_themselves(tmp_path: Path, in_manifest: bool) -> None:
    batch = one_flow(tmp_path)
    async with sandbox_of(tmp_path, DONE, "flow:status=503") as sandbox:
        await left_open(batch, sandbox.url)
        manifest = batch.manifest(sandbox.url) if in_manifest else without_it(batch, sandbox.url)
        found, _ = await refresh(manifest)
        assert (found.asked, [end.state for end in found.rows.values()]) == (1, ["completed"])
        report = await collect(manifest, tmp_path / "out", delete_remote=True)
        assert (report.exit_code, report.flows.started) == (12, 1), "the next run would take it for lost"
        assert "batcher run settles it" in report.problems[0].hint
        assert len(outputs(tmp_path / "out")) == 1
        assert [line["state"] for line in results(tmp_path / "out")] == ["collected"]
        assert (await run(manifest)).exit_code == 0
        report = await collect(manifest, tmp_path / "out", delete_remote=True)
        assert report.exit_code == 0, report.problems
        (flow,) = (await read_record(sandbox.url))["flows"]
    assert (flow["starts"], flow["deleted"]) == (1, True)


async def test_start_that_is_not_shown_is_no_failure_of_collect_or_refresh(tmp_path: Path) -> None:
    batch = one_flow(tmp_path)
    async with sandbox_of(tmp_path, NOT_DONE, "flow:status=503") as sandbox:
        await left_open(batch, sandbox.url)
        found, asked = await refresh(batch.manifest(sandbox.url))
        assert (found.asked, found.rows, [problem.kind for problem in asked.problems]) == (1, {}, ["note"])
        report = await collect(batch.manifest(sandbox.url), tmp_path / "out")
        assert (report.exit_code, [problem.kind for problem in report.problems]) == (0, ["note"])
