"""A journal that was put back from before: what was paid for since is recognised on the service's list, and not paid again."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from batcher.api import Settings, clean, collect, plan
from batcher.core.model import Manifest
from batcher.core.planning import Options
from batcher.journal.open import read_journal
from batcher.sandbox import Sandbox

from .batch import order_faults, read_record, small
from .paged import ours, read, service

pytestmark = pytest.mark.anyio

ADOPTING = Settings(Options(adopt=True))
REDOING = Settings(Options(redo=lambda name: name == "flow 0"))


@dataclass
class Copy:
    """The state folder as it was when this was made."""

    folder: Path

    def __post_init__(self) -> None:
        shutil.copytree(self.folder / ".batcher", self.folder / "bak")

    def put_back(self) -> None:
        shutil.rmtree(self.folder / ".batcher")
        shutil.copytree(self.folder / "bak", self.folder / ".batcher")


async def starts(url: str) -> list[tuple[str, int]]:
    """(name, starts) of each flow of ours that is there, in the order in which they were made."""
    flows = ours((await read_record(url))["flows"])
    return [(flow["additional"]["batcher"]["flow"], flow["starts"]) for flow in flows if not flow["deleted"]]


def rows(manifest: Manifest) -> dict[str, tuple[str, int, int]]:
    """By name: the flow's state, generation, and how many attempts it has."""
    journal = read_journal(manifest, None)
    assert journal is not None
    try:
        found = list(journal.flows())
        attempts = journal.attempts([facts.name for facts in found])
        return {f.name: (f.state.value, f.generation, len(attempts.get(f.name, ()))) for f in found}
    finally:
        journal.close()


async def test_flow_that_was_paid_for_since_stops_the_run_before_it_writes(tmp_path: Path) -> None:
    batch = small(tmp_path, 1, 1)
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        assert (await batch.run(sandbox.url)).exit_code == 0
        copy = Copy(tmp_path)
        batch.flows = 3
        assert (await batch.run(sandbox.url)).exit_code == 0
        before = (await read_record(sandbox.url))["requests"]
        copy.put_back()
        report = await batch.run(sandbox.url)
        _, planned = await plan(batch.manifest(sandbox.url))
        after = (await read_record(sandbox.url))["requests"]
        for told in (report, planned):
            (problem,) = told.problems
            assert (told.exit_code, problem.flow) == (12, "flow 1")
            assert "--adopt" in problem.hint
            assert "(“flow 1”) and 1 more" in problem.message
        assert {call: after[call] - before.get(call, 0) for call in after if after[call] != before.get(call)} == {
            "templates": 2, "flows": 2,
        }  # fmt: skip
        report = await batch.run(sandbox.url, ADOPTING)
        assert (report.exit_code, report.flows.started, report.flows.started_now) == (0, 3, 0), report.problems
        batch.flows = 4
        report = await batch.run(sandbox.url)
        assert (report.exit_code, report.flows.started_now) == (0, 1), report.problems
        assert await starts(sandbox.url) == [(f"flow {n}", 1) for n in range(4)]


@pytest.mark.parametrize("readings", ["pages=none", "pages=next,page_size=1", "pages=cap"])
async def test_list_is_asked_for_only_where_flows_are_to_be_made(tmp_path: Path, readings: str) -> None:
    """And a part of one is no reason to stop: the journal was held against a whole one before."""
    batch = small(tmp_path, 2, 2)
    async with service(tmp_path, "pages=none") as sandbox:
        assert (await batch.run(sandbox.url, Settings(Options(start=False)))).exit_code == 0
        await read(sandbox.url, readings)
        before = (await read_record(sandbox.url))["requests"]["flows"]
        for _ in range(2):
            assert (await batch.run(sandbox.url)).exit_code == 0
        assert (await read_record(sandbox.url))["requests"]["flows"] == before, "its flows were there, and then started"
        batch.flows = 3
        assert (await batch.run(sandbox.url)).exit_code == 0
        asked = (await read_record(sandbox.url))["requests"]["flows"] - before
    assert asked == (2 if "next" in readings else 1)  # pages


async def test_journal_that_lacks_nothing_is_never_taken_for_an_older_one(tmp_path: Path) -> None:
    """Whatever its flows have gone through: each of these runs is to make another one, and looks."""
    batch = small(tmp_path, 2, 1)

    async def one_more(url: str, settings: Settings | None = None) -> None:
        batch.flows += 1
        report = await batch.run(url, settings)
        assert report.exit_code == 0, report.problems or report.stop

    async with Sandbox(tmp_path / "sandbox") as sandbox:
        url = sandbox.url
        assert (await batch.run(url)).exit_code == 0
        for fault in ("create:nth=1,lost_reply=close", "create:nth=1,late_commit=2s", "upload:nth=1,late_commit=2s"):
            await order_faults(url, fault)
            await one_more(url)
        await order_faults(url)
        await one_more(url, REDOING)
        await one_more(url, REDOING)
        batch.paths[0].write_bytes(batch.paths[0].read_bytes() + b"!")
        await one_more(url, Settings(Options(resubmit_changed=True)))
        await order_faults(url, "start:status=503")  # built anew before they are started
        batch.flows += 1
        assert (await batch.run(url)).exit_code == 5
        batch.paths[1].write_bytes(batch.paths[1].read_bytes() + b"!")
        await order_faults(url)
        await one_more(url)
        await order_faults(url, "start:status=503")  # given up by `clean`
        batch.flows += 1
        assert (await batch.run(url)).exit_code == 5
        await order_faults(url)
        _, report = await clean(batch.manifest(url), Settings(), True)
        assert report.exit_code == 0
        await one_more(url)
        await order_faults(url, "create:status=422")  # announced, and not made
        batch.flows += 1
        assert (await batch.run(url)).exit_code == 3
        await order_faults(url)
        await one_more(url)
        done = await collect(batch.manifest(url), tmp_path / "out", delete_remote=True)
        assert done.exit_code == 0
        await one_more(url)


