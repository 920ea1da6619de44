"""Outputs are collected once each, whole, under their names, whatever the service and the disk do meanwhile."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from batcher.api import Settings, collect, run
from batcher.core import collecting, retry
from batcher.core.errors import Locked, UsageError
from batcher.core.model import ABSENT, FileSource, Flow, Input, Manifest, Problem
from batcher.core.output_names import asset_mark
from batcher.core.planning import Options
from batcher.core.report import Report
from batcher.journal.sqlite import SqliteJournal
from batcher.pipeline.collect import waiting
from batcher.sandbox import Readings, Sandbox, parse_fault

from .batch import HERE, LIMITS, PNG, Batch, files, order_faults, read_record

pytestmark = pytest.mark.anyio

QUICK_S = 0.001  # how long a flow runs in these tests


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries and polls come ten times as soon as in earnest: what is tested is what they do."""
    monkeypatch.setattr(retry, "BACKOFF_BASE_S", 0.05)
    monkeypatch.setattr(collecting, "POLL_S", tuple(pause_s / 10 for pause_s in collecting.POLL_S))


def sandbox_of(folder: Path, *faults: str, readings: str = "", processing_s: float = QUICK_S) -> Sandbox:
    made = [parse_fault(fault) for fault in faults]
    return Sandbox(folder / "sandbox", faults=made, readings=Readings.parse(readings), processing_s=processing_s)


def results(out: Path) -> list[dict[str, str]]:
    """results.csv, which says the same as results.jsonl, and matches the disk."""
    with open(out / "results.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text("utf-8").splitlines()]
    assert [{name: str(value) for name, value in line.items()} for line in lines] == rows
    for row in rows:
        if row["output"]:
            content = (out / row["output"]).read_bytes()
            assert (str(len(content)), hashlib.sha256(content).hexdigest()) == (row["bytes"], row["sha256"])
    return rows


def outputs(out: Path) -> dict[str, bytes]:
    """All files but the lists; each is a whole GLB, and no part is left."""
    found = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file() and p.parent != out}
    for name, content in found.items():
        assert not name.endswith(".part")
        assert content[:4] == b"glTF", name
        assert int.from_bytes(content[8:12], "little") == len(content), name
    return found


def assert_complete(batch: Batch, out: Path, report: Report) -> None:
    """Every input's output is there, once, made from that input."""
    assert report.exit_code == 0, report.problems or report.stop
    found = outputs(out)
    assert set(found) == {f"flow {flow}/{path.stem}.glb" for flow in range(batch.flows) for path in batch.paths}
    for name, content in found.items():
        assert (batch.folder / f"{Path(name).stem}.png").read_bytes() in content, "made from another input"
    assert report.outputs is not None
    assert report.outputs.collected == report.outputs.total == len(found)
    assert {(row["flow"], row["source"]) for row in results(out) if row["state"] == "collected"} == {
        (f"flow {flow}", path.name) for flow in range(batch.flows) for path in batch.paths
    }


async def started(batch: Batch, url: str) -> Report:
    report = await batch.run(url)
    assert report.exit_code == 0, report.problems or report.stop
    return report


async def downloads(url: str) -> int:
    return (await read_record(url))["requests"].get("output", 0)


@pytest.mark.parametrize(
    "readings",
    [
        "id=id,download=json",
        "id=asset_id,download=json,outputs=bare,state=status",
        "id=id,download=raw,outputs=items,create=id,flow_id=flow_id",
        "id=asset_id,download=raw,state=both,time=epoch",
    ],
)
async def test_every_output_comes_once_in_every_dialect_and_a_second_collect_sends_nothing(
    tmp_path: Path, readings: str
) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3), flows=2)
    out = tmp_path / "out"
    async with sandbox_of(tmp_path, readings=readings) as sandbox:
        await started(batch, sandbox.url)
        report = await collect(batch.manifest(sandbox.url), out)
        assert_complete(batch, out, report)
        assert await downloads(sandbox.url) == 6
        again = await collect(batch.manifest(sandbox.url), out)
        assert_complete(batch, out, again)
    assert again.outputs is not None
    assert (again.requests.sent, again.outputs.collected_now) == (0, 0)


