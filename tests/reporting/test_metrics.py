"""The file for Prometheus: what it says, who may read it, and that it is whole at any time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from batcher.core.model import Problem
from batcher.core.report import EndCounts, OutputCounts, Report
from batcher.reporting.metrics import write_metrics


def read(path: Path, command: str = "run") -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(path.read_text()):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("manifest") == '/a "b"\\c.yaml'
            assert (labels.pop("batch"), labels.pop("endpoint")) == ("b", "flows.generio.ai:8443")
            if labels.pop("command") == command:
                found[" ".join([sample.name, *labels.values()])] = sample.value
    return found


def write(path: Path, report: dict, now: float, command: str = "run") -> dict[str, float]:
    write_metrics(path, command, '/a "b"\\c.yaml', "b", "https://flows.generio.ai:8443/v1", report, now)
    return read(path, command)


def test_a_failure_keeps_the_moment_of_the_last_success(tmp_path: Path) -> None:
    path = tmp_path / "m.prom"
    report = Report("m", "e", elapsed_s=1.5)
    report.flows.total, report.flows.started, report.flows.pending = 3, 2, 1
    report.inputs.bytes, report.requests.throttled = 7, 4
    before = os.umask(0o077)
    try:
        first = write(path, report.json(), 1000.25)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644, "the collector is another user"
    assert (first["batcher_last_run_exit_code"], first["batcher_last_run_duration_seconds"]) == (0, 1.5)
    assert first["batcher_last_success_timestamp_seconds"] == first["batcher_last_run_timestamp_seconds"] == 1000.25
    assert [first[f"batcher_flows {state}"] for state in ("started", "pending", "failed")] == [2, 1, 0]
    assert (first["batcher_input_bytes"], first["batcher_last_run_requests throttled"]) == (7, 4)
    report.add(Problem("refused", "no"))
    second = write(path, report.json(), 2000.0)
    assert (second["batcher_last_run_exit_code"], second["batcher_last_run_problems"]) == (3, 1)
    assert (second["batcher_last_success_timestamp_seconds"], second["batcher_last_run_timestamp_seconds"]) == (1000.25, 2000)
    third = write(path, {"exit_code": 2, "elapsed_s": 0.1}, 3000.0)
    assert third["batcher_last_success_timestamp_seconds"] == 1000.25
    assert "batcher_flows started" not in third, "what is not known is not said"
    assert [item.name for item in tmp_path.iterdir()] == ["m.prom"]


def test_a_collect_says_what_became_of_outputs_and_leaves_what_run_had_said(tmp_path: Path) -> None:
    path = tmp_path / "m.prom"
    report = Report("m", "e")
    report.flows.total = report.flows.started = 2
    write(path, report.json() | {"exit_code": 5}, 1000.0)
    report.outputs, report.ends = OutputCounts(total=5, collected=3, failed=1, bytes=70, missing=2), EndCounts(
        completed=1, failed=1, deleted=1)
    without_inputs = {name: value for name, value in report.json().items() if name != "inputs"}
    collected = write(path, without_inputs, 2000.0, "collect")
    assert [collected[f"batcher_outputs {state}"] for state in ("collected", "pending", "failed", "missing")] == [3, 1, 1, 2]
    assert [collected[f"batcher_ends {state}"] for state in ("completed", "failed", "running", "deleted")] == [1, 1, 0, 1]
    assert (collected["batcher_output_bytes"], collected["batcher_last_success_timestamp_seconds"]) == (70, 2000)
    assert not [name for name in collected if "input" in name], "what it does not look at is not said to be nothing"
    run = read(path)
    assert run["batcher_last_run_exit_code"] == 5, "a collect that went well hides no run that did not"
    assert "batcher_last_success_timestamp_seconds" not in run
    again = write(path, report.json(), 3000.0)
    assert (again["batcher_last_success_timestamp_seconds"], again["batcher_outputs collected"]) == (3000, 3)
    assert read(path, "collect") == collected


def test_a_file_of_an_older_batcher_was_of_runs(tmp_path: Path) -> None:
    path = tmp_path / "m.prom"
    write(path, {"exit_code": 0, "elapsed_s": 1}, 1000.0)
    path.write_text(path.read_text().replace('command="run",', ""))
    assert write(path, {"exit_code": 5, "elapsed_s": 1}, 2000.0)["batcher_last_success_timestamp_seconds"] == 1000


@pytest.mark.parametrize("before", [b"", b"\xff\xfe", b"batcher_last_success_timestamp_seconds{", b"x" * 5000])
def test_a_file_that_is_none_of_ours_is_replaced(tmp_path: Path, before: bytes) -> None:
    path = tmp_path / "m.prom"
    path.write_bytes(before)
    found = write(path, {"exit_code": 7, "elapsed_s": 0.1}, 5.0)
    assert "batcher_last_success_timestamp_seconds" not in found
    assert found["batcher_last_run_exit_code"] == 7


LOOP = """
import sys
from pathlib import Path
from batcher.reporting.metrics import write_metrics
while True:
    report = {"exit_code": 0, "elapsed_s": 1}
    write_metrics(Path(sys.argv[1]), "run", '/a "b"\\\\c.yaml', "b", "https://flows.generio.ai:8443", report, 1.0)
    print(flush=True)
"""


def test_a_kill_leaves_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "m.prom"
    for attempt in range(3):
        with subprocess.Popen([sys.executable, "-c", LOOP, str(path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.003 * attempt)
            process.send_signal(signal.SIGKILL)
        assert len(read(path)) == 4
    assert not [item for item in tmp_path.iterdir() if item != path and item.suffix == ".prom"]


def test_a_folder_that_is_not_there_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        write(tmp_path / "none" / "m.prom", {"exit_code": 0, "elapsed_s": 0.1}, 5.0)
