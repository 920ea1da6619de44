"""What a process says when it cannot speak: a full or closed stdout, a log that cannot be written, an early signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from e2e.conftest import Service, batcher, begin, environment, service, write_batch

pytestmark = pytest.mark.slow

__all__ = ["service"]


def test_output_that_cannot_be_written_is_said_and_the_batch_goes_on(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 2)
    words = [sys.executable, "-m", "batcher", "run", "m.yaml", "--endpoint", service.url]
    with open("/dev/full", "wb") as full:
        result = subprocess.run(words, cwd=tmp_path, env=environment(), stdout=full, stderr=subprocess.PIPE, timeout=50,
                                check=False)  # fmt: skip
    assert (result.returncode, result.stderr) == (0, b"batcher: the output cannot be written: No space left on device\n")
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run([*words, "--json"], cwd=tmp_path, env=environment(), stdout=writer, stderr=subprocess.PIPE,
                            timeout=50, check=False)  # fmt: skip
    os.close(writer)
    assert (result.returncode, result.stderr) == (0, b""), "a reader that has seen enough is no trouble"
    logged = batcher(tmp_path, *words[3:], "--log-file", "/dev/full")
    told = "batcher: the log /dev/full cannot be written: No space left on device; the run goes on without\n"
    assert (logged.returncode, logged.stderr) == (0, told), "once, however many lines are lost"
    lost = batcher(tmp_path, *words[3:], "--log-file", "/none/such")
    assert lost.returncode == 2
    assert "--log-file /none/such cannot be written" in lost.stderr


@pytest.mark.parametrize("after", [0.05, 0.15, 0.3])
def test_interrupt_at_any_time_has_its_code(service: Service, tmp_path: Path, after: float) -> None:
    """Also before the run listens for it. (While the interpreter itself begins, the signal is Python's.)"""
    write_batch(tmp_path, 4, 20)
    service.order("*:latency=100ms")
    process = begin(tmp_path, "run", "m.yaml", "--endpoint", service.url, "--concurrency", "1")
    journal = tmp_path / ".batcher"
    while not journal.exists() and process.poll() is None:
        time.sleep(0.005)
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
