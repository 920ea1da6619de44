"""A list proves that something is not there only where it is whole: no money, and nothing built, on the word of another."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from batcher.api import Settings, clean, collect, plan
from batcher.core.planning import Options
from batcher.sandbox import Readings, Sandbox, parse_fault

from .batch import LIMITS, Batch, files, order_faults, read_record

pytestmark = pytest.mark.anyio

QUICK = replace(LIMITS, settle_s=0.3, timeout_s=5.0)
CAPS = ["pages=cap", "pages=cap,order=desc"]
FOLLOWED = [
    "pages=none", "pages=page,pages_in=meta", "pages=offset", "pages=cursor", "pages=next,pages_in=_links", "pages=token",
    "pages=page_token", "pages=next_page,pages_in=pagination,pages_place=before", "pages=has_more", "pages=last_id",
    "pages=total", "pages=link", "pages=headers,flows=bare", "pages=next,page_first=empty", "pages=cursor,page_first=empty",
    "pages=none,flows=null", "pages=none,flows=warnings,flow_in=flow", "pages=page,flows=data,flow_in=data",
]  # fmt: skip
NOT_FOLLOWED = [
    *(f"pages={form},page_params=ignored" for form in ("page", "cursor", "next", "has_more", "total", "link", "headers")),
    *(f"pages={form},page_params=refused" for form in ("offset", "last_id")),
    "pages=next,page_end=circle", *CAPS,
]  # fmt: skip


def lose_journal(folder: Path) -> None:
    for path in (folder / ".batcher").glob("m-*"):
        path.unlink()


async def read(url: str, readings: str) -> None:
    async with aiohttp.ClientSession() as session, session.post(f"{url}/_sandbox/readings", json=readings) as response:
        assert response.status == 200, await response.text()


@asynccontextmanager
async def service(folder: Path, readings: str, *faults: str) -> AsyncIterator[Sandbox]:
    words = Readings.parse(f"page_size=2,{readings}")
    async with Sandbox(folder / "sandbox", readings=words, faults=[parse_fault(one) for one in faults]) as sandbox:
        yield sandbox


async def make_flows(url: str, count: int) -> None:
    """Flows of somebody else."""
    async with aiohttp.ClientSession() as session:
        for _ in range(count):
            async with session.post(f"{url}/flows", json={"template": "model_optimize"}) as response:
                assert response.status == 200


def ours(flows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [flow for flow in flows if flow["additional"] is not None]


async def lists(url: str) -> int:
    return int((await read_record(url))["requests"].get("flows", 0))


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


@pytest.mark.parametrize("readings", ["pages=cap", "pages=total,page_params=ignored"])
async def test_create_that_is_not_listed_is_not_sent_again_on_the_word_of_a_part(tmp_path: Path, readings: str) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], flows=3, limits=QUICK)
    async with service(tmp_path, "pages=none") as sandbox:
        await batch.run(sandbox.url, Settings(options=Options(only=lambda name: name != "flow 2")))
        await make_flows(sandbox.url, 3)
        await order_faults(sandbox.url, "create:nth=1,lost_reply=close")
        await read(sandbox.url, readings)
        for _ in range(2):
            report = await batch.run(sandbox.url)
            assert report.exit_code == 12, report.problems
            assert any("whether it was created cannot be told" in problem.message for problem in report.problems)
        await make_flows(sandbox.url, 3)
        flows = ours((await read_record(sandbox.url))["flows"])
        names = Counter(flow["additional"]["batcher"]["flow"] for flow in flows if not flow["deleted"])
        assert names == {"flow 0": 1, "flow 1": 1, "flow 2": 1}, "no twin is left"
        await read(sandbox.url, "pages=none")
        report = await batch.run(sandbox.url)
        assert report.exit_code == 0, report.problems
        flows = ours((await read_record(sandbox.url))["flows"])
    assert sum(flow["starts"] for flow in flows) == 3
    assert not [flow for flow in flows if not flow["starts"] and not flow["deleted"]]


async def test_create_that_the_part_shows_is_found_and_its_twins_stay_an_open_question(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], flows=3, limits=QUICK)
    async with service(tmp_path, "pages=none") as sandbox:
        await batch.run(sandbox.url, Settings(options=Options(only=lambda name: name != "flow 2")))
        await order_faults(sandbox.url, "create:nth=1,lost_reply=close")
        await read(sandbox.url, "pages=cap,order=desc")
        report = await batch.run(sandbox.url)
        assert (report.exit_code, report.flows.started) == (12, 3), report.problems
        assert "lost creates" in report.problems[0].message
        await read(sandbox.url, "pages=none")
        report = await batch.run(sandbox.url)
        flows = (await read_record(sandbox.url))["flows"]
    assert (report.exit_code, [flow["starts"] for flow in flows]) == (0, [1, 1, 1])


@pytest.mark.parametrize("tagged", [True, False])
@pytest.mark.parametrize("readings", [*CAPS, "pages=has_more,page_params=ignored", "pages=next,page_end=circle"])
async def test_inputs_of_which_a_part_is_shown_are_not_built_anew(tmp_path: Path, readings: str, tagged: bool) -> None:
    extra = {} if tagged else dict.fromkeys(range(5), "words")
    batch = Batch(tmp_path, files(tmp_path, 7)[2:], flows=1, limits=QUICK, additional=extra)
    async with service(tmp_path, "pages=none") as sandbox:
        report = await batch.run(sandbox.url, Settings(options=Options(start=False)))
        assert report.exit_code == 0
        await read(sandbox.url, f"paged=all,{readings}")
        for _ in range(3):
            report = await batch.run(sandbox.url)
            assert report.exit_code == 12, report.problems
            assert "its list" in report.problems[0].message or "the list of its inputs" in report.problems[0].message
        record = await read_record(sandbox.url)
        assert [(flow["starts"], flow["deleted"]) for flow in record["flows"]] == [(0, False)]
        assert record["requests"]["upload"] == 5
        await read(sandbox.url, "pages=none")
        report = await batch.run(sandbox.url)
        assert report.exit_code == 0, report.problems
        await batch.judge(sandbox.url, report)


@pytest.mark.parametrize("readings", ["pages=next", "pages=page,pages_in=meta", "pages=has_more", "pages=link,inputs=bare"])
async def test_inputs_and_outputs_in_pages_are_sent_and_collected(tmp_path: Path, readings: str) -> None:
    batch = Batch(tmp_path, files(tmp_path, 7)[2:], flows=2, limits=QUICK)
    async with service(tmp_path, f"paged=all,{readings}") as sandbox:
        report = await batch.run(sandbox.url)
        assert report.exit_code == 0, report.problems or report.stop
        await batch.judge(sandbox.url, report)
        report = await collect(batch.manifest(sandbox.url), tmp_path / "out", delete_remote=True)
        assert report.exit_code == 0, report.problems
        assert report.outputs is not None
        assert report.outputs.collected == 10
        assert all(flow["deleted"] for flow in (await read_record(sandbox.url))["flows"])


async def test_outputs_of_which_a_part_is_shown_are_collected_and_their_flow_is_kept(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 7)[2:], flows=1, limits=QUICK)
    async with service(tmp_path, "pages=none") as sandbox:
        assert (await batch.run(sandbox.url)).exit_code == 0
        await read(sandbox.url, "paged=all,pages=has_more,page_params=ignored")
        for _ in range(2):
            report = await collect(batch.manifest(sandbox.url), tmp_path / "out", delete_remote=True)
            assert report.exit_code == 12
            assert report.outputs is not None
            assert report.outputs.collected == 2
            assert "not whole" in report.problems[0].message
        assert not (await read_record(sandbox.url))["flows"][0]["deleted"]
        await read(sandbox.url, "pages=none")
        report = await collect(batch.manifest(sandbox.url), tmp_path / "out", delete_remote=True)
        assert (report.exit_code, report.outputs and report.outputs.collected) == (0, 5), report.problems


@pytest.mark.parametrize("readings", CAPS)
async def test_clean_forgets_only_what_the_service_does_not_know(tmp_path: Path, readings: str) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], flows=3, limits=QUICK)
    async with service(tmp_path, "pages=none") as sandbox:
        await batch.run(sandbox.url, Settings(options=Options(start=False)))
        first = (await read_record(sandbox.url))["flows"][0]["flow_id"]
        async with aiohttp.ClientSession() as session, session.delete(f"{sandbox.url}/flows/{first}") as response:
            assert response.status == 200
        await make_flows(sandbox.url, 2)
        await read(sandbox.url, f"{readings},page_size=1")
        await clean(batch.manifest(sandbox.url), Settings(), True)
        await read(sandbox.url, "pages=none")
        report = await batch.run(sandbox.url)
        assert report.exit_code == 0, report.problems
        flows = ours((await read_record(sandbox.url))["flows"])
    started = Counter(flow["additional"]["batcher"]["flow"] for flow in flows if flow["starts"])
    assert started == {"flow 0": 1, "flow 1": 1, "flow 2": 1}
    assert not [flow for flow in flows if not flow["starts"] and not flow["deleted"]], "none was forgotten while it was there"


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


async def test_adopting_on_the_word_of_a_part_pays_for_nothing_again(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], limits=QUICK)
    adopting = Settings(options=Options(adopt=True))
    async with service(tmp_path, "pages=none") as sandbox:
        assert (await batch.run(sandbox.url)).exit_code == 0
        lose_journal(tmp_path)
        await read(sandbox.url, "pages=has_more,page_params=ignored")
        assert (await batch.run(sandbox.url, adopting)).exit_code == 12
        await read(sandbox.url, "pages=cap")  # two of the four are taken over, the others would be built anew
        assert (await batch.run(sandbox.url, adopting)).exit_code == 12
        await read(sandbox.url, "pages=none")
        report = await batch.run(sandbox.url, adopting)
        assert (report.exit_code, report.flows.started, report.flows.started_now) == (0, 4, 0)
        assert (await batch.run(sandbox.url)).exit_code == 0, "what was taken over is known from then on"
        flows = (await read_record(sandbox.url))["flows"]
    assert sum(flow["starts"] for flow in flows) == 4
    assert not [flow for flow in flows if not flow["starts"] and not flow["deleted"]]


async def test_a_page_that_fails_is_asked_for_again_and_not_the_whole_list(tmp_path: Path) -> None:
    """Of a list of many pages one in ten failing would never let it come to its end."""
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], flows=2, limits=QUICK)
    async with service(tmp_path, "pages=page,page_size=1") as sandbox:
        async with aiohttp.ClientSession() as session:
            for _ in range(30):
                async with session.post(f"{sandbox.url}/flows", json={"template": "model_optimize"}) as reply:
                    assert reply.status == 200
        await order_faults(sandbox.url, "flows:every=10,status=503")
        report = await batch.run(sandbox.url)
        lists = (await read_record(sandbox.url))["requests"]["flows"]
    assert (report.exit_code, report.flows.started) == (0, 2), report.problems
    assert lists < 100, "two lists of some thirty pages"
