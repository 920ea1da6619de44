"""How a run ends when it is told to, waits when it is asked to, and treats a service that is not well."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from batcher.api import Settings
from batcher.core.errors import Reason, Stop
from batcher.core.model import FileSource, Input, Place
from batcher.core.retry import Call, Fault, FaultKind
from batcher.pipeline.operation import Operation
from batcher.pipeline.shutdown import DRAIN_S
from batcher.sandbox import Sandbox, parse_fault
from batcher.service import deadlines
from batcher.service.limiter import OUTAGE_AFTER
from batcher.sources.dispatch import AllSources

from .cells import Watched
from .command import Service, batcher, begin, judge, serving, until, write_batch, write_large_flow
from .small import Batch

LARGE = 1_500_000  # inputs that take half a minute to look at
SLACK_S = 10.0  # a loaded machine


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path / "store") as service:
        yield service


def end(process: subprocess.Popen[str], seconds: float) -> str:
    """What it said on stderr; it must end by itself within this time."""
    try:
        _, errors = process.communicate(timeout=seconds)
    finally:
        process.kill()
    assert "Traceback" not in errors
    return errors


# ---- signals


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.long)]
)
def test_first_signal_ends_in_order_though_a_request_hangs(
    service: Service, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    write_batch(tmp_path, 3, 20)
    service.order("upload:nth=5,lost_reply=hang", "*:latency=150ms")
    process = begin(tmp_path, "run", "m.yaml", "--endpoint", service.url, "--concurrency", "3")
    until(lambda: service.count("upload") >= 8)
    process.send_signal(number)
    told = time.time()
    end(process, DRAIN_S + SLACK_S)  # the time-out of a request is a minute
    assert process.returncode == code
    assert not [r for r in service.requests() if r["t"] > told + 1.0], "new work was begun"
    judge(service, 3, 20, complete=False)
    service.order()
    assert batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url).returncode == 0
    judge(service, 3, 20, complete=True)


def test_second_signal_ends_at_once(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 5)
    service.order("upload:lost_reply=hang")
    process = begin(tmp_path, "run", "m.yaml", "--endpoint", service.url)
    until(lambda: len(service.get("record")["flows"]) == 1 and service.get("record")["max_in_flight"] >= 3)
    told = time.monotonic()
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert process.poll() is None, "what is in flight has its time"
    process.send_signal(signal.SIGINT)
    end(process, DRAIN_S)
    assert time.monotonic() - told < DRAIN_S
    assert process.returncode == 130
    service.order()
    assert batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url).returncode == 0
    judge(service, 1, 5, complete=True)


@pytest.mark.parametrize("command", ["run", "plan"])
def test_signal_while_a_large_flow_is_looked_at(service: Service, tmp_path: Path, command: str) -> None:
    write_large_flow(tmp_path, LARGE)
    process = begin(tmp_path, command, "m.yaml", "--endpoint", service.url)
    if command == "run":
        until((tmp_path / ".batcher").exists)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    errors = end(process, SLACK_S)
    assert process.returncode == 130, errors
    assert service.count("create") == 0


@pytest.mark.parametrize("call", ["templates", pytest.param("flows", marks=pytest.mark.long)])
def test_signal_while_a_request_of_the_survey_hangs(service: Service, tmp_path: Path, call: str) -> None:
    write_batch(tmp_path, 1, 1)
    service.order(f"{call}:lost_reply=hang", "*:latency=1ms")
    process = begin(tmp_path, "run", "m.yaml", "--endpoint", service.url)
    until(lambda: any(fault["struck"] for fault in service.get("faults")["faults"][:1]))
    process.send_signal(signal.SIGINT)
    end(process, DRAIN_S + SLACK_S)
    assert process.returncode == 130


def test_signal_while_a_large_file_is_read_for_its_sum(tmp_path: Path) -> None:
    """What --checksum does to each source, in the planner's thread."""
    path = tmp_path / "large.png"
    path.touch()
    os.truncate(path, 64 << 30)  # sparse: it takes no room, and minutes to read
    sources = AllSources(0, 0)
    raised: list[BaseException] = []

    def walk() -> None:
        try:
            sources.digest(Input("large.png", FileSource(str(path)), None, None, Place("m.yaml")))
        except Stop as stop:
            raised.append(stop)

    thread = threading.Thread(target=walk)
    thread.start()
    time.sleep(0.2)
    assert thread.is_alive()
    sources.interrupt(Stop(Reason.SIGINT, "stopped"))
    thread.join(SLACK_S)
    assert not thread.is_alive()
    assert len(raised) == 1
    sources.close()
    small = tmp_path / "small.png"
    small.write_bytes(b"x" * 3_000_000)
    plain = AllSources(0, 0).digest(Input("small.png", FileSource(str(small)), None, None, Place("m.yaml")))
    assert plain == hashlib.sha256(small.read_bytes()).digest()


