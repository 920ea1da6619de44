"""What is said of a flow that was not started, and kept for `status`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batcher.api import MemoryJournal, Settings, run
from batcher.core.model import Problem
from batcher.core.report import PROBLEMS_KEPT, Report
from batcher.sandbox import Sandbox, parse_fault

from .batch import Batch, files

pytestmark = pytest.mark.anyio


async def test_last_problem_is_kept_however_many_there_were_before(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=2)
    report = Report("m.yaml", "")
    for number in range(PROBLEMS_KEPT):
        report.add(Problem("refused", f"no {number}", flow="another"))
    journal = MemoryJournal()
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault("upload:nth=2,status=422")]) as sandbox:
        await run(batch.manifest(sandbox.url), Settings(), journal=journal, report=report)
    kept = [json.loads(facts.problem) for facts in journal.flows() if facts.problem is not None]
    assert [(problem["kind"], problem["status"]) for problem in kept] == [("refused", 422)]


async def test_words_of_a_422_that_says_a_large_input_again_are_told(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=1)
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault("upload:status=422,body=input")]) as sandbox:
        report = await batch.run(sandbox.url)
    assert report.exit_code == 3
    assert all("422: body.data: Sandbox fault: not this one" in problem.message for problem in report.problems)
