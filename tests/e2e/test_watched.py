"""A run as those see it who watch over it: the log's events, pings and hooks around the command, the metrics' file."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from .conftest import Service, batcher, begin, environment, service, write_batch

pytestmark = pytest.mark.slow

__all__ = ["service"]


@pytest.fixture
def pings() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A service of pings: its address, and what it was told."""
    told: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append((self.path, self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()))
            self.send_response(200 if "broken" not in self.path else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/id", told
        server.shutdown()


def events(folder: Path, name: str = "log") -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def add(folder: Path, lines: str) -> None:
    manifest = folder / "m.yaml"
    manifest.write_text(lines + "\n" + manifest.read_text())


def test_every_event_is_a_line(service: Service, tmp_path: Path) -> None:
    """Successes too; and what was retried, unknown and settled, refused, given up and deleted."""
    write_batch(tmp_path, 3, 4, settle="100ms")
    faults = ("upload:nth=2,status=422", "upload:nth=5,lost_reply=close", "start:nth=1,status=503", "create:nth=2,status=429")
    service.order(*faults)
    where = ("run", "m.yaml", "--endpoint", service.url, "--log-file", "log", "--quiet", "--concurrency", "1")
    assert batcher(tmp_path, *where).returncode == 3
    service.order()
    assert batcher(tmp_path, *where).returncode == 0
    found = events(tmp_path)
    count = Counter(event["event"] for event in found)
    assert count["run_begun"] == count["run_ended"] == count["planned"] == 2
    assert (count["flow_created"], count["flow_verified"] >= 3, count["flow_started"]) == (3, True, 3)
    assert (count["input_refused"], count["input_unknown"], count["input_settled"]) == (1, 1, 1)
    assert count["input_accepted"] + count["input_settled"] == 12
    assert {event["call"] for event in found if event["event"] == "request_retried"} == {"start", "create"}
    (refused,) = (event for event in found if event["event"] == "input_refused")
    (problem,) = (event for event in found if event["event"] == "problem")
    assert (refused["input"], refused["flow"], refused["status"]) == (problem["input"], problem["flow"], 422)
    assert problem["hint"] == "change what the service objects to, then run again"
    accepted = [(event["flow"], event["input"]) for event in found if event["event"] in ("input_accepted", "input_settled")]
    assert len(set(accepted)) == 12
    ended = [event for event in found if event["event"] == "run_ended"]
    assert [event["exit_code"] for event in ended] == [3, 0]
    assert ended[1]["flows"]["started"] == 3
    assert sum(event["inputs"]["uploaded_now"] for event in ended) == 12
    assert "secret-key-7" not in (tmp_path / "log").read_text()


def test_an_early_end_is_in_the_log(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 1)
    key = tmp_path / "key"
    key.write_text("first-key-of-all")
    service.order("*:status=401,body=echo")
    result = batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url, "--log-file", "log", GENERIO_API_KEY_FILE=str(key))
    assert result.returncode == 7
    stopping, ended = events(tmp_path)[-2:]
    assert (stopping["event"], stopping["reason"], stopping["status"]) == ("stopping", "fatal", 401)
    assert (ended["event"], ended["exit_code"], ended["level"]) == ("run_ended", 7, "ERROR")
    (tmp_path / "m.yaml").write_text("version: 2\n")
    assert batcher(tmp_path, "run", "m.yaml", "--log-file", "log").returncode == 2
    assert events(tmp_path)[-1]["exit_code"] == 2
    assert "first-key" not in (tmp_path / "log").read_text()


def test_pings_hooks_and_metrics_of_a_run(
    service: Service, tmp_path: Path, pings: tuple[str, list[tuple[str, str]]]
) -> None:
    url, told = pings
    write_batch(tmp_path, 2, 2)
    hook = 'echo "$BATCHER_OUTCOME $BATCHER_EXIT_CODE $BATCHER_FLOWS_STARTED $GENERIO_API_KEY" >>said'
    hooks = ", ".join(f"{name}: '{hook}'" for name in ("on_success", "on_failure", "on_problem"))
    add(tmp_path, f"metrics: m.prom\nnotify: {{ping: '{url}', command: {{{hooks}}}}}")
    where = ("run", "m.yaml", "--endpoint", service.url, "--quiet")
    service.order("upload:nth=1,status=422")
    refused = batcher(tmp_path, *where)
    service.order("*:status=503")
    away = batcher(tmp_path, *where, "--retries", "0")
    service.order()
    done = batcher(tmp_path, *where)
    assert [result.returncode for result in (refused, away, done)] == [3, 5, 0]
    assert (done.stdout, done.stderr) == ("", "")
    assert [path for path, _ in told] == ["/id/start", "/id/fail", "/id/start", "/id/log", "/id/start", "/id"]
    assert told[1][1] == refused.stderr.rstrip("\n"), "the ping says what cron would mail"
    assert told[5][1] == "batcher: m.yaml: 2 of 2 flows started (exit code 0)"
    assert (tmp_path / "said").read_text().splitlines() == ["failure 3 1 ", "problem 5 0 ", "success 0 2 "]
    metrics = (tmp_path / "m.prom").read_text()
    assert f'endpoint="{service.url.removeprefix("http://")}"' in metrics
    assert f'manifest="{tmp_path}/m.yaml"' in metrics
    assert "secret-key-7" not in metrics
    batcher(tmp_path, "plan", "m.yaml", "--endpoint", service.url)
    assert len(told) == 6, "a plan is nobody's news"


