"""The page's charts, as SVG: throughput and requests in flight over time, latencies; and what `timeline` is drawn with.

In: a `Run`. Out: markup, each chart with a title, a description and a table that tells the same in words. No script and no
inline style: positions are percentages, so that text stays as large as it is meant at every width. Called by `markup` and
`timeline`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from ...core.measuring import LATENCY_STEPS, latency_end_s
from ...core.text import size
from ..readable import count, span
from .data import Run

POINTS: Final = 150  # of a series, at most
HEIGHT: Final = 150  # of a series, in CSS pixels
TICKS_S: Final = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(3600, 7200, 10800, 21600, 43200, 86400, 172800),
)


def figure(name: str, title: str, desc: str, drawing: str, height: int, table: str, legend: str = "") -> str:
    """A chart with its text alternatives."""
    return (
        f'<figure class="chart" id="{name}"><figcaption><h3>{escape(title)}</h3>{legend}</figcaption>'
        f'<svg role="img" aria-labelledby="{name}-t" aria-describedby="{name}-d" width="100%" height="{height}">'
        f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(desc)}</desc>{drawing}</svg>'
        f"<details><summary>{escape(title)}: the figures</summary>{table}</details></figure>"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[object]], caption: str) -> str:
    """A small table; its cells are escaped."""
    heads = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = ""
    for first, *rest in rows:
        cells = "".join(f"<td>{escape(str(cell))}</td>" for cell in rest)
        body += f'<tr><th scope="row">{escape(str(first))}</th>{cells}</tr>'
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table class="figures">'
        f'<caption class="off">{escape(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def key(*entries: tuple[str, str]) -> str:
    """A legend: (class, word)."""
    return '<p class="key">' + "".join(f'<span class="{mark}">{escape(word)}</span>' for mark, word in entries) + "</p>"


def percent(part: float, whole: float) -> str:
    return f"{min(100.0, max(0.0, 100.0 * part / whole if whole else 0.0)):.2f}%"


def nice(value: float) -> float:
    """The next 1, 2, 2.5 or 5 times a power of ten: where an axis may end."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * power >= value * 0.9999)


def step_s(length_s: float) -> float:
    """The distance of the marks on a time axis: about five of them."""
    return next((step for step in TICKS_S if length_s / step <= 5.5), 86400.0 * math.ceil(length_s / 86400 / 5))


def clock(seconds: float) -> str:
    """A mark on a time axis."""
    if seconds == 0:
        return "0"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:g} s"
    if seconds < 3600:
        whole = round(seconds)
        return f"{whole // 60} min" if whole % 60 == 0 else f"{whole // 60}:{whole % 60:02}"
    return f"{seconds / 3600:g} h"


def time_marks(length_s: float, height: int) -> str:
    """The marks under a time axis of this length, and fine lines upwards."""
    step = step_s(length_s)
    parts = []
    for n in range(int(length_s / step + 1e-9) + 1):
        at = percent(n * step, length_s)
        near_end = n * step > 0.94 * length_s
        anchor = "start" if n == 0 else "end" if near_end else "middle"
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="0" y2="{height}"/>')
        parts.append(f'<text class="mark" x="{at}" y="{height + 16}" text-anchor="{anchor}">{clock(n * step)}</text>')
    return "".join(parts)


@dataclass(frozen=True, slots=True)
class Series:
    """One value over time: what it is called, how a value reads, the CSS class of its area, its mean over the run."""

    name: str
    title: str
    values: Sequence[float]
    words: Callable[[float], str]
    mark: str
    mean: float


@dataclass(frozen=True, slots=True)
class Steps:
    """The stretches that the values of all series are about: each of `step_s`, and when the service slowed down in them."""

    step_s: float
    length_s: float
    slowed: Sequence[float]