HEALED = [
    *(f"output:nth=2,garbage={kind}" for kind in ("html", "json", "empty", "binary")),
    "output:first=2,truncate=1",
]
HEALED_ALIKE = [  # whatever a download looks like
    "output:nth=2,stall=1",
    "output:nth=2,trickle=300",
    "output:first=2,lost_reply=close",
    "output:nth=2,status=429,retry_after=0.3",
    "output:first=2,status=500",
    "output:nth=2,drop_before=1",
    "outputs:nth=1,truncate=1",
    "outputs:nth=1,corrupt_list=missing",
    "outputs:nth=2,corrupt_list=twice",
    "flow:first=2,status=502",
    "*:every=5,status=503",
]


@pytest.mark.parametrize(
    ("fault", "download"), [*((f, d) for f in HEALED for d in ("json", "raw")), *((f, "json") for f in HEALED_ALIKE)]
)
async def test_collect_heals_in_one_go(tmp_path: Path, fault: str, download: str) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3), flows=2)
    async with sandbox_of(tmp_path, readings=f"download={download}") as sandbox:
        await started(batch, sandbox.url)
        await order_faults(sandbox.url, fault)
        report = await collect(batch.manifest(sandbox.url), tmp_path / "out")
    assert_complete(batch, tmp_path / "out", report)


FATAL = [
    ("output:status=503", 5),
    ("output:garbage=json", 12),
    ("output:truncate=1", 5),
    ("output:status=404", 12),
    ("output:status=422", 3),
    ("outputs:status=409", 12),
    ("outputs:garbage=json", 5),
    ("flow:status=404", 12),
    ("flow:status=401", 7),
]


@pytest.mark.parametrize(("fault", "code"), FATAL)
async def test_collect_ends_with_its_code_and_the_next_one_completes(tmp_path: Path, fault: str, code: int) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=2, limits=replace(LIMITS, retries=1))
    out = tmp_path / "out"
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        await order_faults(sandbox.url, fault)
        report = await collect(batch.manifest(sandbox.url), out)
        assert report.exit_code == code, report.problems or report.stop
        assert outputs(out) == {}
        assert {row["output"] for row in results(out)} == {""}
        await order_faults(sandbox.url)
        assert_complete(batch, out, await collect(batch.manifest(sandbox.url), out))


async def test_outputs_of_failed_and_aborted_flows_are_kept_apart(tmp_path: Path) -> None:
    healthy = Batch(tmp_path, files(tmp_path, 4), flows=3)
    out = tmp_path / "out"
    async with sandbox_of(tmp_path, "start:flow=flow 1,fail_flow=1", processing_s=0.6) as sandbox:
        await started(healthy, sandbox.url)
        record = await read_record(sandbox.url)
        last = next(flow["flow_id"] for flow in record["flows"] if flow["additional"]["batcher"]["flow"] == "flow 2")
        shown = {flow["flow_id"]: flow["state"] for flow in record["flows"]}
        if shown[last] in ("starting", "running"):
            async with aiohttp.ClientSession() as session:
                await session.patch(f"{sandbox.url}/flows/{last}", json={"action": "abort"})
        report = await collect(healthy.manifest(sandbox.url), out)
        assert report.exit_code == 13, report.problems
        assert report.ends is not None
        assert (report.ends.failed, report.ends.failed + report.ends.aborted + report.ends.completed) == (1, 3)
        assert "--redo" in report.problems[0].hint
        apart = [name for name in outputs(out) if name.startswith("failed/")]
        assert len(apart) >= 4
        assert {row["output"] for row in results(out) if row["state"] == "partial"} == set(apart)
        ended = report.ends.failed + report.ends.aborted
        again = await collect(healthy.manifest(sandbox.url), out)
        assert (again.exit_code, again.requests.sent) == (13, ended), "one look at each: it may have been completed since"


