"""What fails again and again is given up, and said."""

from __future__ import annotations

from pathlib import Path

import pytest

from batcher.sandbox import Sandbox, parse_fault

from .batch import small

pytestmark = pytest.mark.anyio


async def test_constant_error_on_one_file_is_said_with_the_file_the_status_and_the_words(tmp_path: Path) -> None:
    batch = small(tmp_path, 2, 3)
    faults = [parse_fault("upload:flow=flow 1,status=500,body=problem")]
    async with Sandbox(tmp_path / "sandbox", faults=faults) as sandbox:
        report = await batch.run(sandbox.url)
    assert (report.exit_code, report.flows.started) == (5, 2)
    (problem,) = report.problems
    assert problem.status == 500
    assert problem.input in [path.name for path in batch.paths]
    assert problem.input in problem.message
    assert "500: Internal Server Error: Sandbox fault" in problem.message
