"""A list proves that something is not there only where it is whole: no money, and nothing built, on the word of another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from .batch import Batch, files, order_faults, read_record
from .paged import NOT_FOLLOWED, QUICK, lists, lose_journal, make_flows, ours, read, service
from .proxy import answering, forwarded

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("readings", NOT_FOLLOWED)
async def test_lost_journal_and_pages_that_cannot_be_followed_pay_for_nothing_again(tmp_path: Path, readings: str) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], limits=QUICK)
    async with service(tmp_path, "pages=none") as sandbox:
        report = await batch.run(sandbox.url)
        assert report.exit_code == 0, report.problems
        await make_flows(sandbox.url, 3)
        lose_journal(tmp_path)
        await read(sandbox.url, readings)
        before = await lists(sandbox.url)
        for _ in range(2):
            report = await batch.run(sandbox.url)
            assert (report.exit_code, report.flows.started_now) == (12, 0), report.problems or report.stop
        assert await lists(sandbox.url) - before < 80
        flows = ours((await read_record(sandbox.url))["flows"])
    assert sum(flow["starts"] for flow in flows) == 4
    assert not [flow for flow in flows if not flow["starts"] and not flow["deleted"]], "what was made to see is deleted"
    assert sum(not flow["starts"] for flow in flows) <= 2


@pytest.mark.parametrize("readings", NOT_FOLLOWED)
async def test_first_run_beside_more_flows_than_are_shown_ends_before_it_sends(tmp_path: Path, readings: str) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], limits=QUICK)
    async with service(tmp_path, readings) as sandbox:
        await make_flows(sandbox.url, 2)
        report = await batch.run(sandbox.url)
        record = await read_record(sandbox.url)
    assert report.exit_code == 12
    assert "list of flows" in str(report.stop or report.problems[0])
    assert not {"upload", "start"} & set(record["requests"])
    assert not [flow for flow in ours(record["flows"]) if not flow["deleted"]]


async def test_flow_that_the_list_shows_late_is_waited_for(tmp_path: Path) -> None:
    """A list may lag: the first flow is looked for again within the settling time."""
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], limits=replace(QUICK, settle_s=1.0))
    async with service(tmp_path, "pages=none", "flows:nth=2,corrupt_list=missing") as sandbox:
        report = await batch.run(sandbox.url)
        await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.stop


async def test_flow_that_was_made_to_see_and_not_looked_for_is_not_sent_into_unseen(tmp_path: Path) -> None:
    """The run ends between the create and the look; the next one has to make another flow, and deletes it again."""
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], flows=1, limits=replace(QUICK, retries=0))
    async with service(tmp_path, "pages=none", "flows:after=1,status=503") as sandbox:
        assert (await batch.run(sandbox.url)).exit_code == 5
        record = await read_record(sandbox.url)
        assert not {"upload", "start"} & set(record["requests"])
        await order_faults(sandbox.url)
        await make_flows(sandbox.url, 3)
        await read(sandbox.url, "pages=cap,page_size=4")  # all there is, so far
        assert (await batch.run(sandbox.url)).exit_code == 12
        await read(sandbox.url, "page_size=9")
        report = await batch.run(sandbox.url)
        assert report.exit_code == 0, report.problems or report.stop
        flows = ours((await read_record(sandbox.url))["flows"])
    assert [(flow["starts"], flow["deleted"]) for flow in flows] == [(1, False), (0, True), (0, True)]


async def test_first_flow_that_is_refused_leaves_the_look_to_the_next_one(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], limits=QUICK)
    async with service(tmp_path, "pages=cap") as sandbox:
        await make_flows(sandbox.url, 2)
        await order_faults(sandbox.url, "create:nth=1,status=422")
        assert (await batch.run(sandbox.url)).exit_code == 12
        assert "start" not in (await read_record(sandbox.url))["requests"]


@asynccontextmanager
async def without_tags(service: str) -> AsyncIterator[str]:
    """The same service, whose list of flows does not show their `additional`."""

    async def answer(session: aiohttp.ClientSession, request: web.Request) -> web.Response:
        answered = await forwarded(session, service, request)
        if (request.method, request.path) == ("GET", "/flows"):
            assert isinstance(answered.body, bytes)
            document = json.loads(answered.body)
            for flow in document["flows"]:
                del flow["additional"]
            return web.json_response(document)
        return answered

    async with answering(answer) as url:
        yield url


async def test_list_that_shows_no_tags_proves_nothing(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], flows=1, limits=QUICK)
    async with service(tmp_path, "pages=none") as sandbox, without_tags(sandbox.url) as url:
        report = await batch.run(url)
        record = await read_record(sandbox.url)
        assert report.stop is not None
        assert (report.exit_code, "listed without it" in report.stop.message) == (12, True), report.stop
        assert "`additional`" in report.stop.hint
        assert not {"upload", "start"} & set(record["requests"])
        assert [flow["deleted"] for flow in record["flows"]] == [True]


async def test_create_is_not_sent_again_on_the_word_of_a_list_without_tags(tmp_path: Path) -> None:
    """It would be made twice, and both started: the first one cannot be found."""
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], flows=1, limits=QUICK)
    async with service(tmp_path, "pages=none") as sandbox, without_tags(sandbox.url) as url:
        assert (await batch.run(sandbox.url)).exit_code == 0
        for path in (tmp_path / ".batcher").glob("m-*"):  # as if it had been this address all along
            path.rename(path.with_name(path.name.replace(mark(sandbox.url), mark(url))))
        batch.flows = 2
        await order_faults(sandbox.url, "create:nth=1,lost_reply=close")
        report = await batch.run(url)
        assert report.exit_code == 12
        assert any("listed without it" in problem.message for problem in report.problems), report.problems
        assert sum(flow["starts"] for flow in (await read_record(sandbox.url))["flows"]) == 1


def mark(url: str) -> str:
    """What the journal's name has of its endpoint."""
    return hashlib.sha256(url.encode()).hexdigest()[:8]
