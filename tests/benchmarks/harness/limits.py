"""Limits over time: the adaptive one against a capacity that moves, and the caps on rate and bandwidth.

In: the server's timeline, counts per 100 ms. Out: two `Part`s. Called by bench.py.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from .process import Launched
from .results import Part, Target, number
from .server import FlowsServer, Timeline
from .setting import Setting
from .workload import KB, MB, Work, data_length, make_files, write_manifest

# ---- the adaptive limit ----

CAPACITIES = (8, 32, 4)  # requests that the service works on at a time, one phase each
SERVICE_MS = 50  # per request, so that capacity 8 allows 160/s
SETTLE_S = 10  # after each move; then as long again is measured
CONCURRENCY = 64  # above every capacity: only the adaptive limit can hold back
OPEN_CAPACITY = 1000  # after the last phase, so that the run ends and its work can be checked
MODES = {"503": "beyond it 503", "queue": "beyond it they queue"}


@dataclass(frozen=True, slots=True)
class Phase:
    capacity: int
    begins_s: float
    ends_s: float
    share: float  # of what the capacity allows, accepted once settled
    refused_share: float  # of all requests of the phase


def adaptive(setting: Setting) -> Part:
    part = Part(
        "adaptive",
        f"A capacity that moves: {', then '.join(map(str, CAPACITIES))} requests of {SERVICE_MS} ms at a time",
        ["service", *(f"share at {capacity}" for capacity in CAPACITIES), "refused"],
    )
    settle_s = 4.0 if setting.quick else SETTLE_S
    with setting.folder("adaptive") as folder:
        work = _allowed_work(2 * settle_s)
        manifest = _prepare(folder, work)
        runs: dict[str, list[Timeline]] = {mode: [] for mode in MODES}
        for _ in range(setting.runs):
            for mode in MODES:
                runs[mode].append(_run_adaptive(setting, manifest, work, mode, 2 * settle_s))
    for mode, timelines in runs.items():
        found = [_phases(timeline, settle_s) for timeline in timelines]
        shares = [statistics.median(phase.share for phase in same) for same in zip(*found, strict=True)]
        refused = statistics.median(_refused_share(timeline, found[0][-1].ends_s) for timeline in timelines)
        part.rows.append([MODES[mode], *(f"{100 * share:.0f} %" for share in shares), f"{100 * refused:.1f} %"])
        part.targets += [
            Target.at_least(9, f"{MODES[mode]}: share of capacity {capacity}, settled", 0.85, share)
            for capacity, share in zip(CAPACITIES, shares, strict=True)
        ]
        part.targets.append(Target.at_most(9, f"{MODES[mode]}: refused", 5, 100 * refused, " %"))
        part.data[mode] = {
            "timelines": [asdict(timeline) for timeline in timelines],
            "phases": [[asdict(phase) for phase in phases] for phases in found],
        }
    part.data |= {"service_ms": SERVICE_MS, "settle_s": settle_s}
    part.notes.append(
        f"{CONCURRENCY} in flight at most, 1 KB inputs; each phase lasts {2 * settle_s:g} s, its share is taken over "
        f"the last {settle_s:g} s; refused: of all requests, settling included. Medians of {setting.runs}."
    )
    return part


def _allowed_work(phase_s: float) -> Work:
    """A little more than the phases allow, so that there is work until the last of them ends."""
    allowed = sum(capacity * phase_s / (SERVICE_MS / 1000) for capacity in CAPACITIES)
    return Work(inputs=int(1.02 * allowed), flows=1, size_bytes=KB)


def _run_adaptive(setting: Setting, manifest: Path, work: Work, mode: str, phase_s: float) -> Timeline:
    with (
        setting.folder("run") as folder,
        FlowsServer(latency_ms=SERVICE_MS, capacity=CAPACITIES[0], mode=mode) as server,
    ):
        command = setting.run_command(manifest, server.url, folder / "state", concurrency=CONCURRENCY)
        launched = Launched(command, folder)
        try:
            began_s = server.wait_for(lambda stats: stats.requests > 0, timeout_s=30).first_request_s
            for number_, capacity in enumerate((*CAPACITIES[1:], OPEN_CAPACITY), 1):
                time.sleep(max(0.0, began_s + number_ * phase_s - time.monotonic()))
                server.set_capacity(capacity, mode)
            launched.wait()
        finally:
            launched.stop()
        work.check(server.stats(), f"batcher, capacity that moves ({mode})")
        return server.timeline()


def _phases(timeline: Timeline, settle_s: float) -> list[Phase]:
    bounds = [0.0, *(at_s for at_s, _ in timeline.moves)]
    phases = []
    for capacity, begins_s, ends_s in zip(CAPACITIES, bounds, bounds[1:], strict=False):
        settled_s = begins_s + settle_s
        allowed = capacity / (SERVICE_MS / 1000) * (ends_s - settled_s)
        accepted, refused = (_count(series, timeline, begins_s, ends_s) for series in (timeline.accepted, timeline.refused))
        phases.append(
            Phase(
                capacity=capacity,
                begins_s=begins_s,
                ends_s=ends_s,
                share=_count(timeline.accepted, timeline, settled_s, ends_s) / allowed,
                refused_share=refused / max(1.0, accepted + refused),
            )
        )
    return phases


def _refused_share(timeline: Timeline, until_s: float) -> float:
    refused = _count(timeline.refused, timeline, 0, until_s)
    return refused / max(1.0, refused + _count(timeline.accepted, timeline, 0, until_s))


def _count(series: list[int], timeline: Timeline, begins_s: float, ends_s: float) -> float:
    """Sum over a stretch of time; a bucket that lies partly in it counts in proportion."""
    width_s = timeline.bucket_ms / 1000
    return sum(
        count * max(0.0, min(ends_s, (bucket + 1) * width_s) - max(begins_s, bucket * width_s)) / width_s
        for bucket, count in enumerate(series)
    )


# ---- the caps ----

CAP_S = 10  # how long a cap is watched, from the first upload on
TOLERANCE = 0.05
BURST = 1.10  # the most that any one second may hold, against the cap: one second is short, 100 ms buckets are coarse


@dataclass(frozen=True, slots=True)
class Cap:
    flag: str
    value: str
    per_s: float
    size_bytes: int
    series: Callable[[Timeline], list[int]]

    def work(self, seconds: float) -> Work:
        per_input = data_length(self.size_bytes) if self.flag == "--bandwidth" else 1
        return Work(inputs=int(self.per_s * seconds / per_input) + 1, flows=1, size_bytes=self.size_bytes)


CAPS = (
    Cap("--rate", "200/s", 200, KB, lambda timeline: timeline.arrived),
    Cap("--rate", "20/s", 20, KB, lambda timeline: timeline.arrived),
    Cap("--bandwidth", "20MB/s", 20e6, MB, lambda timeline: timeline.bytes),
    Cap("--bandwidth", "2MB/s", 2e6, 100 * KB, lambda timeline: timeline.bytes),
)


def caps(setting: Setting) -> Part:
    part = Part("caps", "Caps", ["cap", "input", f"over {CAP_S} s, × cap", "fullest second, × cap"])
    for cap in CAPS:
        held, fullest = [], []
        for _ in range(setting.runs):
            timeline, first_upload_s = _run_capped(setting, cap)
            series = cap.series(timeline)
            held.append(_count(series, timeline, first_upload_s, first_upload_s + CAP_S) / (CAP_S * cap.per_s))
            second = 1000 // timeline.bucket_ms
            fullest.append(max(sum(series[at : at + second]) for at in range(len(series))) / cap.per_s)
        what = f"{cap.flag} {cap.value}"
        median = statistics.median(held)
        part.rows.append([what, f"{cap.size_bytes // KB:,} KB", number(median), number(max(fullest))])
        part.targets.append(Target.between(9, f"{what} over {CAP_S} s", 1 - TOLERANCE, 1 + TOLERANCE, median))
        part.targets.append(Target.at_most(9, f"{what}, fullest second", BURST, statistics.median(fullest)))
        part.data[what] = {"held": held, "fullest_second": fullest}
    part.notes.append("Rate: requests of every kind as they arrive; bandwidth: bytes of request bodies as they arrive.")
    return part


def _run_capped(setting: Setting, cap: Cap) -> tuple[Timeline, float]:
    """The timeline, and the first upload in its seconds."""
    work = cap.work(1.2 * CAP_S)
    with setting.folder("caps") as folder, FlowsServer() as server:
        manifest = _prepare(folder, work)
        launched = Launched(setting.run_command(manifest, server.url, folder / "state", cap.flag, cap.value), folder)
        try:
            launched.wait()
        finally:
            launched.stop()
        stats = server.stats()
        work.check(stats, f"batcher {cap.flag} {cap.value}")
        return server.timeline(), stats.first_upload_s - stats.first_request_s


def _prepare(folder: Path, work: Work) -> Path:
    (folder / "files").mkdir()
    make_files(folder / "files", work.size_bytes, work.inputs)
    return write_manifest(folder, flow_per_file=False)
