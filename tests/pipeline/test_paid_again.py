"""What was started is paid for again only where what it was started with is known to be something else."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from batcher import load_manifest
from batcher.api import MemoryJournal, Settings, run
from batcher.core.facts import InputFacts, PutInput
from batcher.core.lifecycle import FlowState
from batcher.core.model import ABSENT, Limits
from batcher.core.planning import Options
from batcher.core.tags import spec_digest
from batcher.sandbox import Readings, Sandbox, parse_fault

from .batch import Batch, files, read_record, sent

pytestmark = pytest.mark.anyio

CHANGED = Settings(options=Options(resubmit_changed=True))
CHANGED_READ = Settings(options=Options(resubmit_changed=True, checksum=True))
REDO = Settings(options=Options(redo=lambda name: True))


def jpegs(folder: Path) -> Batch:
    """One flow of two, of which one carries an `additional`."""
    paths = [folder / "a.jpg", folder / "b.jpg"]
    for path in paths:
        path.write_bytes(b"\xff\xd8\xff\xe0" + os.urandom(900))
    return Batch(folder, paths, flows=1)


async def starts(url: str) -> list[int]:
    """Of each flow on the service."""
    return [flow["starts"] for flow in (await read_record(url))["flows"]]


async def test_what_the_service_spells_in_its_own_way_is_not_paid_for_again(tmp_path: Path) -> None:
    batch = jpegs(tmp_path)
    async with Sandbox(tmp_path / "service", readings=Readings.parse("jpeg=image/jpg"), processing_s=0.05) as sandbox:
        assert (await batch.run(sandbox.url)).exit_code == 0
        for settings in (CHANGED_READ, CHANGED_READ):
            assert (await batch.run(sandbox.url, settings)).exit_code == 0
        for path in batch.paths:
            os.utime(path)
        report = await batch.run(sandbox.url, CHANGED)
        assert (report.exit_code, report.flows.changed) == (0, 0)
        assert await starts(sandbox.url) == [1], "nothing has changed"
        batch.paths[0].write_bytes(b"\xff\xd8\xff\xe0another")
        assert (await batch.run(sandbox.url, CHANGED)).exit_code == 0
        assert await starts(sandbox.url) == [1, 1], "this is a change, and was asked for"


@pytest.mark.parametrize("start", [True, False])
@pytest.mark.parametrize("now", ["image/jpg", "image/jpeg"])
async def test_rows_that_took_the_digest_over_the_other_spelling_are_no_change(tmp_path: Path, start: bool, now: str) -> None:
    """As batcher wrote them until now: neither is a started flow paid for again, nor one that is not started built anew."""
    batch, journal = jpegs(tmp_path), MemoryJournal()
    async with Sandbox(tmp_path / "service", readings=Readings.parse(f"jpeg={now}"), processing_s=0.05) as sandbox:
        manifest = batch.manifest(sandbox.url)
        await run(manifest, Settings(options=Options(start=start)), journal=journal)
        await journal.record(*(PutInput("flow 0", old_row(row)) for row in list(journal.input_rows("flow 0"))))
        for path in batch.paths:
            os.utime(path)
        report = await run(manifest, CHANGED, journal=journal)
        assert (report.exit_code, report.flows.changed, report.flows.rebuilt) == (0, 0, 0)
        facts = journal.flow("flow 0")
        assert facts is not None
        assert facts.state is FlowState.STARTED
        assert await starts(sandbox.url) == [1], "neither another, nor one built anew"


def old_row(row: InputFacts) -> InputFacts:
    """Of what was sent as image/jpg, with the `additional` that `Batch` gives it."""
    (additional,) = [one for one in ({}, {"n": 1}) if row.spec_digest == spec_digest("image/jpeg", one or ABSENT)]
    return replace(row, spec_digest=spec_digest("image/jpg", additional or ABSENT))


async def test_prompt_whose_name_tells_no_type_is_compared_and_paid_for_again_as_asked(tmp_path: Path) -> None:
    """Its type follows from the template; of a started flow that is asked only where it may be paid for again."""
    prompt = tmp_path / "stool.prompt"
    prompt.write_text("a stool")
    (tmp_path / "m.yaml").write_text("""
