"""Flows are waited for until they end, whatever that is called."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from batcher.api import MemoryJournal, collect
from batcher.core import collecting
from batcher.pipeline import flow_states

from ..batch import Batch, files, read_record
from .folder import QUICK_S, assert_complete, results, sandbox_of, started
from .service import GLB, Service, collected, raw

pytestmark = pytest.mark.anyio


async def test_many_flows_are_asked_for_by_one_list(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 1), flows=70)
    batch.paths = files(tmp_path, 2)[1:]
    async with sandbox_of(tmp_path, readings="pages=cursor,page_size=50") as sandbox:
        await started(batch, sandbox.url)
        assert_complete(batch, tmp_path / "out", await collect(batch.manifest(sandbox.url), tmp_path / "out"))
        assert (await read_record(sandbox.url))["requests"].get("flow", 0) == 0


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
    monkeypatch.setattr(flow_states, "LIST_FROM", 4)
    batch = Batch(tmp_path, files(tmp_path, 1), flows=6)
    readings = "reason=message,reason_in=flow"
    async with sandbox_of(tmp_path, "start:nth=2,fail_flow=1", readings=readings) as sandbox:
        await started(batch, sandbox.url)
        report = await collect(batch.manifest(sandbox.url), tmp_path / "out")
        asked = (await read_record(sandbox.url))["requests"]
    assert "out of memory while meshing" in report.problems[0].message
    assert asked["flow"] == 1, "of the others the list says enough"


async def test_unknown_states_and_outputs_in_the_making_are_waited_for(tmp_path: Path, quick_polls: None) -> None:
    service = Service(["starting", "created", "running", "post-processing", "", "completed"], ["processing", "ready"])
    service.outputs = {"1": ("a.png", raw(GLB))}
    report, found = await collected(service, tmp_path, delete_remote=True)
    assert (report.exit_code, found, service.deleted) == (0, {"flow/a.glb"}, 1)


async def test_unknown_state_with_an_end_is_said_by_name_and_not_waited_for(
    tmp_path: Path, quick_polls: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "STILL_S", 0.1)
    service = Service(["running", "archived"], outputs={"1": ("a.png", raw(GLB))}, finished_at="2026-01-01T00:00:00Z")
    journal = MemoryJournal()
    report, found = await collected(service, tmp_path, journal)
    assert (report.exit_code, found) == (12, set())
    assert report.ends is not None
    assert (report.ends.unknown, report.ends.running) == (1, 0)
    assert "has been “archived” for" in report.problems[0].message
    assert '"state": "archived"' in (tmp_path / "out" / "results.jsonl").read_text("utf-8")
    service.states = ["completed"]
    report, found = await collected(service, tmp_path, journal)
    assert (report.exit_code, found) == (0, {"flow/a.glb"})