# ---- one deadline for the whole run


def test_max_duration_counts_the_survey(service: Service, tmp_path: Path) -> None:
    write_large_flow(tmp_path, LARGE)
    process = begin(tmp_path, "run", "m.yaml", "--endpoint", service.url, "--max-duration", "2s")
    end(process, 2 + SLACK_S)
    assert process.returncode == 10
    assert service.count("create") == 0


@pytest.mark.parametrize(
    "fault",
    [
        "upload:after=2,status=429,retry_after=120",
        "*:status=503",
        pytest.param("templates:lost_reply=hang", marks=pytest.mark.long),
        pytest.param("start:latency=90s", marks=pytest.mark.long),
    ],
)
def test_max_duration_counts_pauses_and_what_hangs(service: Service, tmp_path: Path, fault: str) -> None:
    write_batch(tmp_path, 2, 3)
    service.order(fault)
    process = begin(tmp_path, "run", "m.yaml", "--endpoint", service.url, "--max-duration", "1s", "--retries", "100")
    end(process, 1 + DRAIN_S + SLACK_S)
    assert process.returncode == 10
    service.order()
    assert batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url).returncode == 0
    judge(service, 2, 3, complete=True)


# ---- a service that asks to wait, or is not there


@pytest.mark.anyio
@pytest.mark.parametrize("form", ["2", "date:3"])
async def test_nothing_is_sent_during_a_pause(tmp_path: Path, form: str) -> None:
    batch = Batch(tmp_path, 4, 10)
    async with Sandbox(tmp_path / "store", faults=[parse_fault(f"upload:nth=7,status=429,retry_after={form}")]) as sandbox:
        report = await batch.run(sandbox.url)
        batch.judge(await batch.record(sandbox.url))
        log = sorted(sandbox.seen.log, key=lambda entry: entry.t)
    assert report.exit_code == 0
    asked = next(entry.t for entry in log if entry.status == 429)
    after = [entry.t for entry in log if entry.t > asked + 0.5]  # what was in flight has arrived long since
    assert after, "the run was over before the pause"
    assert min(after) >= asked + 1.9, "a request was sent during the pause"


class Timed(Watched):
    """The client, with the time of every request that found nobody."""

    def __init__(self, client: Any, lost: list[tuple[float, float]]) -> None:
        super().__init__(client, set())
        self._lost = lost

    def __getattr__(self, name: str) -> Any:
        method = super().__getattr__(name)

        async def ask(*values: Any) -> Any:
            begun = time.monotonic()
            found = await method(*values)
            if isinstance(found, Fault) or getattr(found, "status", 200) == 503:
                self._lost.append((begun, time.monotonic()))
            return found

        return method if name in ("read_key_again", "has_key") else ask


