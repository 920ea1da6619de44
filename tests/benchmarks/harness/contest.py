"""Several clients, the same work, run by turns: A B C A B C …, so that a machine that drifts drifts for all.

In: contestants and a server. Out: per contestant its `Sample`s, each checked against what the server saw.
Called by the parts that compare.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .process import measure
from .server import BenchError, FlowsServer
from .setting import Setting
from .workload import Work


@dataclass(frozen=True, slots=True)
class Contestant:
    name: str
    work: Work
    command: Callable[[Path], list[str]]  # given a folder that is fresh for this run
    inspect: Callable[[Path], None] = lambda _folder: None  # raises BenchError if the run was not what it claims


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one contestant."""

    per_s: float  # inputs; where each file is a flow, that is flows too
    mb_per_s: float  # 10^6 bytes of source files
    cpu_s_per_gb: float
    rss_mib: float
    server_busy: float  # share of one core that the server took: well under 1, or the server was the bottleneck

    def as_json(self) -> dict[str, float]:
        return asdict(self)


def compete(setting: Setting, server: FlowsServer, contestants: Iterable[Contestant]) -> dict[str, list[Sample]]:
    """Raises BenchError if a contestant did not do all of its work."""
    everyone = list(contestants)
    samples: dict[str, list[Sample]] = {contestant.name: [] for contestant in everyone}
    for _ in range(setting.runs):
        for contestant in everyone:
            samples[contestant.name].append(_run(setting, server, contestant))
    return samples


def _run(setting: Setting, server: FlowsServer, contestant: Contestant) -> Sample:
    server.reset()
    with setting.folder("run") as folder:
        try:
            usage = measure(contestant.command(folder), folder)
        except BenchError as error:
            raise BenchError(f"{contestant.name}: {error}") from None
        stats = server.stats()
        contestant.work.check(stats, contestant.name)
        contestant.inspect(folder)
    work = contestant.work
    return Sample(
        per_s=work.inputs / usage.wall_s,
        mb_per_s=work.source_bytes / usage.wall_s / 1e6,
        cpu_s_per_gb=usage.cpu_s / (work.source_bytes / 1e9),
        rss_mib=usage.rss_mib,
        server_busy=stats.cpu_s / usage.wall_s,
    )


def ratios(samples: Mapping[str, list[Sample]], of: str, to: str) -> list[float]:
    """How many times as fast, round by round."""
    return [one.per_s / other.per_s for one, other in zip(samples[of], samples[to], strict=True)]


def ratio(samples: Mapping[str, list[Sample]], of: str, to: str) -> float:
    """The median over the rounds."""
    return statistics.median(ratios(samples, of, to))


def peak_rss_mib(samples: Iterable[Sample]) -> float:
    return max(sample.rss_mib for sample in samples)


def median(samples: Iterable[Sample], figure: str) -> float:
    return float(statistics.median(getattr(sample, figure) for sample in samples))


def as_json(samples: Mapping[str, list[Sample]]) -> dict[str, Any]:
    return {name: [sample.as_json() for sample in runs] for name, runs in samples.items()}