version: 1
flows: [{name: stool, template: model_generate_fromprompt, inputs: [stool.prompt]}]
""")
    async with Sandbox(tmp_path / "service", processing_s=0.05) as sandbox:
        manifest = load_manifest(tmp_path / "m.yaml", env={}, endpoint=sandbox.url)
        assert (await run(manifest, Settings())).exit_code == 0
        assert (await run(manifest, REDO)).flows.started_now == 1
        assert await starts(sandbox.url) == [1, 1]
        os.utime(prompt)
        assert (await run(manifest, CHANGED)).exit_code == 0
        assert await starts(sandbox.url) == [1, 1], "nothing has changed"
        prompt.write_text("a large stool")
        before = len(await sent(sandbox.url))
        report = await run(manifest, Settings())
        assert (report.exit_code, report.flows.changed, len(await sent(sandbox.url))) == (0, 1, before)
        assert (await run(manifest, CHANGED)).flows.started_now == 1
        assert await starts(sandbox.url) == [1, 1, 1]


async def test_file_that_has_lost_its_type_is_not_begun_anew(tmp_path: Path) -> None:
    """It was sent as an image. A text under its name can be no input of this template, and the flow stays done."""
    image = tmp_path / "image"
    image.write_bytes(b"\xff\xd8\xff\xe0" + os.urandom(900))
    batch = Batch(tmp_path, [image], flows=1)
    async with Sandbox(tmp_path / "service", processing_s=0.05) as sandbox:
        assert (await batch.run(sandbox.url)).exit_code == 0
        image.write_bytes(b"an error message")
        assert (await batch.run(sandbox.url)).flows.changed == 1
        for settings in (CHANGED, REDO):
            await batch.run(sandbox.url, settings)
        report = await batch.run(sandbox.url, REDO)
        assert (report.exit_code, report.problems[0].message) == (4, "the type of image cannot be told")
        assert [flow["starts"] for flow in (await read_record(sandbox.url))["flows"]] == [1]


@pytest.mark.parametrize("edit", ["nothing", "touched", "another content", "a source is gone"])
async def test_flow_whose_start_came_late_is_paid_for_again_only_by_its_name(tmp_path: Path, edit: str) -> None:
    """It was given up and could not be deleted; then its start was done after all. What it was started with is not known."""
    batch = Batch(tmp_path, files(tmp_path, 4)[2:], flows=1, limits=Limits(settle_s=0.5, timeout_s=0.5, retries=0))
    faults = [parse_fault(text) for text in ("start:nth=1,late_commit=3s", "delete:first=3,status=503")]
    async with Sandbox(tmp_path / "service", faults=faults, processing_s=0.05) as sandbox:
        assert (await batch.run(sandbox.url, CHANGED)).exit_code == 5
        assert await starts(sandbox.url) == [0]
        await asyncio.sleep(3)
        assert await starts(sandbox.url) == [1], "it was done late"
        if edit == "touched":
            os.utime(batch.paths[0])
        elif edit == "another content":
            batch.paths[0].write_bytes(b"\x89PNG\r\n\x1a\nanother")
        late = await batch.run(sandbox.url, CHANGED)
        assert (late.exit_code, late.flows.started_now) == (12, 0)
        if edit == "a source is gone":
            batch.paths[0].unlink()
        for settings in (CHANGED, CHANGED_READ, Settings()):
            report = await batch.run(sandbox.url, settings)
            assert (report.exit_code, report.flows.started, report.flows.changed, report.flows.pending) == (0, 1, 0, 0)
            assert report.inputs.uploaded == report.inputs.total == 2
            assert [problem.kind for problem in report.problems] == ["note"] * settings.options.resubmit_changed
        assert await starts(sandbox.url) == [1], "nobody has asked for it by its name"
        if edit != "a source is gone":
            assert (await batch.run(sandbox.url, REDO)).flows.started_now == 1
            assert (await batch.run(sandbox.url, CHANGED_READ)).problems == [], "from now on it is known"
            assert await starts(sandbox.url) == [1, 1]
