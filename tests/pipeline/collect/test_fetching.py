"""What is not in the folder is fetched again, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from batcher.api import MemoryJournal, collect

from ..batch import Batch, files
from .folder import assert_complete, downloads, results, sandbox_of, started
from .service import GLB, Service, collected, raw

pytestmark = pytest.mark.anyio


async def test_deleted_file_is_fetched_again_and_a_changed_one_stays_beside_a_new_one(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3), flows=1)
    out = tmp_path / "out"
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        await collect(batch.manifest(sandbox.url), out)
        (out / "flow 0" / "1.glb").unlink()
        report = await collect(batch.manifest(sandbox.url), out)
        assert_complete(batch, out, report)
        assert await downloads(sandbox.url) == 4
        (out / "flow 0" / "2.glb").write_bytes(b"edited by hand")
        report = await collect(batch.manifest(sandbox.url), out)
        assert report.exit_code == 0
        assert (out / "flow 0" / "2.glb").read_bytes() == b"edited by hand"
        (row,) = [row for row in results(out) if row["source"] == "2.png"]
        assert row["output"].startswith("flow 0/2-")
        await collect(batch.manifest(sandbox.url), out)
        assert await downloads(sandbox.url) == 5


async def test_path_that_cannot_be_is_a_problem_of_its_output_only(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=2)
    out = tmp_path / "out"
    out.mkdir()
    (out / "flow 1").write_bytes(b"a file where a folder should be")
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        report = await collect(batch.manifest(sandbox.url), out)
    assert report.exit_code == 12
    assert report.outputs is not None
    assert (report.outputs.collected, report.outputs.failed) == (2, 2)
    assert "--name" in report.problems[0].hint


async def test_output_that_was_shown_in_error_is_asked_for_again_by_the_next_collect(tmp_path: Path) -> None:
    service = Service(statuses=["error", "ready"], outputs={"1": ("a.png", raw(GLB)), "2": ("b.png", raw(GLB))})
    journal = MemoryJournal()
    assert (await collected(service, tmp_path, journal))[0].exit_code == 3
    report, found = await collected(service, tmp_path, journal)
    assert (report.exit_code, found) == (0, {"flow/a.glb", "flow/b.glb"})
