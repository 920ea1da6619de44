"""`abort` as a command: what runs on the service is listed, ended only when asked to, and what is said of it is so."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Service, batcher, begin, write_batch

pytestmark = pytest.mark.slow


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Service]:
    """A service whose flows run for ten minutes."""
    command = [sys.executable, "-m", "batcher.sandbox", "--dir", str(tmp_path / "store"), "--processing", "600s"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield Service(process.stdout.readline().split()[-1], process)
        process.terminate()
        process.wait(10)


def started(service: Service, folder: Path, flows: int) -> tuple[str, ...]:
    """A batch of so many flows that run; the words after a command."""
    write_batch(folder, flows, 1)
    words = ("m.yaml", "--endpoint", service.url)
    result = batcher(folder, "run", *words)
    assert result.returncode == 0, result.stderr
    return words


def states(service: Service) -> dict[str, str]:
    return {flow["additional"]["batcher"]["flow"]: flow["state"] for flow in service.record()["flows"]}


def told(folder: Path, *words: str) -> dict:
    result = batcher(folder, "abort", *words, "--json")
    assert result.stdout, result.stderr
    document = json.loads(result.stdout)
    assert document["exit_code"] == result.returncode
    return document


def test_what_runs_is_listed_and_aborted_when_asked(slow: Service, tmp_path: Path) -> None:
    words = started(slow, tmp_path, 3)
    listed = batcher(tmp_path, "abort", *words)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert [line.split()[1] for line in listed.stdout.splitlines()[:3]] == ["f0", "f1", "f2"]
    assert listed.stdout.splitlines()[3] == "3 flows run on the service; --yes aborts what runs"
    assert set(states(slow).values()) <= {"starting", "running"}
    assert "abort" not in slow.requests()
    one = batcher(tmp_path, "abort", *words, "--yes", "--only", "f1")
    assert (one.returncode, one.stdout.splitlines()[-1]) == (0, "1 flow aborted")
    assert states(slow)["f1"] == "aborting"
    assert {states(slow)[name] for name in ("f0", "f2")} <= {"starting", "running"}
    both = told(tmp_path, *words, "--yes")
    assert (both["exit_code"], both["aborted"], both["problems"]) == (0, 3, [])
    assert [(each["flow"], each["became"]) for each in both["running"]] == [(name, "aborting") for name in ("f0", "f1", "f2")]
    assert slow.requests().count("abort") == 3, "what is on its way is not aborted again"
    again = batcher(tmp_path, "run", *words)
    assert (again.returncode, "3 of 3 started" in again.stdout) == (0, True), "they are paid for"
    status = json.loads(batcher(tmp_path, "status", *words, "--json").stdout)
    assert {flow["state"] for flow in status["journal"]} == {"started"}


def test_what_was_aborted_is_collected_as_such_and_what_has_ended_is_left_alone(service: Service, tmp_path: Path) -> None:
    words = started(service, tmp_path, 2)
    time.sleep(0.3)  # they take 0.2 s
    assert told(tmp_path, *words, "--yes")["running"] == []
    assert "abort" not in service.requests()
    assert batcher(tmp_path, "collect", *words, "--to", "out").returncode == 0
    asked = service.requests().count("flow")
    assert told(tmp_path, *words, "--yes")["exit_code"] == 0
    assert service.requests().count("flow") == asked, "an end that the journal knows is not asked for"


def test_aborted_flow_ends_a_collect_with_13(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "batcher.sandbox", "--dir", str(tmp_path / "store"), "--processing", "60s"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        service = Service(process.stdout.readline().split()[-1], process)
        words = started(service, tmp_path, 1)
        assert told(tmp_path, *words, "--yes")["aborted"] == 1
        collected = batcher(tmp_path, "collect", *words, "--to", "out")
        process.terminate()
    assert collected.returncode == 13
    assert "was aborted on the service" in collected.stderr


@pytest.mark.parametrize(
    ("faults", "code", "said"),
    [
        (["abort:nth=1,lost_reply=close", "abort:nth=2,drop_before=1"], 0, ""),
        (["abort:first=2,status=500"], 0, ""),
        (["abort:nth=1,error_after_commit=504"], 0, ""),
        (["abort:status=409"], 12, "the service did not abort it (409"),
        (["abort:status=500"], 12, "the service did not abort it (500"),
        (["abort:garbage=json,nth=1"], 0, ""),
        (["flow:status=404"], 12, "the service does not know the flow"),
        (["abort:status=503"], 5, "was not aborted: 503"),
        (["abort:status=401"], 7, "the service refuses the key"),
    ],
)  # fmt: skip
def test_what_came_of_an_abort_is_asked_for(slow: Service, tmp_path: Path, faults: list[str], code: int, said: str) -> None:
    words = started(slow, tmp_path, 1)
    slow.order(*faults)
    result = batcher(tmp_path, "abort", *words, "--yes", "--retries", "2")
    slow.order()
    assert (result.returncode, said in result.stderr) == (code, True), result.stderr
    assert (states(slow)["f0"] == "aborting") == (code == 0)
    assert "Traceback" not in result.stderr
    assert batcher(tmp_path, "abort", *words, "--yes").returncode == 0


def test_a_start_that_is_not_settled_is_not_called_nothing_to_do(slow: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 1)
    words = ("m.yaml", "--endpoint", slow.url)
    slow.order("start:late_commit=4s")
    process = begin(tmp_path, "run", *words)
    while "start" not in slow.requests() and process.poll() is None:
        time.sleep(0.05)
        if slow.record()["flows"] and "inputs" in slow.requests():
            break
    time.sleep(0.3)
    process.kill()
    process.communicate()
    found = told(tmp_path, *words, "--yes")
    assert found["exit_code"] == 12
    assert "may yet run" in found["problems"][0]["message"]


def test_a_slip_ends_no_flow_and_without_a_journal_nothing_is_asked(slow: Service, tmp_path: Path) -> None:
    words = started(slow, tmp_path, 2)
    slip = batcher(tmp_path, "abort", *words, "--yes", "--only", "f0", "--only", "f7")
    assert slip.returncode == 2
    assert "--only f7: there is no such flow" in slip.stderr
    assert "abort" not in slow.requests()
    nothing = batcher(tmp_path, "abort", *words, "--state", "elsewhere")
    assert (nothing.returncode, "there is no journal at" in nothing.stderr) == (2, True)
    assert not (tmp_path / "elsewhere").exists()


def test_it_holds_the_journal_as_a_run_does(slow: Service, tmp_path: Path) -> None:
    words = started(slow, tmp_path, 1)
    slow.order("flow:latency=3s")
    process = begin(tmp_path, "abort", *words, "--log-file", "log")
    end = time.monotonic() + 20
    while not (tmp_path / "log").exists() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.3)
    assert batcher(tmp_path, "run", *words).returncode == 11
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 143


@pytest.mark.parametrize(("command", "number", "code"), [("abort", signal.SIGHUP, 129), ("clean", signal.SIGHUP, 129),
                                                         ("clean", signal.SIGTERM, 143)])  # fmt: skip
def test_a_signal_ends_it_in_order(service: Service, tmp_path: Path, command: str, number: int, code: int) -> None:
    words = started(service, tmp_path, 1)
    service.order("flow+flows:latency=2s")
    process = begin(tmp_path, command, *words, "--yes", "--log-file", "log")
    end = time.monotonic() + 20
    while not (tmp_path / "log").exists() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, "the next run resumes" in errors, "Traceback" in errors) == (code, True, False), errors
    assert "run_ended" in (tmp_path / "log").read_text()