async def test_waiting_is_bounded_and_what_runs_comes_later(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=2)
    out = tmp_path / "out"
    async with sandbox_of(tmp_path, processing_s=2.0) as sandbox:
        await started(batch, sandbox.url)
        for wait_s in (0.0, 0.3):
            report = await collect(batch.manifest(sandbox.url), out, wait_s=wait_s)
            assert report.exit_code == 10, report.problems
            assert report.ends is not None
            assert report.ends.running == 2
            assert [row["state"] for row in results(out)] == ["running", "running"]
        assert_complete(batch, out, await collect(batch.manifest(sandbox.url), out))


async def test_deleted_file_is_fetched_again_and_a_changed_one_stays_beside_a_new_one(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3), flows=1)
    out = tmp_path / "out"
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        await collect(batch.manifest(sandbox.url), out)
        (out / "flow 0" / "1.glb").unlink()
        report = await collect(batch.manifest(sandbox.url), out)
        assert_complete(batch, out, report)
        assert await downloads(sandbox.url) == 4
        (out / "flow 0" / "2.glb").write_bytes(b"edited by hand")
        report = await collect(batch.manifest(sandbox.url), out)
        assert report.exit_code == 0
        assert (out / "flow 0" / "2.glb").read_bytes() == b"edited by hand"
        (row,) = [row for row in results(out) if row["source"] == "2.png"]
        assert row["output"].startswith("flow 0/2-")
        await collect(batch.manifest(sandbox.url), out)
        assert await downloads(sandbox.url) == 5


async def test_files_of_another_folder_and_a_process_that_died_before_the_rename_are_found(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=1)
    out, moved = tmp_path / "out", tmp_path / "moved"
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        await collect(batch.manifest(sandbox.url), out)
        out.rename(moved)
        row = next(row for row in results(moved) if row["source"] == "1.png")
        (moved / "flow 0" / "1.glb").rename(moved / "flow 0" / f".{asset_mark(row['flow_id'], row['asset_id'])}.part")
        assert_complete(batch, moved, await collect(batch.manifest(sandbox.url), moved))
        assert await downloads(sandbox.url) == 2
        assert_complete(batch, out, await collect(batch.manifest(sandbox.url), out))
        assert await downloads(sandbox.url) == 4


async def test_file_that_is_not_ours_is_left_alone_and_the_same_bytes_are_taken_over(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3), flows=1)
    out = tmp_path / "out"
    (out / "flow 0" / "1.glb").mkdir(parents=True)
    (out / "flow 0" / "2.glb").write_bytes(b"somebody's")
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        report = await collect(batch.manifest(sandbox.url), out)
        assert report.exit_code == 0, report.problems
        assert (out / "flow 0" / "2.glb").read_bytes() == b"somebody's"
        assert sum(row["state"] == "collected" for row in results(out)) == 3
        assert {row["output"] for row in results(out) if row["source"] == "0.png"} == {"flow 0/0.glb"}


async def test_path_that_cannot_be_is_a_problem_of_its_output_only(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=2)
    out = tmp_path / "out"
    out.mkdir()
    (out / "flow 1").write_bytes(b"a file where a folder should be")
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        report = await collect(batch.manifest(sandbox.url), out)
    assert report.exit_code == 12
    assert report.outputs is not None
    assert (report.outputs.collected, report.outputs.failed) == (2, 2)
    assert "--name" in report.problems[0].hint


