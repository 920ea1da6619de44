"""The four guarantees under faults, judged by the sandbox's own record."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from batcher.api import MemoryJournal, Settings, run
from batcher.core.abandoning import abandon
from batcher.core.errors import Reason, Stop
from batcher.core.facts import FileStat
from batcher.core.model import Input, Problem
from batcher.core.planning import Options
from batcher.core.report import PROBLEMS_KEPT, Report
from batcher.pipeline.operation import Operation
from batcher.pipeline.ports import Seen
from batcher.sandbox import Sandbox, parse_fault

from .batch import LIMITS, Batch, files, order_faults, read_record

pytestmark = pytest.mark.anyio

WRITES = ("create", "upload", "start")
HEALED = [
    *(f"{call}:p=0.3,lost_reply=close" for call in WRITES),
    *(f"{call}:p=0.3,error_after_commit=500" for call in WRITES),
    *(f"{call}:p=0.3,garbage=html" for call in WRITES),
    *(f"{call}:p=0.2,late_commit=1.0s" for call in WRITES),
    "upload:p=0.2,status=500",
    "upload:nth=3,late_commit=4s",
    "create:nth=2,late_commit=4s",
    "upload:nth=4,drop_mid=1",
    "upload:nth=4,drop_before=1",
    "upload:p=0.2,status=408",
    "*:p=0.1,status=503",
    "*:nth=9,status=429,retry_after=1",
    "inputs:nth=2,truncate=1",
    "inputs:nth=2,corrupt_list=missing",
    "inputs:nth=2,corrupt_list=twice",
    "inputs:nth=2,corrupt_list=foreign",
    "*:nth=7,status=502",
]


@pytest.mark.parametrize("fault", HEALED)
async def test_run_heals_in_one_go(tmp_path: Path, fault: str) -> None:
    batch = Batch(tmp_path, files(tmp_path, 4))
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault(fault)]) as sandbox:
        report = await batch.run(sandbox.url)
        flows = await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.problems or report.stop
    assert flows


FATAL = [
    ("upload:nth=3,status=413", 3),
    ("upload:nth=3,status=422", 3),
    ("start:nth=2,status=422", 3),
    ("create:nth=2,status=422", 3),
    ("*:status=401", 7),
    ("upload:nth=5,status=402", 3),
    ("upload:nth=5,status=403", 3),
    ("*:status=403", 7),
    ("create:status=429,body=quota", 7),
    ("upload:after=4,status=503", 5),
    ("upload:status=500", 5),
    ("create:status=500", 5),
    ("start:status=500", 5),
    ("delete:status=400+upload:nth=3,late_commit=4s", 5),
    ("templates:huge=3MB", 5),
]


@pytest.mark.parametrize(("fault", "code"), FATAL)
async def test_run_ends_with_its_code_and_the_next_one_completes(tmp_path: Path, fault: str, code: int) -> None:
    batch = Batch(tmp_path, files(tmp_path, 4), limits=replace(LIMITS, retries=2, settle_s=0.3))
    faults = [parse_fault(one) for one in fault.split("+")]
    async with Sandbox(tmp_path / "sandbox", faults=faults) as sandbox:
        report = await batch.run(sandbox.url)
        assert report.exit_code == code, report.problems or report.stop
        await batch.judge(sandbox.url, report)
        await order_faults(sandbox.url)
        report = await batch.run(sandbox.url)
        await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.problems or report.stop


async def test_a_list_of_something_else_is_no_list_without_our_flows(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2))
    faults = ["create:nth=1,lost_reply=close", "flows:nth=2,garbage=json"]
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault(fault) for fault in faults]) as sandbox:
        report = await batch.run(sandbox.url)
        flows = await batch.judge(sandbox.url, report)
    assert (report.exit_code, len(flows)) == (0, batch.flows), "a twin was made"


async def test_a_flow_that_a_delete_did_not_find_is_looked_for_on_the_list(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2))
    faults = ["inputs:nth=1,corrupt_list=foreign", "delete:nth=1,status=404"]
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault(fault) for fault in faults]) as sandbox:
        report = await batch.run(sandbox.url)
        flows = await batch.judge(sandbox.url, report)
    assert (report.exit_code, len(flows)) == (0, batch.flows + 1)


async def test_who_cannot_ask_cannot_settle(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2))
    faults = ["create:nth=1,lost_reply=close", "flows:after=1,status=400"]
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault(fault) for fault in faults]) as sandbox:
        report = await batch.run(sandbox.url)
        await batch.judge(sandbox.url, report)
    assert report.exit_code == 12, "nothing was refused, but an outcome is open"


async def test_second_run_sends_nothing(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 4))
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        assert (await batch.run(sandbox.url)).exit_code == 0
        report = await batch.run(sandbox.url)
        await batch.judge(sandbox.url, report)
    assert (report.exit_code, report.requests.sent, report.flows.started) == (0, 0, 4)


async def test_lost_journal_stops_the_run(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3))
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        assert (await batch.run(sandbox.url)).exit_code == 0
        for path in (tmp_path / ".batcher").glob("m-*"):
            path.unlink()
        report = await batch.run(sandbox.url)
        assert report.exit_code == 12
        assert "--adopt" in report.problems[0].hint


async def test_inputs_that_cannot_carry_a_tag_are_compared_by_their_data(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 4), additional={0: "words", 1: [1, 2], 2: None})
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault("upload:p=0.3,lost_reply=close")]) as sandbox:
        report = await batch.run(sandbox.url)
        await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.problems or report.stop


async def test_additional_that_speaks_of_data_does_not_pass_for_the_data(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), additional={1: [{"data": "data:image/png;base64,QQ=="}]}, flows=1)
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        report = await batch.run(sandbox.url)
        await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.problems or report.stop


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


async def test_adopting_never_pays_again_for_what_was_started(tmp_path: Path) -> None:
    paths = files(tmp_path, 3)
    batch = Batch(tmp_path, paths, additional={1: [1, 2]})
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        assert (await batch.run(sandbox.url)).exit_code == 0
        for path in (tmp_path / ".batcher").glob("m-*"):
            path.unlink()
        only = Options(adopt=True, only=lambda name: name == "flow 1")
        assert (await batch.run(sandbox.url, Settings(only))).flows.started_now == 0
        report = await batch.run(sandbox.url)
        assert (report.exit_code, report.flows.started_now, report.flows.changed) == (0, 0, 4)


async def test_little_memory_and_files_of_all_sizes_do_not_block_each_other(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 5, size=60_000), limits=replace(LIMITS, memory_bytes=1 << 20, concurrency=1))
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        report = await batch.run(sandbox.url)
        await batch.judge(sandbox.url, report)
    assert report.exit_code == 0


async def test_key_that_is_replaced_while_requests_are_under_way_is_taken_up_once(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 4))
    keys = iter(["old", "new", "newer"])
    faults = [parse_fault("upload:latency=300ms,status=401,count=4")]
    async with Sandbox(tmp_path / "sandbox", faults=faults) as sandbox:
        report = await batch.run(sandbox.url, Settings(key=lambda: next(keys)))
        await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.stop


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


async def test_run_that_ends_in_the_middle_of_a_walk_ends_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batcher.pipeline.planner.KEEP", 0)  # all of it is looked at again when it is to be sent
    batch = Batch(tmp_path, files(tmp_path, 12), flows=40)

    def started(operation: Operation) -> None:
        loop = asyncio.get_running_loop()
        looks = 0
        look = operation.sources.look

        def counted(source: Input, seen: Seen | None = None) -> FileStat | Problem:
            nonlocal looks
            looks += 1
            if looks == 12 * 50:  # of the second walk
                loop.call_soon_threadsafe(operation.halt, Stop(Reason.SIGTERM, "stopped by SIGTERM"))
                time.sleep(0.2)
            return look(source, seen)

        operation.sources.look = counted  # type: ignore[method-assign]

    async with Sandbox(tmp_path / "service", processing_s=0.05) as sandbox:
        report = await run(batch.manifest(sandbox.url), Settings(), started=started)
        assert report.exit_code == 143
        await batch.judge(sandbox.url, report)
        report = await batch.run(sandbox.url)
        assert report.exit_code == 0
        await batch.judge(sandbox.url, report)


async def test_flow_that_was_given_up_and_turns_out_to_be_started_is_not_built_anew(tmp_path: Path) -> None:
    """A kill came between giving it up and deleting it, and a start that was lost came late."""
    batch = Batch(tmp_path, files(tmp_path, 3), flows=2)
    journal = MemoryJournal()
    async with Sandbox(tmp_path / "service", processing_s=0.05) as sandbox:
        manifest = batch.manifest(sandbox.url)
        await run(manifest, Settings(options=Options(start=False)), journal=journal)
        facts = journal.flow("flow 1")
        assert facts is not None
        records, _ = abandon(facts)
        await journal.record(*records)
        address = f"{sandbox.url}/flows/{facts.flow_id}"
        async with aiohttp.ClientSession() as session, session.patch(address, json={"action": "start"}) as reply:
            assert reply.status == 200
        report = await run(manifest, Settings(), journal=journal)
        assert report.exit_code == 12
        flows = (await read_record(sandbox.url))["flows"]
        assert [flow["starts"] for flow in flows] == [1, 1], "nobody pays twice"


async def test_second_attempt_that_is_lost_is_waited_for_though_the_first_one_turns_up(tmp_path: Path) -> None:
    """The first is answered with an error and done late; the second gets no answer, and may be done as late as the settling
    time allows: a list that shows one of them is not yet right."""
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], flows=1, limits=replace(LIMITS, timeout_s=1.0, settle_s=2.0))
    faults = ["upload:nth=1,status=500,late_commit=300ms", "upload:nth=1,late_commit=2700ms"]  # the second meets the second
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault(fault) for fault in faults]) as sandbox:
        report = await batch.run(sandbox.url)
        flows = await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.problems
    assert [(flow["starts"], flow["deleted"]) for flow in flows] == [(0, True), (1, False)]


async def test_input_that_was_refused_and_taken_out_is_no_obstacle(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 5), flows=1, additional={number: {} for number in range(5)})
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault("upload:nth=5,status=422")]) as sandbox:
        report = await batch.run(sandbox.url)
        assert report.exit_code == 3
        record = await read_record(sandbox.url)
        sent = {asset["sha256"] for asset in record["flows"][0]["inputs"]}
        batch.paths = [path for path in batch.paths if hashlib.sha256(path.read_bytes()).hexdigest() in sent]
        assert len(batch.paths) == 4
        report = await batch.run(sandbox.url)
        flows = await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.problems
    assert sum(flow["starts"] for flow in flows) == 1


async def test_open_flow_with_a_missing_input_is_not_adopted(tmp_path: Path) -> None:
    """The journal that was lost may have sent it without an answer: it may yet arrive, and is never sent there again."""
    batch = Batch(tmp_path, files(tmp_path, 4), flows=1)
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault("upload:nth=1,late_commit=3s")]) as sandbox:
        assert (await batch.run(sandbox.url, Settings(max_duration_s=0.9))).exit_code == 10
        adopting = Settings(options=Options(adopt=True), state=tmp_path / "another journal")
        report = await batch.run(sandbox.url, adopting)
        flows = await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.problems
    assert [(flow["starts"], flow["deleted"]) for flow in flows] == [(0, True), (1, False)]


async def test_lists_of_which_the_second_shows_less_prove_nothing(tmp_path: Path) -> None:
    """Inputs without tags need two; nothing ever leaves a flow, so the shorter one is not what is there."""
    batch = Batch(tmp_path, files(tmp_path, 3), flows=1, additional=dict.fromkeys(range(3), "x"))
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault("inputs:nth=2,corrupt_list=missing")]) as sandbox:
        report = await batch.run(sandbox.url)
        flows = await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.problems
    assert [(flow["starts"], flow["deleted"]) for flow in flows] == [(0, True), (1, False)]


@pytest.mark.parametrize("done", [True, False], ids=["done", "not done"])
@pytest.mark.parametrize("said", ["error", "created", "json", "empty"])
async def test_success_of_a_start_counts_only_once_the_state_shows_it(tmp_path: Path, said: str, done: bool) -> None:
    """A 200 with an error, with the flow still `created`, or with no state at all, may be no start."""
    batch = Batch(tmp_path, files(tmp_path, 3), flows=2)
    fault = parse_fault(f"start:nth=1,garbage={said},when={'after' if done else 'before'}")
    async with Sandbox(tmp_path / "sandbox", faults=[fault]) as sandbox:
        report = await batch.run(sandbox.url)
        flows = await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.problems
    rebuilt = not done and said != "error"  # what was answered with an error is not done later, and is started again
    assert sorted(flow["deleted"] for flow in flows) == ([False, False, True] if rebuilt else [False, False])


@pytest.mark.parametrize("fault", ["late_commit=4s", "lost_reply=hang,when=before"])
async def test_start_without_an_answer_is_never_sent_again_into_the_same_flow(tmp_path: Path, fault: str) -> None:
    """A service may take both, and is paid twice. The flow is deleted, which works before its start only, and built anew."""
    batch = Batch(tmp_path, files(tmp_path, 3), flows=1)
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault(f"start:nth=1,{fault}")]) as sandbox:
        report = await batch.run(sandbox.url)
        flows = await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.problems
    assert [(flow["starts"], flow["deleted"]) for flow in flows] == [(0, True), (1, False)]
    assert all(flow["start_requests"] <= 1 for flow in flows)


async def test_given_flow_whose_start_got_no_answer_is_only_asked_about(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=1)
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault("start:lost_reply=hang,when=before")]) as sandbox:
        async with aiohttp.ClientSession() as session:
            made = {"template": "model_generate_fromimage", "parameters": {"seed": 0}, "additional": None}
            async with session.post(f"{sandbox.url}/flows", json=made) as reply:
                flow_id = (await reply.json())["flow_id"]
            manifest = batch.manifest(sandbox.url)
            given = next(iter(manifest.flows()))
            assert not isinstance(given, Problem)
            given = replace(given, template=None, flow_id=flow_id, parameters={}, additional=None)
            manifest = replace(manifest, flows=lambda: iter([given]))
            for _ in range(2):
                report = await run(manifest, Settings())
                assert (report.exit_code, report.problems[0].kind) == (12, "unsettled")
                assert "on the service yourself" in report.problems[0].hint
        flows = (await read_record(sandbox.url))["flows"]
        assert [(flow["flow_id"], flow["starts"], flow["deleted"]) for flow in flows] == [(flow_id, 0, False)]
