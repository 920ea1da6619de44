"""What is there already is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from batcher.api import collect
from batcher.core.output_names import asset_mark

from ..batch import Batch, files
from .folder import assert_complete, downloads, results, sandbox_of, started

pytestmark = pytest.mark.anyio


async def test_files_of_another_folder_and_a_process_that_died_before_the_rename_are_found(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=1)
    out, moved = tmp_path / "out", tmp_path / "moved"
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        await collect(batch.manifest(sandbox.url), out)
        out.rename(moved)
        row = next(row for row in results(moved) if row["source"] == "1.png")
        (moved / "flow 0" / "1.glb").rename(moved / "flow 0" / f".{asset_mark(row['flow_id'], row['asset_id'])}.part")
        assert_complete(batch, moved, await collect(batch.manifest(sandbox.url), moved))
        assert await downloads(sandbox.url) == 2
        assert_complete(batch, out, await collect(batch.manifest(sandbox.url), out))
        assert await downloads(sandbox.url) == 4