async def test_glb_of_another_length_is_never_renamed_into_place(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.glb", tmp_path / "bad.glb"
    good.write_bytes(b"glTF" + (2).to_bytes(4, "little") + (40).to_bytes(4, "little") + bytes(28))
    bad.write_bytes(b"glTF" + (2).to_bytes(4, "little") + (41).to_bytes(4, "little") + bytes(28))

    def inputs() -> Iterator[Input | Problem]:
        for path in (good, bad):
            yield Input(path.name, FileSource(str(path)), None, ABSENT, HERE)

    def flows() -> Iterator[Flow | Problem]:
        yield Flow("flow 0", "model_optimize", None, {}, None, HERE, inputs)

    batch = Batch(tmp_path, [good, bad], flows=1, limits=replace(LIMITS, retries=1))
    batch._flows = flows  # type: ignore[method-assign]
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        report = await collect(batch.manifest(sandbox.url), tmp_path / "out")
        assert await downloads(sandbox.url) == 3
    assert report.exit_code == 12
    assert set(outputs(tmp_path / "out")) == {"flow 0/good.glb"}
    (problem,) = report.problems
    assert (problem.input, problem.kind) == ("bad.glb", "unsettled")
    assert "declares 41 bytes, and 40 came" in problem.message


async def test_flow_is_deleted_only_after_its_outputs_are_verified_and_nobody_misses_it(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=2)
    out = tmp_path / "out"
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        await order_faults(sandbox.url, "output:flow=flow 1,garbage=html")
        first = replace(batch, limits=replace(LIMITS, retries=0))
        report = await collect(first.manifest(sandbox.url), out, delete_remote=True)
        assert report.exit_code == 12
        deleted = {f["additional"]["batcher"]["flow"]: f["deleted"] for f in (await read_record(sandbox.url))["flows"]}
        assert deleted == {"flow 0": True, "flow 1": False}
        await order_faults(sandbox.url, "delete:nth=1,lost_reply=close")
        report = await collect(batch.manifest(sandbox.url), out, delete_remote=True)
        assert_complete(batch, out, report)
        assert report.ends is not None
        assert report.ends.deleted == 2
        assert all(flow["deleted"] for flow in (await read_record(sandbox.url))["flows"])
        run = await batch.run(sandbox.url)
        assert (run.exit_code, run.requests.sent, run.flows.started) == (0, 0, 2)
        again = await collect(batch.manifest(sandbox.url), out, delete_remote=True)
        assert_complete(batch, out, again)
        assert again.requests.sent == 0
        (out / "flow 0" / "0.glb").unlink()
        gone = await collect(batch.manifest(sandbox.url), out)
        assert (gone.exit_code, gone.requests.sent) == (0, 0)
        assert "deleted from the service" in gone.problems[0].message
        assert [row["state"] for row in results(out)].count("gone") == 1


async def test_flow_whose_list_has_changed_or_that_was_given_is_not_deleted(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3), flows=1)
    out = tmp_path / "out"
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        await order_faults(sandbox.url, "outputs:first=2,corrupt_list=missing")
        report = await collect(batch.manifest(sandbox.url), out, delete_remote=True)
        (flow,) = (await read_record(sandbox.url))["flows"]
        if len(outputs(out)) < 3:  # the two lists may have hidden the same one
            assert not flow["deleted"]
            assert "it was not deleted" in report.problems[0].message
        assert_complete(batch, out, await collect(batch.manifest(sandbox.url), out, delete_remote=True))
        (flow,) = (await read_record(sandbox.url))["flows"]
        assert flow["deleted"]
        async with aiohttp.ClientSession() as session:
            reply = await session.post(f"{sandbox.url}/flows", json={"template": "model_generate_fromimage"})
            given = (await reply.json())["flow_id"]
        other = Batch(tmp_path, batch.paths, flows=1)
        other._flows = lambda: iter([Flow("given", None, given, {}, None, HERE, other._inputs)])  # type: ignore[method-assign]
        await started(other, sandbox.url)
        report = await collect(other.manifest(sandbox.url), out, Settings(Options(only=lambda name: name == "given")),
                               delete_remote=True)  # fmt: skip
        assert report.exit_code == 0
        assert "does not delete it" in report.problems[0].message
        assert not (await read_record(sandbox.url))["flows"][-1]["deleted"]


async def test_flow_that_is_not_found_to_be_deleted_and_is_still_shown_does_not_count_as_deleted(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=1)
    out = tmp_path / "out"
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        await order_faults(sandbox.url, "delete:nth=1,status=404")
        report = await collect(batch.manifest(sandbox.url), out, delete_remote=True)
        assert report.exit_code == 12
        assert report.ends is not None
        assert report.ends.deleted == 0
        assert "shows the flow" in report.problems[0].message
        await order_faults(sandbox.url, "delete:nth=1,lost_reply=close")  # here, the 404 that follows is the truth
        report = await collect(batch.manifest(sandbox.url), out, delete_remote=True)
        assert_complete(batch, out, report)
        assert report.ends is not None
        assert report.ends.deleted == 1
        assert all(flow["deleted"] for flow in (await read_record(sandbox.url))["flows"])


