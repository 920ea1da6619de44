"""Requests that fail: a way that is wrong is said at once, and what broke off is asked for anew."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web

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


@pytest.mark.parametrize(
    ("status", "words"),
    [
        *[(301, "redirects to www.example"), (302, "redirects to /login"), (405, "405"), (410, "410"), (501, "501")],
        (200, "200, a web page in place of a list"),
    ],
)
async def test_what_is_no_flows_api_is_said_at_once(tmp_path: Path, status: int, words: str) -> None:
    """A login page, a website, a gateway without this path: retrying for a minute would change nothing."""
    place = {301: "https://www.example/", 302: "/login"}.get(status)

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(status=status, headers={} if place is None else {"Location": place}, text="<!doctype html>")

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        report = await small(tmp_path, 1, 1).run(f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()
    assert report.exit_code == 2, report.stop
    assert report.requests.sent <= 3
    assert words in str(report.stop)
    assert "check the endpoint's address" in str(report.stop)


async def test_a_gateway_that_redirects_once_is_asked_again(tmp_path: Path) -> None:
    batch = small(tmp_path, 1, 1)
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault("templates:nth=1,redirect=http://127.0.0.1:9")]) as sandbox:
        report = await batch.run(sandbox.url)
    assert report.exit_code == 0, report.stop


async def test_a_service_that_was_reached_may_answer_anything_later(tmp_path: Path) -> None:
    batch = small(tmp_path, 1, 1)
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault("flows:nth=2,status=501")]) as sandbox:
        report = await batch.run(sandbox.url)
    assert report.exit_code == 0, report.stop


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
