"""However many inputs a flow has, and however large they are: each is sent once, in any budget."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from batcher.api import Settings
from batcher.pipeline.chunks import CHUNK_FILES
from batcher.sandbox import Sandbox

from .batch import LIMITS, PNG, Batch, files

pytestmark = pytest.mark.anyio
SMALL = PNG + b"small"
SIZES = {
    "one less than a chunk": [0] * (CHUNK_FILES - 1),
    "a chunk": [0] * CHUNK_FILES,
    "one more than a chunk": [0] * (CHUNK_FILES + 1),
    "two chunks and some": [0] * (2 * CHUNK_FILES + 300),
    "few that fill a batch": [150_000] * 2,
    "few that fill two": [100_000] * 9,
    "small, whole and streamed": [100_000, 300_000, 100, 1_300_000, 150_000, 180_000, 120_000, 90_000],
}


def make(folder: Path, sizes: list[int]) -> list[Path]:
    paths = [folder / f"{number:04}.png" for number in range(len(sizes))]
    for number, (path, size) in enumerate(zip(paths, sizes, strict=True)):
        path.write_bytes(PNG + number.to_bytes(4, "big") + bytes(size))
    return paths


@pytest.mark.parametrize("memory", [1 << 20, 2 << 20, 64 << 20])
@pytest.mark.parametrize("name", SIZES)
async def test_each_input_is_sent_once(tmp_path: Path, name: str, memory: int) -> None:
    sizes = SIZES[name]
    batch = Batch(tmp_path, make(tmp_path, sizes), flows=2, limits=replace(LIMITS, memory_bytes=memory, timeout_s=20))
    async with Sandbox(tmp_path / "sandbox") as sandbox, asyncio.timeout(60):
        report = await batch.run(sandbox.url, Settings(state=tmp_path / "state"))
        await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.problems
    assert report.inputs.uploaded_now == 2 * len(sizes)
    assert report.requests.sent == 2 * (len(sizes) + 3) + 3  # create, list, start; the templates, the flows twice


async def test_little_memory_and_files_of_all_sizes_do_not_block_each_other(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 5, size=60_000), limits=replace(LIMITS, memory_bytes=1 << 20, concurrency=1))
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        report = await batch.run(sandbox.url)
        await batch.judge(sandbox.url, report)
    assert report.exit_code == 0