async def test_names_are_shared_by_nobody_and_sources_without_a_tag_are_said_to_be_unknown(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    paths = [*files(tmp_path / "a", 1), *files(tmp_path / "b", 1), *files(tmp_path, 1)]
    labels = ["a/0.png", "b/0.png", "untagged.png"]

    def inputs() -> Iterator[Input | Problem]:
        for label, path in zip(labels, paths, strict=True):
            yield Input(label, FileSource(str(path)), None, [1, 2] if label == "untagged.png" else ABSENT, HERE)

    batch = Batch(tmp_path, paths, flows=1)
    batch._inputs = inputs  # type: ignore[method-assign]
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        report = await collect(batch.manifest(sandbox.url), tmp_path / "out")
        again = await collect(batch.manifest(sandbox.url), tmp_path / "two", name="{stem}{suffix}")
        apart = await collect(batch.manifest(sandbox.url), tmp_path / "three")
    assert report.exit_code == again.exit_code == apart.exit_code == 0
    assert report.outputs is not None
    assert report.outputs.shared_names == 2
    rows = {row["source"]: row for row in results(tmp_path / "out")}
    assert set(rows) == {"a/0.png", "b/0.png", ""}
    assert rows["a/0.png"]["output"].startswith("flow 0/0-")
    assert rows["a/0.png"]["output"] != rows["b/0.png"]["output"]
    assert rows[""]["output"] == f"flow 0/{rows['']['asset_id']}.glb"
    assert set(outputs(tmp_path / "three")) == {row["output"] for row in rows.values()}


async def test_flow_that_is_paid_for_again_replaces_its_outputs_but_not_what_was_edited(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=1)
    out = tmp_path / "out"
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        await collect(batch.manifest(sandbox.url), out)
        (out / "flow 0" / "1.glb").write_bytes(b"edited")
        report = await batch.run(sandbox.url, Settings(Options(redo=lambda name: True)))
        assert report.flows.started_now == 1
        report = await collect(batch.manifest(sandbox.url), out)
        assert report.exit_code == 0, report.problems
        assert (out / "flow 0" / "1.glb").read_bytes() == b"edited"
        names = {row["source"]: row["output"] for row in results(out)}
        assert names["0.png"] == "flow 0/0.glb"
        assert names["1.png"].startswith("flow 0/1-")
        assert len(list((out / "flow 0").iterdir())) == 3


async def test_many_flows_are_asked_for_by_one_list(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 1), flows=70)
    batch.paths = files(tmp_path, 2)[1:]
    async with sandbox_of(tmp_path, readings="pages=cursor,page_size=50") as sandbox:
        await started(batch, sandbox.url)
        assert_complete(batch, tmp_path / "out", await collect(batch.manifest(sandbox.url), tmp_path / "out"))
        assert (await read_record(sandbox.url))["requests"].get("flow", 0) == 0


async def test_flow_that_left_the_manifest_is_collected_and_one_that_was_not_started_is_said_to_be(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=2)
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        manifest = batch.manifest(sandbox.url)
        new = Flow("new", "model_generate_fromimage", None, {}, None, HERE, batch._inputs)
        manifest = replace(manifest, flows=lambda: iter([next(iter(batch._flows())), new]))
        report = await collect(manifest, tmp_path / "out")
    assert report.exit_code == 0
    assert (report.flows.total, report.flows.started, report.flows.pending) == (3, 2, 1)
    assert len(outputs(tmp_path / "out")) == 4
    assert {row["source"] for row in results(tmp_path / "out") if row["flow"] == "flow 1"} == {""}


async def test_nothing_is_collected_under_names_that_were_not_meant(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 1), flows=1)
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        problem = Problem("source", "no such file: products.csv", "put it back", HERE)
        manifest = replace(batch.manifest(sandbox.url), flows=lambda: iter([problem]))
        report = await collect(manifest, tmp_path / "out")
        assert (report.exit_code, outputs(tmp_path / "out"), report.problems) == (4, {}, [problem])
        assert_complete(batch, tmp_path / "out", await collect(batch.manifest(sandbox.url), tmp_path / "out"))


