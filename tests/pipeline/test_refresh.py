"""Asking what has become of started flows: by few requests that only read, and kept unless somebody else has the journal."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest

from batcher.api import Settings, collect, keep, plan, refresh, run
from batcher.core.facts import EndFacts, PutEnd, Remote
from batcher.core.planning import Action, Options
from batcher.journal.open import open_journal, read_journal
from batcher.pipeline import refresh as refresh_module
from batcher.sandbox import Sandbox

from .batch import Batch, files, read_record
from .collect.folder import sandbox_of

pytestmark = pytest.mark.anyio
READS = {"flows", "flow"}


async def asked_since(sandbox: Sandbox, before: Counter[str]) -> Counter[str]:
    return Counter((await read_record(sandbox.url))["requests"]) - before


async def abort(url: str, flow_id: str) -> None:
    async with aiohttp.ClientSession() as session:
        await session.patch(f"{url}/flows/{flow_id}", json={"action": "abort"})


async def test_many_flows_are_asked_about_by_one_list_and_kept(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], flows=70)
    async with sandbox_of(tmp_path, processing_s=60.0) as sandbox:
        manifest = batch.manifest(sandbox.url)
        assert (await batch.run(sandbox.url)).exit_code == 0
        before = Counter((await read_record(sandbox.url))["requests"])
        found, report = await refresh(manifest)
        assert (found.asked, found.left, len(found.changed), report.exit_code) == (70, 0, 70, 0)
        assert await asked_since(sandbox, before) == {"flows": 1}
        assert await keep(manifest, Settings(), found)
        view = read_journal(manifest, None)
        assert view is not None
        with closing(view) as journal:
            ends = [end for _, end in journal.flows_and_ends()]
        assert all(end is not None and end.state in ("starting", "running") and end.seen_at for end in ends)
        assert not any(end.listed for end in ends if end is not None)


async def test_why_a_flow_failed_is_asked_for_once(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], flows=70)
    async with sandbox_of(tmp_path, "start:nth=7,fail_flow=1", readings="reason=object,reason_in=flow") as sandbox:
        manifest = batch.manifest(sandbox.url)
        await batch.run(sandbox.url)
        before = Counter((await read_record(sandbox.url))["requests"])
        found, _ = await refresh(manifest)
        assert await asked_since(sandbox, before) == {"flows": 1, "flow": 1}
        assert [row.reason for row in found.rows.values() if row.state == "failed"] == ["OOM: out of memory while meshing"]
        await keep(manifest, Settings(), found)
        again, _ = await refresh(manifest)
        assert (again.asked, again.rows) == (1, {}), "of those that are completed nothing is asked, and nothing is new"


async def test_a_journal_that_is_held_is_left_alone_and_what_its_holder_writes_counts(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], flows=2)
    async with sandbox_of(tmp_path, processing_s=60.0) as sandbox:
        manifest = batch.manifest(sandbox.url)
        await batch.run(sandbox.url)
        found, _ = await refresh(manifest)
        first, second = found.rows.values()
        with closing(open_journal(manifest, None)) as journal:
            assert not await keep(manifest, Settings(), found)
            done = EndFacts(first.flow_id, first.flow, "completed", True, Remote.DELETED)
            await journal.record(PutEnd(done))
        assert await keep(manifest, Settings(), found)
        view = read_journal(manifest, None)
        assert view is not None
        with closing(view) as looked:
            assert looked.end(first.flow_id) == done, "what was learned before is no news"
            assert looked.end(second.flow_id) == second


async def test_what_cannot_be_asked_about_is_said_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], flows=6)
    monkeypatch.setattr(refresh_module, "SINGLE", 4)
    async with sandbox_of(tmp_path, processing_s=60.0) as sandbox:
        manifest = batch.manifest(sandbox.url)
        await batch.run(sandbox.url)
        monkeypatch.setattr(refresh_module, "MOST", 5)
        found, report = await refresh(manifest)
        assert (found.asked, found.left) == (4, 2)
        async with aiohttp.ClientSession() as session:
            for flow in (await read_record(sandbox.url))["flows"]:
                await abort(sandbox.url, flow["flow_id"])
                await session.delete(f"{sandbox.url}/flows/{flow['flow_id']}")
    url = manifest.endpoint
    found, report = await refresh(manifest)
    assert (found.asked, report.stop is not None, report.exit_code) == (0, True, 5), f"nobody is at {url}"


async def test_a_flow_that_failed_is_paid_for_again_once_and_its_attempts_are_kept(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], flows=5)
    redo = Settings(Options(redo_failed=True))
    async with sandbox_of(tmp_path, "start:nth=2,fail_flow=1", "start:nth=5,fail_flow=1") as sandbox:
        manifest = batch.manifest(sandbox.url)
        assert (await run(manifest, redo)).flows.started_now == 5, "nothing has failed as far as is known"
        assert (await run(manifest, redo)).flows.started_now == 0
        assert (await collect(manifest, tmp_path / "out")).exit_code == 13
        survey, _ = await plan(manifest, redo)
        assert (survey.actions[Action.REDO], survey.requests.starts, survey.paid) == (1, 1, 5)
        assert (await run(manifest)).flows.started_now == 0, "nobody asked"
        assert (await run(manifest, redo)).flows.started_now == 1
        assert (await run(manifest, redo)).flows.started_now == 0, "this attempt is not known to have failed"
        assert (await collect(manifest, tmp_path / "out")).exit_code == 13
        last = await run(manifest, redo)
        assert (last.flows.started_now, last.paid) == (1, 7)
        assert (await collect(manifest, tmp_path / "out")).exit_code == 0
        view = read_journal(manifest, None)
        assert view is not None
        with closing(view) as journal:
            (attempts,) = journal.attempts([f"flow {n}" for n in range(5)]).values()
            assert len({one.flow_id for one in attempts}) == 2
            assert all(one.started_at for one in attempts)
            assert {end.state for end in journal.ends([one.flow_id for one in attempts]).values()} == {"failed"}
        assert sum(flow["starts"] for flow in (await read_record(sandbox.url))["flows"]) == 7
