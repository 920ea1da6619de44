"""Many faults at once, by chance: what is started is right, nothing is left behind, and little is sent in vain.

Small batches by default; the figures of docs/guarantees.md come from the large ones (`-m long`). Seeds are printed.
"""

from __future__ import annotations

import os
import random
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from batcher.sandbox import Sandbox, parse_fault

from .small import Batch

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300), pytest.mark.slow]

MOST = 1.6  # requests sent / needed
TIMEOUT_S = 1.0  # a request is given up


def needed(batch: Batch) -> int:
    """Requests of a run that meets nothing: templates, the list of flows twice, per flow create, uploads, list, start."""
    return 3 + batch.flows * (len(batch.paths) + 3)


def a_seed() -> int:
    """`BATCHER_SEED`, or another one each time."""
    return int(os.environ.get("BATCHER_SEED") or random.randrange(1 << 32))


def say(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with capsys.disabled():
        print(f"\n{text}", file=sys.stderr)


async def test_what_a_clean_run_needs(tmp_path: Path) -> None:
    batch = Batch(tmp_path, 5, 3)
    async with Sandbox(tmp_path / "store") as sandbox:
        report = await batch.run(sandbox.url)
        batch.judge(await batch.record(sandbox.url))
    assert (report.exit_code, report.requests.sent) == (0, needed(batch))


@pytest.mark.parametrize("flows", [25, pytest.param(100, marks=pytest.mark.long)])
async def test_a_fifth_of_the_replies_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str], flows: int) -> None:
    seed = a_seed()
    batch = Batch(tmp_path, flows, 5)
    began = time.monotonic()
    async with Sandbox(tmp_path / "store", faults=[parse_fault("upload:p=0.2,lost_reply=close")], seed=seed) as sandbox:
        report = await batch.run(sandbox.url)
        zeros = batch.judge(await batch.record(sandbox.url), complete=report.exit_code == 0)
        (lost,) = sandbox.plan.as_json()
    ratio = report.requests.sent / needed(batch)
    say(capsys, f"lost replies: seed {seed}: {flows} flows × 5 inputs, {lost['struck']} replies to uploads lost: exit code "
                f"{report.exit_code} in one run, {zeros}, {report.requests.sent} requests sent for {needed(batch)} needed "
                f"({ratio:.2f}), {time.monotonic() - began:.1f} s")  # fmt: skip
    assert report.exit_code == 0, report.problems
    assert int(str(lost["struck"])) >= 1
    assert ratio <= MOST


@pytest.mark.parametrize(
    ("flows", "inputs", "settle_s"), [(8, 4, 0.6), pytest.param(60, 5, 3.0, marks=pytest.mark.long)]
)
@pytest.mark.parametrize("times", [0.5, 5.0], ids=["inside the settling time", "five times beyond it"])
async def test_uploads_that_commit_late(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flows: int, inputs: int, settle_s: float, times: float
) -> None:
    """A quarter of the uploads commits so many settling times after the client has given up."""
    seed = a_seed()
    batch = Batch(tmp_path, flows, inputs)
    batch.limits = replace(batch.limits, timeout_s=TIMEOUT_S, settle_s=settle_s, concurrency=32)
    began = time.monotonic()
    fault = parse_fault(f"upload:p=0.25,late_commit={TIMEOUT_S + times * settle_s}s")
    async with Sandbox(tmp_path / "store", faults=[fault], seed=seed) as sandbox:
        first = await batch.run(sandbox.url)
        took = time.monotonic() - began
        batch.judge(await batch.record(sandbox.url), complete=False)
        (late,) = sandbox.plan.as_json()
        await sandbox.caught_up()
        zeros = batch.judge(await batch.record(sandbox.url), complete=False)
        sandbox.set_faults(())
        second = await batch.run(sandbox.url)
        after = batch.judge(await batch.record(sandbox.url))
    say(capsys, f"late commits, {times:g} settling times after the client gave up: seed {seed}: {flows} flows × {inputs} "
                f"inputs, {late['struck']} uploads late: exit code {first.exit_code} after {took:.1f} s, "
                f"{first.flows.started} started, {zeros}, {first.requests.sent} requests sent for {needed(batch)} needed; "
                f"left after the next run ({second.exit_code}): {after['left']}")  # fmt: skip
    assert int(str(late["struck"])) >= 1
    if times < 1:
        assert first.exit_code == 0, first.problems
        assert zeros["left"] == 0
    assert second.exit_code == 0, second.problems
