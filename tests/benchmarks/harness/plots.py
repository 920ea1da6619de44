"""Pictures for docs/performance.md, drawn from recorded results: speed and memory by size, and the adaptive limit over time.

In: parts as results.py keeps them. Out: PNG files. Called by bench.py, after everything is measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .results import Part, number
from .throughput import AIOHTTP, BATCHER, CASES, CURL, HTTPX, LOOP, RSS_LIMIT_MIB, THREADS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CLIENTS = [LOOP, THREADS, HTTPX, AIOHTTP, CURL, BATCHER]
COLOURS = {
    LOOP: "#c9ced6",
    THREADS: "#aab2bd",
    HTTPX: "#8b95a3",
    AIOHTTP: "#6c7787",
    CURL: "#e0a458",
    BATCHER: "#1f6feb",
}
INK, FAINT, ALARM = "#24292f", "#e6e8eb", "#d1495b"
STYLE = {
    "font.size": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "text.color": INK,
    "figure.dpi": 150,
    "savefig.bbox": "tight",
    "savefig.facecolor": "white",
}
SMOOTH = 10  # buckets: one second


def draw(parts: list[Part], target: Path) -> list[Path]:
    """Writes what the parts allow for: `target`, and beside it `…-adaptive.png`. ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    by_name = {part.name: part for part in parts}
    sizes = [by_name[name] for name in CASES if name in by_name and name != "flows"]
    written = []
    with plt.rc_context(STYLE):
        if sizes:
            figure, (speed, memory) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
            _bars(speed, sizes, "mb_per_s", statistics.median, "Throughput, MB/s")
            _bars(memory, sizes, "rss_mib", max, "Peak memory, MiB")
            memory.axhline(RSS_LIMIT_MIB, color=COLOURS[BATCHER], linewidth=1, linestyle=":")
            memory.annotate(
                f"promised: {RSS_LIMIT_MIB}", (-0.5, RSS_LIMIT_MIB), (0, 3), textcoords="offset points",
                fontsize=8, color=COLOURS[BATCHER],
            )  # fmt: skip
            figure.legend(*speed.get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
            figure.savefig(target)
            written.append(target)
        if "adaptive" in by_name:
            data = by_name["adaptive"].data
            modes = [mode for mode in ("503", "queue") if mode in data]
            figure, axes = plt.subplots(1, len(modes), figsize=(11, 3.4), sharey=True, squeeze=False, layout="constrained")
            for axis, mode in zip(axes[0], modes, strict=True):
                _timeline(axis, data, mode)
            axes[0][0].set_ylabel("requests per second")
            handles, labels = axes[0][0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
            written.append(target.with_name(f"{target.stem}-adaptive{target.suffix}"))
            figure.savefig(written[-1])
    return written


def _bars(axis: Axes, parts: list[Part], figure: str, pick: Callable[[list[float]], float], title: str) -> None:
    """Groups by size, one bar per client, log scale."""
    width = 0.86 / len(CLIENTS)
    for place, client in enumerate(CLIENTS):
        at, heights = [], []
        for group, part in enumerate(parts):
            if runs := part.data["samples"].get(client):
                at.append(group + (place - (len(CLIENTS) - 1) / 2) * width)
                heights.append(pick([run[figure] for run in runs]))
        bars = axis.bar(at, heights, width, color=COLOURS[client], label=client)
        if client == BATCHER:
            axis.bar_label(bars, [number(height, 2) for height in heights], padding=2, fontsize=8, color=COLOURS[client])
    axis.set_yscale("log")
    axis.set_xticks(range(len(parts)), [part.data["label"] for part in parts])
    axis.tick_params(axis="x", length=0)
    axis.tick_params(axis="y", which="minor", length=0)
    axis.yaxis.set_major_formatter(lambda value, _position: f"{value:,g}")
    axis.grid(axis="y", color=FAINT)
    axis.margins(y=0.12)
    axis.set_title(title)


def _timeline(axis: Axes, data: dict[str, Any], mode: str) -> None:
    """The first run: accepted and refused per second, over what the capacity allows."""
    timeline, phases = data[mode]["timelines"][0], data[mode]["phases"][0]
    width_s = timeline["bucket_ms"] / 1000
    end_s = phases[-1]["ends_s"]
    buckets = min(len(timeline["accepted"]), int(end_s / width_s))
    seconds = [(bucket + 0.5) * width_s for bucket in range(buckets)]

    edges = [phases[0]["begins_s"], *(phase["ends_s"] for phase in phases)]
    allowed = [phase["capacity"] / (data["service_ms"] / 1000) for phase in phases]
    for phase in phases:
        axis.axvspan(phase["begins_s"], phase["begins_s"] + data["settle_s"], color=FAINT, alpha=0.5, linewidth=0)
    axis.stairs(allowed, edges, baseline=None, color=INK, linewidth=1.2, linestyle="--", label="what the capacity allows")
    axis.plot(seconds, _per_s(timeline["accepted"], buckets, width_s), color=COLOURS[BATCHER], label="accepted")
    refused = _per_s(timeline["refused"], buckets, width_s)
    axis.fill_between(seconds, refused, color=ALARM, alpha=0.8, linewidth=0, label="refused")
    axis.set_title("Beyond its capacity the service " + ("answers 503" if mode == "503" else "lets requests wait"))
    axis.set_xlabel("seconds (grey: 10 s to settle)" if data["settle_s"] == 10 else "seconds (grey: settling)")
    axis.set_xlim(0, end_s)
    axis.set_ylim(bottom=0)
    axis.grid(axis="y", color=FAINT)


def _per_s(series: list[int], buckets: int, width_s: float) -> list[float]:
    """The average over the second that ends with each bucket: nothing shows before it happens."""
    averages = []
    for bucket in range(buckets):
        last = series[max(0, bucket + 1 - SMOOTH) : bucket + 1]
        averages.append(sum(last) / (len(last) * width_s))
    return averages
