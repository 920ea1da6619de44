"""A list of outputs may lag, or show one twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from batcher.api import collect

from ..batch import Batch, files, order_faults, read_record
from .folder import assert_complete, sandbox_of, started

pytestmark = pytest.mark.anyio


async def test_outputs_that_are_listed_late_are_waited_for_within_bounds(tmp_path: Path, quick_lists: None) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3), flows=2)
    out = tmp_path / "out"
    async with sandbox_of(tmp_path, readings="output_delay=1.2") as sandbox:
        await started(batch, sandbox.url)
        report = await collect(batch.manifest(sandbox.url), out, wait_s=0.0)
        assert report.exit_code == 12, "--wait bounds it"
        assert (await read_record(sandbox.url))["requests"]["outputs"] == 2
        await asyncio.sleep(1.2)
        assert_complete(batch, out, await collect(batch.manifest(sandbox.url), out))
    other = Batch(tmp_path / "other", batch.paths, flows=2)
    async with sandbox_of(tmp_path / "other", readings="output_delay=0.5") as sandbox:
        await started(other, sandbox.url)
        report = await collect(other.manifest(sandbox.url), tmp_path / "second")
        assert report.exit_code == 0, report.problems


async def test_output_that_is_listed_twice_is_one(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3), flows=1)
    out = tmp_path / "out"
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        await order_faults(sandbox.url, "outputs:corrupt_list=twice")
        report = await collect(batch.manifest(sandbox.url), out, delete_remote=True)
        assert_complete(batch, out, report)
        assert (await read_record(sandbox.url))["flows"][0]["deleted"]
