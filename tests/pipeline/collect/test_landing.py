"""An output takes no path that somebody else's file has."""

from __future__ import annotations

from pathlib import Path

import pytest

from batcher.api import Settings, collect
from batcher.core.planning import Options

from ..batch import Batch, files
from .folder import results, sandbox_of, started

pytestmark = pytest.mark.anyio


async def test_file_that_is_not_ours_is_left_alone_and_the_same_bytes_are_taken_over(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3), flows=1)
    out = tmp_path / "out"
    (out / "flow 0" / "1.glb").mkdir(parents=True)
    (out / "flow 0" / "2.glb").write_bytes(b"somebody's")
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        report = await collect(batch.manifest(sandbox.url), out)
        assert report.exit_code == 0, report.problems
        assert (out / "flow 0" / "2.glb").read_bytes() == b"somebody's"
        assert sum(row["state"] == "collected" for row in results(out)) == 3
        assert {row["output"] for row in results(out) if row["source"] == "0.png"} == {"flow 0/0.glb"}


async def test_flow_that_is_paid_for_again_replaces_its_outputs_but_not_what_was_edited(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=1)
    out = tmp_path / "out"
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        await collect(batch.manifest(sandbox.url), out)
        (out / "flow 0" / "1.glb").write_bytes(b"edited")
        report = await batch.run(sandbox.url, Settings(Options(redo=lambda name: True)))
        assert report.flows.started_now == 1
        report = await collect(batch.manifest(sandbox.url), out)
        assert report.exit_code == 0, report.problems
        assert (out / "flow 0" / "1.glb").read_bytes() == b"edited"
        names = {row["source"]: row["output"] for row in results(out)}
        assert names["0.png"] == "flow 0/0.glb"
        assert names["1.png"].startswith("flow 0/1-")
        assert len(list((out / "flow 0").iterdir())) == 3
