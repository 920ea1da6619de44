"""What a flow at its end lacks is said, and nothing of it is deleted."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from batcher.api import collect

from ..batch import Batch, files, read_record
from .folder import outputs, results, sandbox_of, started
from .service import GLB, Service, collected, raw, uri

pytestmark = pytest.mark.anyio


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


async def test_completed_flow_without_outputs_is_never_accepted(tmp_path: Path, quick_lists: None) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=1)
    async with sandbox_of(tmp_path, readings="fewer=2") as sandbox:
        await started(batch, sandbox.url)
        report = await collect(batch.manifest(sandbox.url), tmp_path / "out", accept_fewer=True, delete_remote=True)
        assert report.exit_code == 12
        assert "lists no outputs" in report.problems[0].message
        assert not (await read_record(sandbox.url))["flows"][0]["deleted"]
    assert [row["state"] for row in results(tmp_path / "out")] == ["missing", "missing"]


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


@pytest.mark.parametrize(
    ("service", "code", "words"),
    [
        (Service(["created"]), 12, "that the flow f-1 is `created`"),
        (Service(["completed"]), 12, "lists no outputs"),
        (Service(["aborted"]), 13, "was aborted"),
        (Service(["failed"], ["nonsense"]), 13, "failed on the service"),
        (Service(statuses=["error"], outputs={"1": ("a.png", raw(GLB))}), 3, "in error"),
        (Service(outputs={"1": ("a.png", uri(GLB[:-1], "model/gltf-binary"))}), 12, "declares 20 bytes, and 19 came"),
        (Service(outputs={"1": ("a.png", web.json_response({"data": "no asset yet"}))}), 12, "it is a text: no asset yet"),
        (Service(outputs={"1": ("a.png", raw(b"no asset yet", "text/plain"))}), 12, "no file of a kind that is known"),
        (Service(outputs={"1": ("a.png", web.json_response({"url": "http://10.0.0.1/x?s=1"}))}), 12, "it is not https"),
        (Service(outputs={"1": ("a.png", web.Response(status=302, headers={"Location": "ftp://x.example/?s=1"}))}), 12,
         "it is not https"),
    ],
)
async def test_what_the_service_shows_wrongly_is_said_and_nothing_is_deleted(
    tmp_path: Path, quick_polls: None, service: Service, code: int, words: str
) -> None:
    report, found = await collected(service, tmp_path, delete_remote=True)
    assert (report.exit_code, found, service.deleted) == (code, set(), 0)
    assert words in report.problems[0].message
