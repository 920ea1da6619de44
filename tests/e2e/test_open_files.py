"""How many files may be open bounds how many requests are in flight; it is never a file's fault."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Service, environment, write_batch

pytestmark = pytest.mark.slow


def limited(folder: Path, soft: int, hard: int | str, *words: str) -> subprocess.CompletedProcess[str]:
    """The command in a process that may open so many files."""
    line = f"ulimit -Sn {soft}; ulimit -Hn {hard}; exec {shlex.join([sys.executable, '-m', 'batcher', *words])}"
    return subprocess.run(["bash", "-c", line], cwd=folder, env=environment(), capture_output=True, text=True, timeout=50)


def test_few_open_files_mean_few_requests_at_once(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 40, size=200_000)  # too large to be held: each is open while it is sent
    service.order("*:latency=100ms")
    words = ("m.yaml", "--endpoint", service.url, "--concurrency", "64")
    run = limited(tmp_path, 44, 44, "run", *words)
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("requests at once, not 64: no more files may be open here (raise ulimit -n)") == 1
    got = limited(tmp_path, 44, 44, "collect", *words, "--to", "out", "--json")
    assert json.loads(got.stdout)["outputs"]["collected"] == 40
    assert got.stderr == ""


def test_the_bound_is_told_as_an_event(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 1)
    run = limited(tmp_path, 64, 64, "run", "m.yaml", "--endpoint", service.url, "--log-file", "log", "--quiet")
    assert (run.returncode, run.stderr) == (0, "")
    told = [event for line in (tmp_path / "log").read_text().splitlines() if (event := json.loads(line))["event"]]
    (bound,) = [event for event in told if event["event"] == "concurrency_bounded"]
    assert bound["wanted"] == 16
    assert 1 <= bound["concurrency"] < 16


def test_the_soft_limit_is_raised_to_the_hard_one(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 40, size=200_000)
    service.order("*:latency=100ms")
    run = limited(tmp_path, 44, 400, "run", "m.yaml", "--endpoint", service.url, "--concurrency", "64")
    assert (run.returncode, run.stderr) == (0, "")


def test_too_few_to_do_anything_is_said(tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 1)
    for command in ("run", "plan", "clean"):
        run = limited(tmp_path, 20, 20, command, "m.yaml", "--endpoint", "http://127.0.0.1:9")
        assert run.returncode == 2, run.stderr
        assert "more files may be open here, of 20 (raise the limit: ulimit -n 1024)" in run.stderr
    assert not (tmp_path / ".batcher").exists()
