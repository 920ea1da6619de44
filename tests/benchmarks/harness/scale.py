"""A million inputs: time to plan, to the first request, to send it all, to see that all is done; and the memory.

In: scales (numbers of inputs). Out: one `Part`. Called by bench.py.
Two shapes: a table whose rows are flows of ten inputs, and one flow per file (a fifth as many: 200,000 files are
many already). Planning and resuming are measured `runs` times, sending once: it takes minutes.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from .process import Launched, Usage
from .results import Part, Target, number, spread
from .server import BenchError, FlowsServer, Stats
from .setting import Setting
from .workload import COLUMNS, KB, Work, make_files, write_manifest, write_table_manifest

TABLE, GLOB = "table, 10 inputs per flow", "one flow per file"
SHARED_FILES = 100  # that the rows of the table name
RSS_LIMIT_MIB = 160  # for a manifest of RSS_SCALE inputs
RSS_SCALE = 1_000_000
TIMEOUT_S = 7200  # of sending everything
GLOB_SHARE = 5


@dataclass(frozen=True, slots=True)
class Scaled:
    """What one shape took at one scale."""

    shape: str
    inputs: int
    flows: int
    plan_s: list[float]
    first_request_s: float
    first_upload_s: float
    send_s: float
    resume_s: list[float]
    plan_rss_mib: float
    send_rss_mib: float
    resume_rss_mib: float

    @property
    def rss_mib(self) -> float:
        return max(self.plan_rss_mib, self.send_rss_mib, self.resume_rss_mib)


def scale(setting: Setting) -> Part:
    found = [_measure(setting, shape, inputs) for shape in (TABLE, GLOB) for inputs in setting.scales]
    header = ["manifest", "inputs", "flows", "plan s", "first request s", "first upload s", "all sent s", "inputs/s"]
    part = Part("scale", "Scale", [*header, "resume s", "RSS MiB: plan", "send", "resume"])
    for it in found:
        times = [spread(it.plan_s), number(it.first_request_s), number(it.first_upload_s), number(it.send_s)]
        memory = [f"{rss:.0f}" for rss in (it.plan_rss_mib, it.send_rss_mib, it.resume_rss_mib)]
        counts = [f"{it.inputs:,}", f"{it.flows:,}"]
        part.rows.append([it.shape, *counts, *times, number(it.inputs / it.send_s), spread(it.resume_s), *memory])
        if it.shape == TABLE and it.inputs >= RSS_SCALE:
            what = f"peak RSS, manifest of {it.inputs:,} inputs"
            part.targets.append(Target.at_most(4, what, RSS_LIMIT_MIB, it.rss_mib, " MiB"))
    for shape in (TABLE, GLOB):
        steps = [it for it in found if it.shape == shape]
        small, large = steps[0], steps[-1]
        for what, growth in _growth(small, large).items():
            promise = f"{shape}, {what}: growth from {small.inputs:,} to {large.inputs:,}"
            part.targets.append(Target.at_most(7, promise, large.inputs / small.inputs, growth, " ×"))
        if len(steps) > 2:
            last = ", ".join(f"{what} × {number(growth)}" for what, growth in _growth(steps[-2], large).items())
            part.notes.append(f"{shape}, the last step ({steps[-2].inputs:,} to {large.inputs:,}): {last}.")
    part.notes.append("The last step by itself, because start-up, which does not grow, flatters the whole way.")
    part.notes.append("Planning and resuming: medians; sending: one run. The first request may be of any kind.")
    part.data = {"found": [asdict(it) for it in found]}
    return part


def _growth(small: Scaled, large: Scaled) -> dict[str, float]:
    """How many times as long the larger one took; empty if they are one. Linear is the ratio of their inputs."""
    times: dict[str, Callable[[Scaled], float]] = {
        "plan": lambda it: statistics.median(it.plan_s),
        "first request": lambda it: it.first_request_s,
        "all sent": lambda it: it.send_s,
        "resume": lambda it: statistics.median(it.resume_s),
    }
    return {} if small is large else {what: time(large) / time(small) for what, time in times.items()}


def _measure(setting: Setting, shape: str, scale_inputs: int) -> Scaled:
    with setting.folder("scale") as folder, FlowsServer() as server:
        (folder / "files").mkdir()
        if shape == TABLE:
            work = Work(scale_inputs, scale_inputs // len(COLUMNS), KB)
            make_files(folder / "files", KB, SHARED_FILES)
            manifest = write_table_manifest(folder, work.flows, SHARED_FILES)
        else:
            work = Work(scale_inputs // GLOB_SHARE, scale_inputs // GLOB_SHARE, KB)
            make_files(folder / "files", KB, work.inputs)
            manifest = write_manifest(folder, flow_per_file=True)
        plan = setting.plan_command(manifest, server.url, folder / "state")
        run = setting.run_command(manifest, server.url, folder / "state")

        plans = [_measure_one(plan, folder) for _ in range(setting.runs)]
        _check_unwritten(server.stats())
        server.reset()
        sending = _measure_one(run, folder)
        sent = server.stats()
        work.check(sent, f"batcher, {shape}, {work.inputs:,} inputs")
        resumes = [_measure_one(run, folder) for _ in range(setting.runs)]
        work.check(server.stats(), f"batcher resuming, {shape}, {work.inputs:,} inputs")
    return Scaled(
        shape=shape,
        inputs=work.inputs,
        flows=work.flows,
        plan_s=[usage.wall_s for usage in plans],
        first_request_s=sent.first_request_s - sending.began_s,
        first_upload_s=sent.first_upload_s - sending.began_s,
        send_s=sending.wall_s,
        resume_s=[usage.wall_s for usage in resumes],
        plan_rss_mib=max(usage.rss_mib for usage in plans),
        send_rss_mib=sending.rss_mib,
        resume_rss_mib=max(usage.rss_mib for usage in resumes),
    )


def _measure_one(command: list[str], folder: Path) -> Usage:
    launched = Launched(command, folder)
    try:
        return launched.wait(TIMEOUT_S)
    finally:
        launched.stop()


def _check_unwritten(stats: Stats) -> None:
    if any(stats.by_kind[kind] for kind in ("create", "upload", "start", "delete")):
        raise BenchError("batcher plan wrote to the service")
