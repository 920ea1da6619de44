"""A journal that knows nothing, and a service that has flows of its batch: the run stops before it pays again."""

from __future__ import annotations

from pathlib import Path

import pytest

from batcher.api import Settings, clean, plan
from batcher.sandbox import Sandbox

from .batch import Batch, files, read_record
from .paged import FOLLOWED, QUICK, lists, lose_journal, make_flows, ours, service

pytestmark = pytest.mark.anyio


async def test_lost_journal_stops_the_run(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3))
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        assert (await batch.run(sandbox.url)).exit_code == 0
        for path in (tmp_path / ".batcher").glob("m-*"):
            path.unlink()
        report = await batch.run(sandbox.url)
        assert report.exit_code == 12
        assert "--adopt" in report.problems[0].hint


@pytest.mark.parametrize("readings", FOLLOWED)
async def test_journal_that_was_lost_stops_the_run_whatever_the_pages(tmp_path: Path, readings: str) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], limits=QUICK)
    async with service(tmp_path, readings) as sandbox:
        await make_flows(sandbox.url, 3)
        report = await batch.run(sandbox.url)
        assert report.exit_code == 0, report.problems or report.stop
        assert await lists(sandbox.url) < 3 * 2 * 5, "requests are bounded by the pages"
        lose_journal(tmp_path)
        report = await batch.run(sandbox.url)
        assert report.exit_code == 12
        assert "4 flow(s) of the batch" in str(report.problems[0])
        flows = ours((await read_record(sandbox.url))["flows"])
    assert [flow["starts"] for flow in flows] == [1] * 4


async def test_clean_and_plan_say_that_the_list_is_not_whole(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], flows=3, limits=QUICK)
    async with service(tmp_path, "pages=total,page_params=ignored") as sandbox:
        await make_flows(sandbox.url, 3)
        _, report = await plan(batch.manifest(sandbox.url))
        assert report.exit_code == 12
        assert "it tells of 3 and shows 2" in report.problems[0].message
        _, report = await clean(batch.manifest(sandbox.url), Settings(), False)
        assert report.exit_code == 12
        assert "there may be more" in report.problems[0].message