async def test_collect_holds_the_lock_and_needs_a_journal(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 1), flows=1)
    manifest: Manifest = batch.manifest("http://127.0.0.1:9")
    with pytest.raises(UsageError, match="nothing was run here"):
        await collect(manifest, tmp_path / "out")
    from batcher.api import journal_path

    held = SqliteJournal(journal_path(manifest, None), "m", 1.0)
    with pytest.raises(Locked):
        await collect(manifest, tmp_path / "out")
    held.close()
    (tmp_path / "file").write_bytes(PNG)
    with pytest.raises(UsageError, match="cannot be written"):
        await collect(manifest, tmp_path / "file")


@pytest.fixture
def quick_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batcher.pipeline.collect.output_list.RELIST_S", (0.02, 0.05, 0.1, 0.2, 0.4))


async def test_fewer_outputs_than_inputs_are_said_until_they_come_or_are_accepted(tmp_path: Path, quick_lists: None) -> None:
    batch = Batch(tmp_path, files(tmp_path, 6), flows=2)
    out = tmp_path / "out"
    async with sandbox_of(tmp_path, readings="fewer=5") as sandbox:
        await started(batch, sandbox.url)
        report = await collect(batch.manifest(sandbox.url), out, delete_remote=True)
        assert report.exit_code == 12
        assert report.outputs is not None
        assert (report.outputs.collected, report.outputs.missing) == (2, 10)
        states = {(row["flow"], row["source"]): row["state"] for row in results(out)}
        assert len(states) == 12
        assert [*states.values()].count("missing") == 10
        lacking = [f"{n}.png" for n in range(6) if states["flow 0", f"{n}.png"] == "missing"]
        problem = next(problem for problem in report.problems if problem.flow == "flow 0")
        assert f"lists 1 output(s) for 6 inputs; 5 are missing, of {', '.join(lacking[:3])} and 2 more" in problem.message
        assert "--accept-fewer" in problem.hint
        asked = (await read_record(sandbox.url))["requests"]["outputs"]
        assert asked == 12, "each list is asked for again while it is short"
        again = await collect(batch.manifest(sandbox.url), out)
        assert again.exit_code == 12
        assert (await read_record(sandbox.url))["requests"]["outputs"] == asked + 4, "later, once and once more"
        accepted = await collect(batch.manifest(sandbox.url), out, accept_fewer=True, delete_remote=True)
        assert accepted.exit_code == 0, accepted.problems
        assert accepted.ends is not None
        assert accepted.ends.deleted == 2
        kept = await collect(batch.manifest(sandbox.url), out)
        assert (kept.exit_code, kept.requests.sent) == (0, 0), "it is remembered"
        assert kept.outputs is not None
        assert kept.outputs.missing == 10
        assert [row["state"] for row in results(out)].count("missing") == 10


async def test_outputs_that_are_listed_late_are_waited_for_within_bounds(tmp_path: Path, quick_lists: None) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3), flows=2)
    out = tmp_path / "out"
    async with sandbox_of(tmp_path, readings="output_delay=1.2") as sandbox:
        await started(batch, sandbox.url)
        report = await collect(batch.manifest(sandbox.url), out, wait_s=0.0)
        assert report.exit_code == 12, "--wait bounds it"
        assert (await read_record(sandbox.url))["requests"]["outputs"] == 2
        await asyncio.sleep(1.2)
        assert_complete(batch, out, await collect(batch.manifest(sandbox.url), out))
    other = Batch(tmp_path / "other", batch.paths, flows=2)
    async with sandbox_of(tmp_path / "other", readings="output_delay=0.5") as sandbox:
        await started(other, sandbox.url)
        report = await collect(other.manifest(sandbox.url), tmp_path / "second")
        assert report.exit_code == 0, report.problems


async def test_completed_flow_without_outputs_is_never_accepted(tmp_path: Path, quick_lists: None) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=1)
    async with sandbox_of(tmp_path, readings="fewer=2") as sandbox:
        await started(batch, sandbox.url)
        report = await collect(batch.manifest(sandbox.url), tmp_path / "out", accept_fewer=True, delete_remote=True)
        assert report.exit_code == 12
        assert "lists no outputs" in report.problems[0].message
        assert not (await read_record(sandbox.url))["flows"][0]["deleted"]
    assert [row["state"] for row in results(tmp_path / "out")] == ["missing", "missing"]