@pytest.mark.anyio
@pytest.mark.parametrize(
    "fault",
    [
        "upload:nth=9,outage=10m",
        "*:after=12,latency=50ms,status=503",
        pytest.param("*:after=12,status=503", marks=pytest.mark.long),
    ],
)
async def test_total_outage_is_probed_one_at_a_time(tmp_path: Path, fault: str) -> None:
    batch = Batch(tmp_path, 4, 10)
    batch.limits = replace(batch.limits, retries=3, concurrency=4)
    lost: list[tuple[float, float]] = []

    def watch(operation: Operation) -> None:
        operation.client = Timed(operation.client, lost)

    async with Sandbox(tmp_path / "store", faults=[parse_fault(fault)]) as sandbox:
        report = await batch.run(sandbox.url, started=watch)
        if "status" in fault:
            batch.judge(await batch.record(sandbox.url), complete=False)
    assert report.exit_code == 5, report.problems
    most = OUTAGE_AFTER - 1 + batch.limits.concurrency + batch.limits.retries + 1
    assert batch.limits.retries + 1 <= len(lost) <= most, lost
    probes = sorted(lost)[-(batch.limits.retries + 1) :]
    for (_, before), (begun, _) in pairwise(probes):
        assert begun >= before, "two probes at a time"


# ---- a key that is refused


@pytest.mark.parametrize(
    ("what", "code"),
    [("replaced", 0), ("replaced late", 0), ("left as it is", 7), pytest.param("removed", 7, marks=pytest.mark.long)],
)
def test_key_file_is_read_again_for_a_while(service: Service, tmp_path: Path, what: str, code: int) -> None:
    write_batch(tmp_path, 2, 15)
    file = tmp_path / "key"
    file.write_text("the-old-key\n")
    service.post("keys", {"keys": ["the-old-key"], "expired": []})
    service.order("upload:latency=150ms")
    words = ("run", "m.yaml", "--endpoint", service.url, "--concurrency", "3", "--verbose")
    process = begin(tmp_path, *words, GENERIO_API_KEY_FILE=str(file))
    until(lambda: service.count("upload") >= 4)
    if what == "replaced":
        file.write_text("the-new-key\n")
    elif what == "removed":
        file.unlink()
    service.post("keys", {"keys": ["the-new-key"], "expired": ["the-old-key"]})
    if what == "replaced late":
        time.sleep(1.5)
        file.write_text("the-new-key\n")
    errors = end(process, 60)
    assert process.returncode == code, errors
    assert "-key" not in errors.replace(str(file), "")
    refused = [request for request in service.requests() if request["status"] == 401]
    assert 1 <= len(refused) <= 4, "those in flight, and no other"
    judge(service, 2, 15, complete=code == 0)
    if code:
        file.write_text("the-new-key")
        service.order()
        assert batcher(tmp_path, *words, GENERIO_API_KEY_FILE=str(file)).returncode == 0
        judge(service, 2, 15, complete=True)


# ---- a trickle


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fault", "kind", "least"),
    [
        ("upload:nth=1,slow_read=40kB", FaultKind.NOT_SENT, 10_000),  # nothing moves for a while
        ("upload:nth=1,slow_read=1500kB", FaultKind.NOT_SENT, 20_000_000),  # it moves all the time, and too little
        ("upload:nth=1,trickle=9", FaultKind.CUT_OFF, 10_000),
        ("inputs:nth=1,trickle=9", FaultKind.CUT_OFF, 10_000),
    ],
)
async def test_a_trickle_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, kind: FaultKind, least: int
) -> None:
    monkeypatch.setattr(deadlines, "LEAST_BYTES_PER_S", least)
    batch = Batch(tmp_path, 1, 1, size=12_000_000 if "slow_read" in fault else 900)
    batch.limits = replace(batch.limits, timeout_s=1.5)
    seen: set[tuple[Call, int | FaultKind]] = set()

    def watch(operation: Operation) -> None:
        operation.client = Watched(operation.client, seen)

    async with Sandbox(tmp_path / "store", faults=[parse_fault(fault)]) as sandbox:
        report = await batch.run(sandbox.url, Settings(max_duration_s=40), started=watch)
        batch.judge(await batch.record(sandbox.url))
        (struck,) = sandbox.plan.as_json()
    assert report.exit_code == 0, report.problems
    assert struck["struck"] == 1
    assert (Call(fault.partition(":")[0]), kind) in seen