def over_time(run: Run) -> str:
    """Throughput, and requests in flight, under one another with the same time axis."""
    measures: dict[str, Any] = run.document["measures"]
    width_s = float(measures["width_s"])
    group = max(1, math.ceil(len(measures["requests"]) / POINTS))

    def summed(name: str) -> list[float]:
        values = measures[name]
        return [sum(values[n : n + group]) for n in range(0, len(values), group)]

    stretches = len(summed("requests"))
    # A run that is shorter than a stretch is all there is to be averaged over.
    length_s = max(run.elapsed_s, 0.001 if stretches == 1 else width_s)
    steps = Steps(min(width_s * group, length_s), length_s, summed("slowed"))
    # The last stretch is shorter than the others, unless the run ended on its edge.
    spans = [min(steps.step_s, max(1e-9, steps.length_s - n * steps.step_s)) for n in range(stretches)]
    spans[-1] = max(spans[-1], steps.step_s / 4)
    sent = [value / part for value, part in zip(summed("sent_bytes"), spans, strict=True)]
    busy = [value / part for value, part in zip(summed("busy_s"), spans, strict=True)]
    mean_busy = sum(measures["busy_s"]) / steps.length_s
    return _series(Series("sent", "Throughput", sent, _speed, "a1", run.bytes_per_s), steps, marks=True) + _series(
        Series("busy", "Requests in flight", busy, lambda value: f"{value:.3g}", "a2", mean_busy), steps
    )


def _series(series: Series, steps: Steps, *, marks: bool = False) -> str:
    """`marks`: where the service slowed down."""
    step, length_s, slowed = steps.step_s, steps.length_s, steps.slowed
    peak = max(series.mean, *series.values)  # of the last stretch, which is short, the figure is on the low side
    top = nice(1.08 * peak)
    drawing = time_marks(length_s, HEIGHT) + _area(series, step, length_s, top)
    if marks:
        drawing += _slowed_marks(slowed, step, length_s)
    drawing += value_marks(top, series.words)
    desc = f"On average {series.words(series.mean)}, at most {series.words(peak)}, over {span(length_s)}."
    thin = max(1, math.ceil(len(series.values) / 24))
    rows = [
        (clock(n * step), series.words(max(series.values[n : n + thin])), f"{sum(slowed[n : n + thin]):.0f}")
        for n in range(0, len(series.values), thin)
    ]
    figures = table(("From", f"{series.title}, at most", "Slowed down"), rows, f"{series.title} over time")
    legend = f'<p class="sum">{escape(desc)}</p>'
    if marks and any(slowed):
        legend += key(("k-bad", "the service asked to slow down, or was unavailable"))
    return figure(series.name, series.title, desc, drawing, HEIGHT + 24, figures, legend)


def _speed(bytes_per_s: float) -> str:
    return f"{size(bytes_per_s)}/s".replace(".0 ", " ")


def _area(series: Series, step_s: float, length_s: float, top: float) -> str:
    """Steps, in a box of its own that is stretched; lines keep their thickness."""
    points = []
    for n, value in enumerate(series.values):
        y = 100 - 100 * value / top
        points += [(1000 * n * step_s / length_s, y), (min(1000.0, 1000 * (n + 1) * step_s / length_s), y)]
    line = " ".join(f"{x:.1f},{y:.2f}" for x, y in points)
    return (
        f'<svg class="{series.mark}" x="0" y="0" width="100%" height="{HEIGHT}" viewBox="0 0 1000 100" '
        f'preserveAspectRatio="none" aria-hidden="true"><polyline class="line" points="{line}"/>'
        f'<polygon class="fill" points="0,100 {line} {points[-1][0]:.1f},100"/></svg>'
    )


def value_marks(top: float, words: Callable[[float], str], height: int = HEIGHT) -> str:
    out = f'<line class="axis" x1="0" x2="100%" y1="{height}" y2="{height}"/>'
    for value, y in ((top, 0.5), (top / 2, height / 2)):
        out += f'<line class="grid" x1="0" x2="100%" y1="{y}" y2="{y}"/>'
        out += f'<text class="mark value" x="2" y="{y + 13}">{words(value)}</text>'
    return out


def _slowed_marks(slowed: Sequence[float], step_s: float, length_s: float) -> str:
    return "".join(
        f'<rect class="bad" x="{percent(n * step_s, length_s)}" width="{percent(step_s, length_s)}" '
        f'y="{HEIGHT - 5}" height="5"><title>{clock(n * step_s)}: {number:.0f} slowed down</title></rect>'
        for n, number in enumerate(slowed)
        if number
    )


