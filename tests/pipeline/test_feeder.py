"""What changed before the start is sent anew; after it, it is only said."""

from __future__ import annotations

from pathlib import Path

import pytest

from batcher.sandbox import Sandbox, parse_fault

from .batch import Batch, files, order_faults

pytestmark = pytest.mark.anyio


async def test_change_before_the_start_is_built_anew_and_after_it_reported(tmp_path: Path) -> None:
    paths = files(tmp_path, 3)
    batch = Batch(tmp_path, paths)
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault("start:status=503")]) as sandbox:
        assert (await batch.run(sandbox.url)).exit_code == 5
        paths[1].write_bytes(paths[1].read_bytes() + b"more")
        await order_faults(sandbox.url)
        report = await batch.run(sandbox.url)
        assert report.exit_code == 0, report.problems or report.stop
        await batch.judge(sandbox.url, report)
        before = paths[1].read_bytes()
        paths[1].write_bytes(b"\x89PNG\r\n\x1a\nother")
        report = await batch.run(sandbox.url)
        assert (report.exit_code, report.flows.changed, report.flows.started_now) == (0, 4, 0)
        paths[1].write_bytes(before)
        report = await batch.run(sandbox.url)
        assert (report.exit_code, report.flows.changed) == (0, 0)
