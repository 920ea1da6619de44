"""Uploads that are cut off because too many share a slow line: the limit learns it, and all of them arrive."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from batcher.core import adaptive
from batcher.sandbox import Sandbox

from .batch import LIMITS, Batch, files
from .gateway import gateway

pytestmark = pytest.mark.anyio
SIZE_BYTES = 150_000
BYTES_PER_S = 1.5e6


@pytest.mark.parametrize("buffer_bytes", [16 << 10, 4 << 20], ids=["cut in the body", "cut after it"])
async def test_uploads_that_are_cut_off_lower_the_concurrency(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buffer_bytes: int
) -> None:
    """A body has the time that it takes where three share the line. All is ten times as fast as in life."""
    monkeypatch.setattr(adaptive, "LONG_S", 0.1)
    limits = replace(LIMITS, concurrency=16, settle_s=0.5, timeout_s=10.0)
    batch = Batch(tmp_path, files(tmp_path, 3, SIZE_BYTES)[2:], flows=16, limits=limits)
    patience_s = 3.5 * 4 / 3 * SIZE_BYTES / BYTES_PER_S
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        async with gateway(sandbox.url, BYTES_PER_S, patience_s, buffer_bytes) as way:
            report = await batch.run(way.url)
        await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.problems or report.stop
    assert way.resets <= 2 * 16