def percentile(of: Mapping[str, Any], part: float) -> float:
    """The latency, in seconds, that so large a part of the requests did not exceed."""
    counts: list[int] = of["counts"]
    wanted = part * sum(counts)
    seen = 0
    for bucket, number in enumerate(counts):
        seen += number
        if number and seen >= wanted - 1e-9:
            return min(latency_end_s(bucket), float(of["max_s"]))
    return 0.0


def latencies(run: Run) -> str:
    """How long requests took: a histogram of the uploads (or of whatever there was most), and a line for each call."""
    by_call: dict[str, Any] = run.document["measures"]["latency"]
    if not by_call:
        return ""
    call = "upload" if "upload" in by_call else max(by_call, key=lambda name: sum(by_call[name]["counts"]))
    counts: list[int] = by_call[call]["counts"]
    used = [n for n, number in enumerate(counts) if number]
    first = max(0, used[0] // LATENCY_STEPS * LATENCY_STEPS - 1)  # whole doublings
    end = min(len(counts), (used[-1] // LATENCY_STEPS + 1) * LATENCY_STEPS + 1)
    shape = counts[first:end]
    top = max(shape)
    median, p95 = percentile(by_call[call], 0.5), percentile(by_call[call], 0.95)
    longest = float(by_call[call]["max_s"])
    drawing = [f'<line class="axis" x1="0" x2="100%" y1="{HEIGHT}" y2="{HEIGHT}"/>']
    for n, number in enumerate(shape):
        x, broad = percent(n + 0.08, len(shape)), percent(0.84, len(shape))
        tall = HEIGHT * 0.94 * number / top
        if number:
            words = f"{_from(first + n)} to {span(latency_end_s(first + n))}: {count(number)}"
            drawing.append(
                f'<rect class="bar" x="{x}" width="{broad}" y="{HEIGHT - max(1.5, tall):.1f}" height="{max(1.5, tall):.1f}">'
                f"<title>{words}</title></rect>"
            )
        if (first + n) % LATENCY_STEPS == 0 and 0 < n < len(shape) - 1 and _marked(n, len(shape)):
            at = percent(n + 1, len(shape))
            drawing.append(f'<line class="tick" x1="{at}" x2="{at}" y1="{HEIGHT}" y2="{HEIGHT + 4}"/>')
            drawing.append(f'<text class="mark" x="{at}" y="{HEIGHT + 17}" text-anchor="middle">{_round(first + n)}</text>')
    desc = f"Half of them within {_about(median)}, 95 % within {_about(p95)}, the longest {span(longest)}."
    rows = [
        (name, count(sum(of["counts"])), _about(percentile(of, 0.5)), _about(percentile(of, 0.95)),
         span(float(of["max_s"])), ", ".join(f"{count(n)} {kind}" for kind, n in sorted(of["outcomes"].items())))
        for name, of in sorted(by_call.items(), key=lambda item: -sum(item[1]["counts"]))
    ]  # fmt: skip
    figures = table(("Call", "Requests", "Half within", "95 % within", "Longest", "Outcomes"), rows, "Latency by call")
    title = {"upload": "Latency of uploads"}.get(call, f"Latency of “{call}”")
    legend = f'<p class="sum">{count(sum(counts))} requests. {escape(desc)}</p>'
    return figure("latency", title, desc, "".join(drawing), HEIGHT + 24, figures, legend)


def _marked(n: int, shown: int) -> bool:
    """Every doubling while there are few of them, else every other."""
    return shown <= 8 * LATENCY_STEPS or n // LATENCY_STEPS % 2 == 0


def _about(seconds: float) -> str:
    """A latency from the histogram, which is right within a fifth: two figures."""
    if seconds <= 0:
        return "-"
    digits = 1 - math.floor(math.log10(seconds * 1000))
    return span(round(seconds * 1000, digits) / 1000)


def _from(bucket: int) -> str:
    return span(latency_end_s(bucket - 1)) if bucket else "0"


def _round(bucket: int) -> str:
    """The end of a bucket that closes a doubling: 1 ms, 2 ms … 1 s, 2 s."""
    exact = 2 ** (bucket // LATENCY_STEPS)
    return f"{exact} ms" if exact < 1000 else f"{exact // 1000} s" if exact < 60_000 else f"{exact // 60_000} min"
