"""A flow leaves the service only after all that it made is verified on disk."""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from batcher.api import Settings, collect
from batcher.core.model import Flow
from batcher.core.planning import Options

from ..batch import HERE, LIMITS, Batch, files, order_faults, read_record
from ..paged import QUICK, read, service
from .folder import assert_complete, outputs, results, sandbox_of, started

pytestmark = pytest.mark.anyio


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
