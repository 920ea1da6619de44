"""What was given up leaves the service, and `clean` forgets only what is gone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from batcher.api import Settings, clean
from batcher.core.planning import Options
from batcher.sandbox import Sandbox, parse_fault

from .batch import Batch, files, read_record
from .paged import CAPS, QUICK, make_flows, ours, read, service

pytestmark = pytest.mark.anyio


async def test_a_flow_that_a_delete_did_not_find_is_looked_for_on_the_list(tmp_path: Path) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2))
    faults = ["inputs:nth=1,corrupt_list=foreign", "delete:nth=1,status=404"]
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault(fault) for fault in faults]) as sandbox:
        report = await batch.run(sandbox.url)
        flows = await batch.judge(sandbox.url, report)
    assert (report.exit_code, len(flows)) == (0, batch.flows + 1)


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


@pytest.mark.parametrize(
    ("fault", "code"),
    [("delete:status=403", 12), ("delete:status=422", 5), ("delete:status=404", 5), ("delete:nth=1,status=403", 12)],
)
async def test_clean_says_what_could_not_be_deleted_and_the_next_one_goes_on(tmp_path: Path, fault: str, code: int) -> None:
    batch = Batch(tmp_path, files(tmp_path, 2), flows=2, limits=QUICK)
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault(fault)]) as sandbox:
        await batch.run(sandbox.url, Settings(options=Options(start=False)))
        found, report = await clean(batch.manifest(sandbox.url), Settings(), True)
        left = [flow["flow_id"] for flow in (await read_record(sandbox.url))["flows"] if not flow["deleted"]]
        assert report.exit_code == code, report.problems
        assert sorted(flow.flow_id for flow in found if not flow.deleted) == sorted(left)
        assert len(report.problems) == len(left) == (1 if "nth" in fault else 2)
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        found, report = await clean(batch.manifest(sandbox.url), Settings(), True)
        assert (report.exit_code, [flow.deleted for flow in found]) == (0, [True] * len(left))
        assert all(flow["deleted"] for flow in (await read_record(sandbox.url))["flows"])
