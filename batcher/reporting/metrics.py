"""A file for Prometheus: what the last run, and the last collect, came to, for the textfile collector of node_exporter.

In: a command's report and where it ran. Out: the file, all of it or none: it is written beside and then renamed. Called by
the command line when `run` or `collect` has ended. The moment of the last success, and what the other command had said, are
carried over from the file that it replaces.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ..core.model import SANDBOX

READ_BYTES: Final = 1 << 20  # of the file before this one; ours have some 4 kB
SUCCESS: Final = "batcher_last_success_timestamp_seconds"
STATES: Final = {
    "flows": ("started", "pending", "failed"), "inputs": ("uploaded", "pending", "failed"),
    "outputs": ("collected", "pending", "failed", "missing"),
    "ends": ("running", "completed", "failed", "aborted", "unknown", "deleted"),
}  # fmt: skip
STATES_OF: Final = {
    "flows": "The manifest's flows by their state.", "inputs": "The manifest's inputs by their state.",
    "outputs": "Outputs that the service has listed, by their state; missing: inputs of completed flows without one.",
    "ends": "Started flows by what the service says of them; deleted: those of the completed ones that were deleted there.",
}  # fmt: skip
ONE_OF: Final = {  # of the report, by group and name
    "batcher_flows_changed": ("flows", "changed", "Flows that changed after they were started."),
    "batcher_input_bytes": ("inputs", "bytes", "Bytes of the sources that are uploaded, not encoded."),
    "batcher_output_bytes": ("outputs", "bytes", "Bytes of the outputs that are collected."),
    "batcher_last_run_flows_started": ("flows", "started_now", "Flows that the last run started."),
    "batcher_last_run_inputs_uploaded": ("inputs", "uploaded_now", "Inputs that the last run uploaded."),
    "batcher_last_run_input_bytes": ("inputs", "bytes_now", "Bytes of the sources that the last run uploaded."),
    "batcher_last_run_outputs_collected": ("outputs", "collected_now", "Outputs that the last run collected."),
    "batcher_last_run_output_bytes": ("outputs", "bytes_now", "Bytes of the outputs that the last run collected."),
}


@dataclass(frozen=True, slots=True)
class _Sample:
    name: str
    about: str
    labels: Mapping[str, str]
    value: float


def write_metrics(
    path: Path, command: str, manifest: str, batch: str, endpoint: str, report: Mapping[str, Any], now: float
) -> None:
    """Replace the file at `path`; what it says of other commands on this batch stays. `manifest` is an absolute path; `now` in
    seconds since 1970; counts that `report` does not have, because the command ended before it knew them, or does not look at
    them, are left out. Raises OSError."""
    labels = {"command": command, "manifest": manifest, "batch": batch, "endpoint": _host(endpoint)}
    others, success = [], None
    for sample in _earlier(path, labels):
        if sample.labels["command"] != command:
            others.append(sample)
        elif sample.name == SUCCESS:
            success = sample.value
    if report["exit_code"] == 0:
        success = now
    samples = [*_samples(labels, report, now, success), *others]
    _replace(path, _text(samples))


def _samples(labels: Mapping[str, str], report: Mapping[str, Any], now: float, success: float | None) -> Iterator[_Sample]:
    yield _Sample("batcher_last_run_exit_code", "The exit code of the last run.", labels, report["exit_code"])
    yield _Sample("batcher_last_run_timestamp_seconds", "When the last run ended.", labels, now)
    yield _Sample("batcher_last_run_duration_seconds", "How long the last run took.", labels, report["elapsed_s"])
    if success is not None:
        yield _Sample(SUCCESS, "When a run last ended with 0.", labels, success)
    for group, states in STATES.items():
        counts = report.get(group)
        if counts is not None:
            if group == "outputs":
                counts = counts | {"pending": max(0, counts["total"] - counts["collected"] - counts["failed"])}
            for state in states:
                yield _Sample(f"batcher_{group}", STATES_OF[group], {**labels, "state": state}, counts[state])
    for name, (group, member, what) in ONE_OF.items():
        if group in report:
            yield _Sample(name, what, labels, report[group][member])
    for kind, count in report.get("requests", {}).items():
        what = "Requests of the last run: sent; of these retried; told to slow down."
        yield _Sample("batcher_last_run_requests", what, {**labels, "kind": kind}, count)
    if "problems_total" in report:
        yield _Sample("batcher_last_run_problems", "Problems of the last run.", labels, report["problems_total"])


def _text(samples: Iterable[_Sample]) -> bytes:
    registry = CollectorRegistry()
    gauges: dict[str, Gauge] = {}
    for sample in samples:
        if sample.name not in gauges:
            gauges[sample.name] = Gauge(sample.name, sample.about, list(sample.labels), registry=registry)
        gauges[sample.name].labels(**sample.labels).set(sample.value)
    return generate_latest(registry)


def _host(endpoint: str) -> str:
    return endpoint if endpoint == SANDBOX else urlsplit(endpoint).netloc


def _earlier(path: Path, labels: Mapping[str, str]) -> list[_Sample]:
    """What the file that is there says of this batch; nothing where it does not tell. Without a command it is of `run`."""
    found: list[_Sample] = []
    names = set(labels) | {"state", "kind"}
    try:
        with path.open("rb") as file:
            text = file.read(READ_BYTES).decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                of = {"command": "run", **sample.labels}
                ours = sample.name.startswith("batcher_") and set(of) <= names
                if ours and labels.items() <= ({**of, "command": labels["command"]}).items():
                    found.append(_Sample(sample.name, family.documentation, of, float(sample.value)))
    except (OSError, ValueError, KeyError, IndexError):
        return []  # there is none yet, or it is not ours
    return found


def _replace(path: Path, content: bytes) -> None:
    path = path.resolve()  # a link stays a link
    part = path.with_name(f".{path.name}.{os.getpid()}.part")  # node_exporter reads *.prom only
    try:
        with part.open("wb") as file:
            os.fchmod(file.fileno(), 0o644)  # the collector is another user
            file.write(content)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
