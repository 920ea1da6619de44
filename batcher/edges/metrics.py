"""A file for Prometheus: what the last run came to, for the textfile collector of node_exporter.

In: a run's report and where it ran. Out: the file, all of it or none: it is written beside and then renamed. Called by the
command line when a run has ended. The moment of the last success is carried over from the file that it replaces.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ..core.model import JSON, SANDBOX

READ_BYTES: Final = 1 << 20  # of the file before this one; ours have some 4 kB
SUCCESS: Final = "batcher_last_success_timestamp_seconds"
STATES: Final = {"flows": ("started", "pending", "failed"), "inputs": ("uploaded", "pending", "failed")}
ONE_OF: Final = {  # of the report, by group and name
    "batcher_flows_changed": ("flows", "changed", "Flows that changed after they were started."),
    "batcher_input_bytes": ("inputs", "bytes", "Bytes of the sources that are uploaded, not encoded."),
    "batcher_last_run_flows_started": ("flows", "started_now", "Flows that the last run started."),
    "batcher_last_run_inputs_uploaded": ("inputs", "uploaded_now", "Inputs that the last run uploaded."),
    "batcher_last_run_input_bytes": ("inputs", "bytes_now", "Bytes of the sources that the last run uploaded."),
}


def write_metrics(path: Path, manifest: str, batch: str, endpoint: str, report: Mapping[str, Any], now: float) -> None:
    """Replace the file at `path`. `manifest` is an absolute path; `now` in seconds since 1970; counts that `report` does not
    have, because the run ended before it knew them, are left out. Raises OSError."""
    labels = {"manifest": manifest, "batch": batch, "endpoint": _host(endpoint)}
    registry = CollectorRegistry()

    def gauge(name: str, what: str, value: float) -> None:
        Gauge(name, what, list(labels), registry=registry).labels(**labels).set(value)

    def gauges(name: str, what: str, label: str, values: Mapping[str, float]) -> None:
        made = Gauge(name, what, [*labels, label], registry=registry)
        for key, value in values.items():
            made.labels(**labels, **{label: key}).set(value)

    code = report["exit_code"]
    gauge("batcher_last_run_exit_code", "The exit code of the last run.", code)
    gauge("batcher_last_run_timestamp_seconds", "When the last run ended.", now)
    gauge("batcher_last_run_duration_seconds", "How long the last run took.", report["elapsed_s"])
    success = now if code == 0 else _last_success(path, labels)
    if success is not None:
        gauge(SUCCESS, "When a run last ended with 0.", success)
    if "flows" in report:
        for group, states in STATES.items():
            counts = {state: report[group][state] for state in states}
            gauges(f"batcher_{group}", f"The manifest's {group} by their state.", "state", counts)
        for name, (group, member, what) in ONE_OF.items():
            gauge(name, what, report[group][member])
        what = "Requests of the last run: sent; of these retried; told to slow down."
        gauges("batcher_last_run_requests", what, "kind", report["requests"])
        gauge("batcher_last_run_problems", "Problems of the last run.", report["problems_total"])
    _replace(path, generate_latest(registry))


def _host(endpoint: str) -> JSON:
    return endpoint if endpoint == SANDBOX else urlsplit(endpoint).netloc


def _last_success(path: Path, labels: Mapping[str, JSON]) -> float | None:
    """From the file that is there; None where it does not tell."""
    try:
        with path.open("rb") as file:
            text = file.read(READ_BYTES).decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == SUCCESS and sample.labels == labels:
                    return float(sample.value)
    except (OSError, ValueError, KeyError, IndexError):
        return None  # there is none yet, or it is not ours
    return None


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
