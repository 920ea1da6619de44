"""Outputs are collected once each, whole, under their names, whatever the service and the disk do meanwhile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from batcher.api import collect
from batcher.core.errors import Locked, UsageError
from batcher.core.model import Manifest
from batcher.journal.sqlite import SqliteJournal

from ..batch import LIMITS, PNG, Batch, files, order_faults
from .folder import assert_complete, downloads, outputs, results, sandbox_of, started

pytestmark = pytest.mark.anyio
HEALED = [
    *(f"output:nth=2,garbage={kind}" for kind in ("html", "json", "empty", "binary")),
    "output:first=2,truncate=1",
]
HEALED_ALIKE = [  # whatever a download looks like
    "output:nth=2,stall=1",
    "output:nth=2,trickle=300",
    "output:first=2,lost_reply=close",
    "output:nth=2,status=429,retry_after=0.3",
    "output:first=2,status=500",
    "output:nth=2,drop_before=1",
    "outputs:nth=1,truncate=1",
    "outputs:nth=1,corrupt_list=missing",
    "outputs:nth=2,corrupt_list=twice",
    "flow:first=2,status=502",
    "*:every=5,status=503",
]
FATAL = [
    ("output:status=503", 5),
    ("output:garbage=json", 12),
    ("output:truncate=1", 5),
    ("output:status=404", 12),
    ("output:status=422", 3),
    ("outputs:status=409", 12),
    ("outputs:garbage=json", 5),
    ("flow:status=404", 12),
    ("flow:status=401", 7),
]


@pytest.mark.parametrize(
    "readings",
    [
        "id=id,download=json",
        "id=asset_id,download=json,outputs=bare,state=status",
        "id=id,download=raw,outputs=items,create=id,flow_id=flow_id",
        "id=asset_id,download=raw,state=both,time=epoch",
    ],
)
async def test_every_output_comes_once_in_every_dialect_and_a_second_collect_sends_nothing(
    tmp_path: Path, readings: str
) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3), flows=2)
    out = tmp_path / "out"
    async with sandbox_of(tmp_path, readings=readings) as sandbox:
        await started(batch, sandbox.url)
        report = await collect(batch.manifest(sandbox.url), out)
        assert_complete(batch, out, report)
        assert await downloads(sandbox.url) == 6
        again = await collect(batch.manifest(sandbox.url), out)
        assert_complete(batch, out, again)
    assert again.outputs is not None
    assert (again.requests.sent, again.outputs.collected_now) == (0, 0)


@pytest.mark.parametrize(
    ("fault", "download"), [*((f, d) for f in HEALED for d in ("json", "raw")), *((f, "json") for f in HEALED_ALIKE)]
)
async def test_collect_heals_in_one_go(tmp_path: Path, fault: str, download: str) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3), flows=2)
    async with sandbox_of(tmp_path, readings=f"download={download}") as sandbox:
        await started(batch, sandbox.url)
        await order_faults(sandbox.url, fault)
        report = await collect(batch.manifest(sandbox.url), tmp_path / "out")
    assert_complete(batch, tmp_path / "out", report)


@pytest.mark.parametrize(("fault", "code"), FATAL)
async def test_collect_ends_with_its_code_and_the_next_one_completes(tmp_path: Path, fault: str, code: int) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=2, limits=replace(LIMITS, retries=1))
    out = tmp_path / "out"
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        await order_faults(sandbox.url, fault)
        report = await collect(batch.manifest(sandbox.url), out)
        assert report.exit_code == code, report.problems or report.stop
        assert outputs(out) == {}
        assert {row["output"] for row in results(out)} == {""}
        await order_faults(sandbox.url)
        assert_complete(batch, out, await collect(batch.manifest(sandbox.url), out))


async def test_waiting_is_bounded_and_what_runs_comes_later(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=2)
    out = tmp_path / "out"
    async with sandbox_of(tmp_path, processing_s=2.0) as sandbox:
        await started(batch, sandbox.url)
        for wait_s in (0.0, 0.3):
            report = await collect(batch.manifest(sandbox.url), out, wait_s=wait_s)
            assert report.exit_code == 10, report.problems
            assert report.ends is not None
            assert report.ends.running == 2
            assert [row["state"] for row in results(out)] == ["running", "running"]
        assert_complete(batch, out, await collect(batch.manifest(sandbox.url), out))


async def test_collect_holds_the_lock_and_needs_a_journal(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 1), flows=1)
    manifest: Manifest = batch.manifest("http://127.0.0.1:9")
    with pytest.raises(UsageError, match="nothing was run here"):
        await collect(manifest, tmp_path / "out")
    from batcher.journal.open import journal_path

    held = SqliteJournal(journal_path(manifest, None), "m", 1.0)
    with pytest.raises(Locked):
        await collect(manifest, tmp_path / "out")
    held.close()
    (tmp_path / "file").write_bytes(PNG)
    with pytest.raises(UsageError, match="cannot be written"):
        await collect(manifest, tmp_path / "file")
