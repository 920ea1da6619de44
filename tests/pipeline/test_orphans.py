"""A flow that was given up and turns out to be started is paid for, and stays."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from batcher.api import MemoryJournal, Settings, clean, refresh, run
from batcher.core.abandoning import abandon
from batcher.core.model import Limits
from batcher.core.planning import Options
from batcher.sandbox import Sandbox, parse_fault

from .batch import Batch, files, read_record
from .paged import QUICK
from .soft_deletion import soft_deletion

pytestmark = pytest.mark.anyio


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


async def test_flow_that_is_still_shown_is_not_gone_by_the_word_of_a_404(tmp_path: Path) -> None:
    """Its start was lost and comes late; each deletion is answered as if it were not there. Another one would be paid, too."""
    batch = Batch(tmp_path, files(tmp_path, 2)[:1], flows=1, limits=Limits(settle_s=1.0, retries=1, timeout_s=1.0))
    faults = [parse_fault(text) for text in ("start:nth=1,late_commit=8s", "delete:status=404")]
    async with Sandbox(tmp_path / "service", faults=faults, processing_s=0.05) as sandbox:
        await batch.run(sandbox.url)
        await asyncio.sleep(7)
        await batch.run(sandbox.url)
        flows = (await read_record(sandbox.url))["flows"]
        assert [flow["starts"] for flow in flows] == [1], "nobody pays twice"


async def test_flow_is_looked_at_again_before_its_deletion_is_repeated(tmp_path: Path) -> None:
    """While the first attempt waits for its 503, a lost start comes late, and the flow ends: it could be deleted then."""
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], flows=1, limits=Limits(settle_s=1.0, retries=3, timeout_s=1.0))
    faults = [parse_fault(text) for text in ("start:nth=1,late_commit=2500ms", "delete:nth=1,latency=900ms,status=503")]
    async with Sandbox(tmp_path / "service", faults=faults, processing_s=0.05) as sandbox:
        report = await batch.run(sandbox.url)
        flows = (await read_record(sandbox.url))["flows"]
        assert [(flow["starts"], flow["deleted"]) for flow in flows] == [(1, False)], "nobody pays twice"
        assert report.exit_code == 12


async def test_flow_is_looked_at_again_where_its_deletion_had_to_wait(tmp_path: Path) -> None:
    """One request a second may leave: a lost start comes late between the look and the deletion, and the flow ends."""
    limits = Limits(settle_s=1.0, retries=3, timeout_s=1.0, rate_per_s=1.0)
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], flows=1, limits=limits)
    faults = [parse_fault("start:nth=1,late_commit=4200ms")]
    async with Sandbox(tmp_path / "service", faults=faults, processing_s=0.05) as sandbox:
        report = await batch.run(sandbox.url)
        flows = (await read_record(sandbox.url))["flows"]
        assert [(flow["starts"], flow["deleted"]) for flow in flows] == [(1, False)], "nobody pays twice"
        assert report.exit_code == 12


async def test_flow_that_is_shown_as_deleted_is_gone(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], flows=1, limits=QUICK)
    async with Sandbox(tmp_path / "sandbox") as sandbox, soft_deletion(sandbox.url) as (url, service):
        await batch.run(url, Settings(Options(start=False)))
        batch.paths[0].write_bytes(batch.paths[0].read_bytes() + b"changed")
        report = await batch.run(url)
        assert (report.exit_code, report.flows.started_now, len(service.gone)) == (0, 1, 1), report.problems
        found, report = await clean(batch.manifest(url), Settings(), True)
        assert (report.exit_code, found) == (0, [])
        flows = (await read_record(sandbox.url))["flows"]
        assert [(flow["starts"], flow["deleted"]) for flow in flows] == [(0, True), (1, False)]
        async with aiohttp.ClientSession() as session, session.delete(f"{url}/flows/{flows[1]['flow_id']}"):
            pass
        asked, report = await refresh(batch.manifest(url))
        assert (asked.rows, [problem.status for problem in report.problems]) == ({}, [404])


async def test_flow_is_not_gone_where_its_deletion_says_that_it_was_not_done(tmp_path: Path) -> None:
    """Its start was lost and comes late; until then each deletion is a 200 with an error in words."""
    limits = Limits(settle_s=1.0, retries=4, timeout_s=1.0)
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], flows=1, limits=limits)
    faults = [parse_fault(text) for text in ("start:nth=1,late_commit=4s", "delete:garbage=error,when=before")]
    async with Sandbox(tmp_path / "service", faults=faults, processing_s=0.05) as sandbox:
        report = await batch.run(sandbox.url)
        await asyncio.sleep(3)
        await batch.run(sandbox.url)
        flows = (await read_record(sandbox.url))["flows"]
        assert [(flow["starts"], flow["deleted"]) for flow in flows] == [(1, False)], "nobody pays twice"
        assert report.exit_code in (5, 12), report.problems


@pytest.mark.parametrize(("fault", "code"), [("delete:nth=1,", 0), ("delete:", 12)], ids=["once", "each time"])
async def test_flow_that_is_listed_after_its_deletion_stays_an_orphan(tmp_path: Path, fault: str, code: int) -> None:
    """A 200 without a word, and nothing was deleted."""
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], flows=2)
    faults = [parse_fault(text) for text in ("inputs:nth=1,corrupt_list=foreign", f"{fault}garbage=empty,when=before")]
    async with Sandbox(tmp_path / "service", faults=faults) as sandbox:
        for _ in range(2):
            report = await batch.run(sandbox.url)
            flows = await batch.judge(sandbox.url, report)
            assert (report.exit_code, len(flows)) == (code, 3), report.problems
            if code:
                assert "it is still there" in report.problems[0].message
