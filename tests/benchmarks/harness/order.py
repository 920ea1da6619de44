"""What is begun first is finished first: when the first flow is started, and how many are open at a time.

In: `CASES`. Out: one `Part`. Called by bench.py. Start-up is what the same run takes to its first start where the service
answers at once; what the latency adds to that is told in latencies.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass

from .process import measure
from .results import Part, Target, number, spread
from .server import FlowsServer
from .setting import Setting
from .workload import KB, Work, make_files, write_table_manifest

FLOWS = 1_000
LATENCY_MS = 50
LATENCIES_WANTED = 8  # templates, flows, create, flows again (the list proof), upload, inputs, start; and one to spare


@dataclass(frozen=True, slots=True)
class Case:
    """`flags` of the run; `inputs` of each flow."""

    label: str
    inputs: int = 1
    flags: tuple[str, ...] = ()
    concurrency: int = 16


NO_LATENCY = Case("16 in flight, no latency")
CASES = (
    Case("16 in flight"),
    Case("64 in flight", concurrency=64),
    Case("16 in flight, flows of ten inputs", inputs=10),
    Case("--rate 60/s", flags=("--rate", "60/s")),
)


@dataclass(frozen=True, slots=True)
class _Sample:
    first_start_s: float  # after the process was begun
    max_open_flows: int
    wall_s: float


def order(setting: Setting) -> Part:
    flows = FLOWS // 10 if setting.quick else FLOWS
    header = ["case", "first start s", "latencies after start-up", "flows open at most", "whole run s"]
    part = Part("order", f"{flows:,} flows of 1 KB inputs at {LATENCY_MS} ms", header)
    samples: dict[str, list[_Sample]] = {case.label: [] for case in (NO_LATENCY, *CASES)}
    with FlowsServer(latency_ms=LATENCY_MS) as server, FlowsServer() as quick:
        for _ in range(setting.runs):
            samples[NO_LATENCY.label].append(_run(setting, quick, NO_LATENCY, flows))
            for case in CASES:
                samples[case.label].append(_run(setting, server, case, flows))
    start_up = [run.first_start_s for run in samples[NO_LATENCY.label]]
    latencies = {label: [1000 * (run.first_start_s - up) / LATENCY_MS for run, up in zip(runs, start_up, strict=True)]
                 for label, runs in samples.items()}  # fmt: skip
    for label, runs in samples.items():
        part.rows.append([
            label, spread([run.first_start_s for run in runs]), spread(latencies[label]),
            number(max(run.max_open_flows for run in runs)), spread([run.wall_s for run in runs]),
        ])  # fmt: skip
    first = statistics.median(latencies[CASES[0].label])
    part.targets.append(Target.at_most(9, "first flow started, latencies after start-up", LATENCIES_WANTED, first))
    part.data = {label: [asdict(run) for run in runs] for label, runs in samples.items()}
    return part


def _run(setting: Setting, server: FlowsServer, case: Case, flows: int) -> _Sample:
    if case.flags:
        flows = min(flows, FLOWS // 10)  # a rate takes its time
    work = Work(flows * case.inputs, flows, KB)
    server.reset()
    with setting.folder("order") as folder:
        (folder / "files").mkdir()
        make_files(folder / "files", KB, work.inputs)
        manifest = write_table_manifest(folder, flows, work.inputs, case.inputs)
        command = setting.run_command(manifest, server.url, folder / "state", *case.flags, concurrency=case.concurrency)
        usage = measure(command, folder)
        stats = server.stats()
        work.check(stats, "batcher")
    return _Sample(stats.first_start_s - usage.began_s, stats.max_open_flows, usage.wall_s)