@pytest.mark.parametrize("fault", ["garbage=text", "garbage=plain", "address=http://127.0.0.1:9", "address=http://10.0.0.1"])
async def test_what_is_no_output_is_not_to_be_had_and_its_flow_stays(tmp_path: Path, fault: str) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=1, limits=replace(LIMITS, retries=1))
    out = tmp_path / "out"
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        await order_faults(sandbox.url, f"output:{fault}")
        report = await collect(batch.manifest(sandbox.url), out, delete_remote=True)
        assert (report.exit_code, outputs(out)) == (12, {})
        assert {problem.kind for problem in report.problems} == {"unsettled"}
        assert "Signature" not in str(report.problems)
        assert not (await read_record(sandbox.url))["flows"][0]["deleted"]
        await order_faults(sandbox.url)
        report = await collect(batch.manifest(sandbox.url), out, delete_remote=True)
        assert_complete(batch, out, report)
        assert (await read_record(sandbox.url))["flows"][0]["deleted"]


@pytest.mark.parametrize(
    ("reading", "counted"),
    [
        *((f"completed={word}", "completed") for word in ("succeeded", "success", "done", "finished")),
        *((f"failed={word}", "failed") for word in ("error", "errored", "expired", "timeout")),
        *((f"aborted={word}", "aborted") for word in ("cancelled", "canceled")),
    ],
)
async def test_known_words_for_an_end_are_ends(tmp_path: Path, reading: str, counted: str) -> None:
    batch = Batch(tmp_path, files(tmp_path, 1), flows=1)
    faults = ["start:fail_flow=1"] if counted == "failed" else []
    slow_s = 0.4 if counted == "aborted" else QUICK_S
    async with sandbox_of(tmp_path, *faults, readings=reading, processing_s=slow_s) as sandbox:
        await started(batch, sandbox.url)
        if counted == "aborted":
            (flow,) = (await read_record(sandbox.url))["flows"]
            async with aiohttp.ClientSession() as session:
                await session.patch(f"{sandbox.url}/flows/{flow['flow_id']}", json={"action": "abort"})
        report = await collect(batch.manifest(sandbox.url), tmp_path / "out", wait_s=5.0)
    assert report.ends is not None
    assert getattr(report.ends, counted) == 1
    assert report.exit_code == (0 if counted == "completed" else 13)


async def test_bytes_after_a_glb_are_kept_and_noted(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=1)
    async with sandbox_of(tmp_path, readings="trailing=4") as sandbox:
        await started(batch, sandbox.url)
        report = await collect(batch.manifest(sandbox.url), tmp_path / "out")
    assert report.exit_code == 0, report.problems
    assert report.outputs is not None
    assert report.outputs.longer == 2
    for path in (tmp_path / "out" / "flow 0").iterdir():
        content = path.read_bytes()
        assert int.from_bytes(content[8:12], "little") == len(content) - 4


async def test_output_that_is_listed_twice_is_one(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3), flows=1)
    out = tmp_path / "out"
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        await order_faults(sandbox.url, "outputs:corrupt_list=twice")
        report = await collect(batch.manifest(sandbox.url), out, delete_remote=True)
        assert_complete(batch, out, report)
        assert (await read_record(sandbox.url))["flows"][0]["deleted"]


async def test_flow_that_was_completed_after_it_had_failed_is_collected(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=3)
    out = tmp_path / "out"
    async with sandbox_of(tmp_path, "start:flow=flow 1,fail_flow=1") as sandbox:
        await started(batch, sandbox.url)
        report = await collect(batch.manifest(sandbox.url), out)
        assert report.exit_code == 13
        with sqlite3.connect(tmp_path / "sandbox" / "sandbox.sqlite") as service:  # as if somebody there had mended it
            service.execute("UPDATE inputs SET fails=0")
            service.execute("UPDATE flows SET fails=0")
        service.close()
        report = await collect(batch.manifest(sandbox.url), out)
        assert report.exit_code == 0, report.problems
        assert report.ends is not None
        assert (report.ends.completed, report.ends.failed) == (3, 0)
        assert {row["output"] for row in results(out) if row["flow"] == "flow 1"} == {"flow 1/0.glb", "flow 1/1.glb"}
        again = await collect(batch.manifest(sandbox.url), out)
        assert (again.exit_code, again.requests.sent) == (0, 0)


