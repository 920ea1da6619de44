"""Requests that fail: a way that is wrong is said at once, and what broke off is asked for anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from batcher.api import MemoryJournal, Settings, run
from batcher.assembly import opened
from batcher.core.events import SILENT
from batcher.core.remote import Template
from batcher.core.report import Report
from batcher.core.retry import Call, Verdict
from batcher.pipeline.build import Build
from batcher.sandbox import Sandbox, parse_fault

from .batch import small

pytestmark = pytest.mark.anyio


async def test_a_run_ends_with_2_after_one_request(tmp_path: Path) -> None:
    batch = small(tmp_path, 1, 2)
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        report = await run(batch.manifest(sandbox.url.replace("http:", "https:")), Settings())
    assert (report.exit_code, report.requests.sent) == (2, 1), report.stop
    assert "does not speak TLS" in str(report.stop)


async def test_an_endpoint_with_a_wrong_path_is_said_after_two_requests(tmp_path: Path) -> None:
    batch = small(tmp_path, 1, 2)
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        report = await batch.run(f"{sandbox.url}/api/v9")
    assert (report.exit_code, report.requests.sent) == (2, 2), report.stop
    assert "has no /flows" in str(report.stop)


async def test_each_attempt_at_a_list_is_taken_by_itself(tmp_path: Path) -> None:
    """One that broke off has shown a part: what was taken of it must not be counted twice."""
    batch = small(tmp_path, 1, 1)
    made: list[list[Template]] = []

    def new() -> list[Template]:
        made.append([])
        return made[-1]

    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault("templates:nth=2,truncate=1")]) as sandbox:
        manifest, report = batch.manifest(sandbox.url), Report("m.yaml", "")
        async with opened(manifest, Settings(), MemoryJournal(), report, lambda operation: None, SILENT) as operation:
            requests = Build(operation).requests
            first = await requests.ask_list(Call.TEMPLATES, new, lambda client, found: client.templates(found.append))
            second = await requests.ask_list(Call.TEMPLATES, new, lambda client, found: client.templates(found.append))
    assert not isinstance(first, Verdict)
    assert not isinstance(second, Verdict)
    assert first[0]
    assert first[0] == second[0]
    assert (first[0], second[0]) == (made[0], made[2])
    assert (report.requests.sent, report.requests.retried) == (3, 1)