async def test_flow_that_was_paid_for_again_since_is_not_paid_for_a_third_time(tmp_path: Path) -> None:
    batch = small(tmp_path, 1, 2)
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        assert (await batch.run(sandbox.url)).exit_code == 0
        copy = Copy(tmp_path)
        for _ in range(2):
            assert (await batch.run(sandbox.url, REDOING)).exit_code == 0
        copy.put_back()
        assert (await batch.run(sandbox.url, REDOING)).exit_code == 12
        assert (await batch.run(sandbox.url, ADOPTING)).exit_code == 0
        assert rows(batch.manifest(sandbox.url)) == {"flow 0": ("started", 3, 2), "flow 1": ("started", 1, 0)}
        assert sorted(await starts(sandbox.url)) == [("flow 0", 1)] * 3 + [("flow 1", 1)]
        report = await batch.run(sandbox.url, REDOING)  # asked for, and so it is
        assert (report.exit_code, report.flows.started_now) == (0, 1), report.problems
        assert rows(batch.manifest(sandbox.url))["flow 0"] == ("started", 4, 3)


async def test_flow_that_was_built_anew_since_is_taken_for_what_it_is_now(tmp_path: Path) -> None:
    batch = small(tmp_path, 2, 1)
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        await order_faults(sandbox.url, "start:status=503")
        assert (await batch.run(sandbox.url)).exit_code == 5
        copy = Copy(tmp_path)
        await order_faults(sandbox.url)
        batch.paths[0].write_bytes(batch.paths[0].read_bytes() + b"!")
        assert (await batch.run(sandbox.url)).exit_code == 0
        copy.put_back()
        assert rows(batch.manifest(sandbox.url)) == {"flow 0": ("open", 1, 0)}
        assert (await batch.run(sandbox.url)).exit_code == 12
        report = await batch.run(sandbox.url, ADOPTING)
        assert (report.exit_code, report.flows.started) == (0, 1), report.problems
        assert rows(batch.manifest(sandbox.url)) == {"flow 0": ("started", 2, 0)}
        assert await starts(sandbox.url) == [("flow 0", 1)]


@pytest.mark.parametrize("same", [True, False])
async def test_flow_that_was_filled_since_is_gone_on_with_or_deleted(tmp_path: Path, same: bool) -> None:
    batch = small(tmp_path, 2, 1)
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        assert (await batch.run(sandbox.url)).exit_code == 0
        copy = Copy(tmp_path)
        batch.flows = 2
        await order_faults(sandbox.url, "start:status=503")
        assert (await batch.run(sandbox.url)).exit_code == 5
        await order_faults(sandbox.url)
        copy.put_back()
        if not same:
            batch.paths.pop()
        report = await batch.run(sandbox.url)
        assert (report.exit_code, report.flows.started_now) == (12, 0)
        report = await batch.run(sandbox.url, ADOPTING)
        assert (report.exit_code, report.flows.started_now) == (0, 1), report.problems
        assert rows(batch.manifest(sandbox.url))["flow 1"] == ("started", 1 if same else 2, 0)
        assert await starts(sandbox.url) == [("flow 0", 1), ("flow 1", 1)]


async def test_flow_that_has_left_the_manifest_is_known_again(tmp_path: Path) -> None:
    batch = small(tmp_path, 1, 1)
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        assert (await batch.run(sandbox.url)).exit_code == 0
        copy = Copy(tmp_path)
        batch.flows = 3
        await order_faults(sandbox.url, "start:nth=2,status=422")
        assert (await batch.run(sandbox.url)).exit_code != 0
        await order_faults(sandbox.url)
        copy.put_back()
        batch.flows = 1
        report = await batch.run(sandbox.url, ADOPTING)
        assert (report.exit_code, report.flows.started_now) == (0, 0), report.problems
        found = rows(batch.manifest(sandbox.url))
        assert sorted(found[f"flow {n}"][:2] for n in (1, 2)) == [("planned", 1), ("started", 1)]
        assert len(await starts(sandbox.url)) == 2, "what was not started is deleted"
        batch.flows = 3
        report = await batch.run(sandbox.url)
        assert report.flows.started_now == 1, report.problems
        assert sorted(await starts(sandbox.url)) == [(f"flow {n}", 1) for n in range(3)]