async def test_two_manifests_in_one_folder_keep_their_rows(tmp_path: Path) -> None:
    out = tmp_path / "out"
    batches = []
    async with sandbox_of(tmp_path) as sandbox:
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            batch = Batch(tmp_path / name, files(tmp_path / name, 2), flows=1)
            manifest = replace(batch.manifest(sandbox.url), batch=name)
            assert (await run(manifest)).exit_code == 0
            batches.append(manifest)
        for manifest in (*batches, *batches):
            assert (await collect(manifest, out)).exit_code == 0
            rows = results(out)
        assert {(row["batch"], row["source"]) for row in rows} == {(n, f"{s}.png") for n in ("first", "second") for s in (0, 1)}
        assert len(rows) == 4
        assert (await run(batches[0], Settings(Options(redo=lambda name: True)))).flows.started_now == 1
        assert (await collect(batches[0], out)).exit_code == 0
        assert len(results(out)) == 4, "rows of a flow that was paid for again are replaced"


async def test_flow_is_not_deleted_on_the_word_of_what_an_earlier_batcher_took(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=1)
    out = tmp_path / "out"
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        await collect(batch.manifest(sandbox.url), out)
        text = b"Error: asset is being migrated, try again later"
        (out / "flow 0" / "0.txt").write_bytes(text)
        (path,) = (tmp_path / ".batcher").glob("*.sqlite")
        with sqlite3.connect(path) as journal:
            values = ("flow 0/0.txt", hashlib.sha256(text).digest(), len(text))
            changes = "path=?, sha256=?, size=?, mtime_ns=0, path_digest=NULL"
            journal.execute(f"UPDATE outputs SET {changes} WHERE source='0.png'", values)
        journal.close()
        (out / "flow 0" / "0.glb").unlink()
        report = await collect(batch.manifest(sandbox.url), out, delete_remote=True)
        assert report.exit_code == 12
        assert "is not what model_generate_fromimage makes" in report.problems[0].message
        assert not (await read_record(sandbox.url))["flows"][0]["deleted"]
        report = await collect(batch.manifest(sandbox.url), out, delete_remote=True)
        assert report.exit_code == 0, report.problems
        assert (out / "flow 0" / "0.glb").read_bytes()[:4] == b"glTF"
@pytest.mark.parametrize("member", ["none", "error", "message", "detail", "reason", "status_message", "object", "list"])
async def test_why_a_flow_failed_is_found_wherever_it_stands(tmp_path: Path, member: str) -> None:
    batch = Batch(tmp_path, files(tmp_path, 1), flows=2)
    async with sandbox_of(tmp_path, "start:nth=1,fail_flow=1", readings=f"reason={member}") as sandbox:
        await started(batch, sandbox.url)
        report = await collect(batch.manifest(sandbox.url), tmp_path / "out")
    assert report.exit_code == 13
    said = "out of memory while meshing" in report.problems[0].message
    assert said == (member != "none")
    assert sorted(bool(row["reason"]) for row in results(tmp_path / "out")) == [False, said]


async def test_why_a_flow_failed_is_asked_for_where_the_list_does_not_say_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "LIST_FROM", 4)
    batch = Batch(tmp_path, files(tmp_path, 1), flows=6)
    readings = "reason=message,reason_in=flow"
    async with sandbox_of(tmp_path, "start:nth=2,fail_flow=1", readings=readings) as sandbox:
        await started(batch, sandbox.url)
        report = await collect(batch.manifest(sandbox.url), tmp_path / "out")
        asked = (await read_record(sandbox.url))["requests"]
    assert "out of memory while meshing" in report.problems[0].message
    assert asked["flow"] == 1, "of the others the list says enough"
