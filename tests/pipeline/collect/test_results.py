"""The lists of results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from batcher.api import Settings, collect, run
from batcher.core.planning import Options

from ..batch import Batch, files
from .folder import results, sandbox_of

pytestmark = pytest.mark.anyio


async def test_two_manifests_in_one_folder_keep_their_rows(tmp_path: Path) -> None:
    out = tmp_path / "out"
    batches = []
    async with sandbox_of(tmp_path) as sandbox:
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            batch = Batch(tmp_path / name, files(tmp_path / name, 2), flows=1)
            manifest = replace(batch.manifest(sandbox.url), batch=name)
            assert (await run(manifest)).exit_code == 0
            batches.append(manifest)
        for manifest in (*batches, *batches):
            assert (await collect(manifest, out)).exit_code == 0
            rows = results(out)
        assert {(row["batch"], row["source"]) for row in rows} == {(n, f"{s}.png") for n in ("first", "second") for s in (0, 1)}
        assert len(rows) == 4
        assert (await run(batches[0], Settings(Options(redo=lambda name: True)))).flows.started_now == 1
        assert (await collect(batches[0], out)).exit_code == 0
        assert len(results(out)) == 4, "rows of a flow that was paid for again are replaced"
