"""All that was started is collected, and nothing under names that were not meant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from batcher.api import collect
from batcher.core.model import Flow, Problem

from ..batch import HERE, Batch, files
from .folder import assert_complete, outputs, results, sandbox_of, started

pytestmark = pytest.mark.anyio


async def test_flow_that_left_the_manifest_is_collected_and_one_that_was_not_started_is_said_to_be(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=2)
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        manifest = batch.manifest(sandbox.url)
        new = Flow("new", "model_generate_fromimage", None, {}, None, HERE, batch._inputs)
        manifest = replace(manifest, flows=lambda: iter([next(iter(batch._flows())), new]))
        report = await collect(manifest, tmp_path / "out")
    assert report.exit_code == 0
    assert (report.flows.total, report.flows.started, report.flows.pending) == (3, 2, 1)
    assert len(outputs(tmp_path / "out")) == 4
    assert {row["source"] for row in results(tmp_path / "out") if row["flow"] == "flow 1"} == {""}


async def test_nothing_is_collected_under_names_that_were_not_meant(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 1), flows=1)
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        problem = Problem("source", "no such file: products.csv", "put it back", HERE)
        manifest = replace(batch.manifest(sandbox.url), flows=lambda: iter([problem]))
        report = await collect(manifest, tmp_path / "out")
        assert (report.exit_code, outputs(tmp_path / "out"), report.problems) == (4, {}, [problem])
        assert_complete(batch, tmp_path / "out", await collect(batch.manifest(sandbox.url), tmp_path / "out"))