def test_no_ping_hook_or_metrics_changes_the_exit_code(
    service: Service, tmp_path: Path, pings: tuple[str, list[tuple[str, str]]]
) -> None:
    url, told = pings
    write_batch(tmp_path, 1, 1)
    add(tmp_path, f"metrics: none/such/m.prom\nnotify: {{ping: '{url}/broken', command: {{on_success: 'echo alas; exit 9'}}}}")
    result = batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url, "--quiet", "--log-file", "log")
    assert result.returncode == 0
    lines = result.stderr.splitlines()
    assert sorted(lines) == [
        "alas",
        "batcher: notify.command.on_success ended with 9:",
        "batcher: notify.ping: 127.0.0.1 could not be told (/start): it answers with 404",
        "batcher: notify.ping: 127.0.0.1 could not be told: it answers with 404",
        f"batcher: the metrics {tmp_path}/none/such/m.prom cannot be written: No such file or directory",
    ]
    assert sum(event["event"] == "warning" for event in events(tmp_path)) == 4
    other = batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url, "--quiet", "--metrics", "own.prom")
    assert other.returncode == 0
    assert "batcher_last_run_exit_code" in (tmp_path / "own.prom").read_text()
    assert len(told) == 4


def test_an_overlapping_run_tells_nobody(service: Service, tmp_path: Path, pings: tuple[str, list[tuple[str, str]]]) -> None:
    import fcntl

    url, told = pings
    write_batch(tmp_path, 1, 1)
    add(tmp_path, f"metrics: m.prom\nnotify: {{ping: '{url}', command: {{on_failure: touch said, on_problem: touch said}}}}")
    assert batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url).returncode == 0
    (tmp_path / "m.prom").unlink()
    told.clear()
    locks = list((tmp_path / ".batcher").glob("*.lock"))
    assert locks, "the lock's file has another name now"
    with locks[0].open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        found = batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url, "--quiet", "--log-file", "log")
        loud = batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url)
    assert (found.returncode, found.stdout, found.stderr) == (11, "", "")
    assert "another run" in loud.stderr
    assert events(tmp_path)[-1]["exit_code"] == 11
    assert told == []
    assert not (tmp_path / "said").exists()
    assert not (tmp_path / "m.prom").exists()


HOOK = 'echo "$BATCHER_COMMAND $BATCHER_OUTCOME $BATCHER_EXIT_CODE $BATCHER_OUTPUTS_COLLECTED" >>said'
HOOKS = ", ".join(f"{name}: '{HOOK}'" for name in ("on_success", "on_failure", "on_problem"))


def test_a_collect_tells_whom_a_run_tells(service: Service, tmp_path: Path, pings: tuple[str, list[tuple[str, str]]]) -> None:
    url, told = pings
    write_batch(tmp_path, 2, 2)
    add(tmp_path, f"metrics: m.prom\nnotify: {{ping: '{url}', command: {{{HOOKS}}}}}")
    words = ("m.yaml", "--endpoint", service.url, "--quiet")
    service.order("start:nth=2,fail_flow=1")
    assert batcher(tmp_path, "run", *words).returncode == 0
    failed = batcher(tmp_path, "collect", *words, "--to", "out")
    assert failed.returncode == 13
    assert [path for path, _ in told] == ["/id/start", "/id", "/id/start", "/id/fail"]
    assert told[3][1] == failed.stderr.rstrip("\n")
    assert "2 of 2 flows started, 4 of 4 outputs collected (exit code 13)" in told[3][1]
    assert (tmp_path / "said").read_text().splitlines() == ["run success 0 ", "collect failure 13 4"]
    metrics = (tmp_path / "m.prom").read_text()
    for line in ('ends{', 'outputs{', 'inputs{'):
        assert f"\nbatcher_{line}" in metrics
    both = batcher(tmp_path, "run", *words, "--collect", "out", "--metrics", "own.prom")
    assert both.returncode == 13
    assert 'batcher_ends{batch="m",command="run"' in (tmp_path / "own.prom").read_text()


def test_a_hook_that_takes_long_is_explained_and_a_signal_does_not_wait_for_it(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 1)
    add(tmp_path, "notify: {command: {on_success: sleep 50}}")
    process = begin(tmp_path, "run", "m.yaml", "--endpoint", service.url, "--progress", "bar")
    assert process.stderr is not None
    said = ""
    while "is being notified" not in said:
        piece = process.stderr.read(1)
        assert piece, said
        said += piece
    process.send_signal(signal.SIGINT)
    summary, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "1 of 1 started" in summary


def test_a_terminal_that_is_closed_ends_a_command_in_order_and_nohup_keeps_it(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 1)
    add(tmp_path, f"notify: {{command: {{{HOOKS}}}}}")
    words = ("m.yaml", "--endpoint", service.url, "--log-file", "log")
    assert batcher(tmp_path, "run", *words).returncode == 0
    service.order("flow:latency=3s")
    process = begin(tmp_path, "collect", *words, "--to", "out")
    begun(tmp_path, 2)
    for _ in range(2):  # the kernel says it, and the shell
        process.send_signal(signal.SIGHUP)
        time.sleep(0.1)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 129, errors
    assert "stopped by SIGHUP (the next run resumes)" in errors
    assert (tmp_path / "said").read_text().splitlines() == ["run success 0 ", "collect problem 129 0"]
    service.order("flow:latency=500ms")
    command = ["nohup", sys.executable, "-m", "batcher", "collect", *words, "--to", "out"]
    nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), **nowhere) as held:
        begun(tmp_path, 3)
        held.send_signal(signal.SIGHUP)
        assert held.wait(20) == 0


def begun(folder: Path, times: int) -> None:
    """Until so many commands have begun."""
    end = time.monotonic() + 20
    while sum(event["event"] == "run_begun" for event in events(folder)) < times and time.monotonic() < end:
        time.sleep(0.05)
