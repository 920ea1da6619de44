"""A start counts once the state shows it, and one that nobody answered is never sent again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from batcher.api import Settings, run
from batcher.core.model import Problem
from batcher.sandbox import Sandbox, parse_fault

from .batch import Batch, files, read_record

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("done", [True, False], ids=["done", "not done"])
@pytest.mark.parametrize("said", [*(f"garbage={kind}" for kind in ("error", "created", "json", "empty", "plain")), "truncate"])
async def test_success_of_a_start_counts_only_once_the_state_shows_it(tmp_path: Path, said: str, done: bool) -> None:
    """A 200 with an error, with the flow still `created`, with no state, that is no JSON or is cut off, may be no start."""
    batch = Batch(tmp_path, files(tmp_path, 3), flows=2)
    fault = parse_fault(f"start:nth=1,{said},when={'after' if done else 'before'}")
    async with Sandbox(tmp_path / "sandbox", faults=[fault]) as sandbox:
        report = await batch.run(sandbox.url)
        flows = await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.problems
    rebuilt = not done and said != "garbage=error"  # what was answered with an error is not done later, and is started again
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
