"""The page's timeline of flows: a thin line for each, or, where they are many and short, how many had come how far.

In: `PageData`, the run that is shown. Out: markup, drawn as `charts` draws. Called by `markup`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from html import escape
from typing import Final

from ..flow_status import FlowStatus
from ..readable import count, span
from .charts import POINTS, clock, figure, key, nice, percent, table, time_marks, value_marks
from .data import FlowLine, PageData, Run

PASSED_HEIGHT: Final = 260
VISIBLE: Final = 0.012  # of the run's length: a shorter line is a dot
LANES: Final = 140  # flows in the timeline, at most; more are thinned out evenly


def timeline(facts: PageData, run: Run) -> str:
    """The flows that the run took up, from then to their start, in that order."""
    ended = _ended(facts.flows, run)
    entered = [(at, flow) for flow in facts.flows if (at := _entered(flow, run, ended)) is not None]
    if not entered:
        return ""
    entered.sort(key=lambda pair: pair[0])
    seen = [flow for _, flow in entered]
    took = sorted(flow.times.started - at for at, flow in entered if flow.times.started and at == flow.times.begun)
    desc = f"{count(len(seen))} flows were taken up."
    if took:
        desc += f" From being taken up to the start: half within {span(took[len(took) // 2])}, the longest {span(took[-1])}."
    length_s = max(0.001, ended - run.began)
    if len(seen) > LANES and (not took or took[len(took) // 2] < VISIBLE * length_s):
        return _passed(seen, run, length_s, desc)
    return _lanes(seen, run, length_s, desc)


def _entered(flow: FlowLine, run: Run, ended: float) -> float | None:
    """When the flow is first seen in the run: one that an earlier run had begun, at its first station in this one."""
    t = flow.times
    return next((at for at in (t.begun, t.first_upload, t.last_upload, t.started) if _within(at, run, ended)), None)


def _within(at: float | None, run: Run, ended: float) -> bool:
    return at is not None and run.began - 0.5 <= at <= ended + 0.5


def _ended(flows: Sequence[FlowLine], run: Run) -> float:
    """When the run ended; of one that has not, the last that was seen of it."""
    ended = run.began + run.elapsed_s
    if run.exit_code is not None:
        return ended
    return max([ended, *(at for f in flows for at in (f.times.begun, f.times.last_upload, f.times.started) if at is not None)])


def _passed(seen: Sequence[FlowLine], run: Run, length_s: float, desc: str) -> str:
    """Many flows, each too short to be seen: how many had passed each station, over time."""
    stations = [
        ("t-open", "taken up", sorted(f.times.begun - run.began for f in seen if f.times.begun)),
        ("t-up", "uploaded", sorted(f.times.last_upload - run.began for f in seen if f.times.last_upload)),
        ("t-check", "started", sorted(f.times.started - run.began for f in seen if f.times.started)),
    ]
    top = nice(len(seen))
    areas = ""
    for mark, _, times in stations:
        passed = [bisect_right(times, length_s * n / POINTS) for n in range(POINTS + 1)]
        line = " ".join(f"{1000 * n / POINTS:.1f},{100 - 100 * number / top:.2f}" for n, number in enumerate(passed))
        areas += f'<polygon class="{mark}" points="0,100 {line} 1000,100"/><polyline class="line {mark}" points="{line}"/>'
    drawing = (
        f'<svg x="0" y="0" width="100%" height="{PASSED_HEIGHT}" viewBox="0 0 1000 100" preserveAspectRatio="none" '
        f'aria-hidden="true">{areas}</svg>'
    )
    drawing = time_marks(length_s, PASSED_HEIGHT) + drawing + value_marks(top, count, PASSED_HEIGHT)
    rows = [
        (clock(round(length_s * n / 20, 3 if length_s < 60 else 0)),
         *(count(bisect_right(times, length_s * n / 20)) for _, _, times in stations))
        for n in range(1, 21)
    ]  # fmt: skip
    figures = table(("Up to", *(word for _, word, _ in stations)), rows, "Timeline of flows")
    legend = f'<p class="sum">{escape(desc)} Shown is how many had come how far.</p>' + key(
        ("k-open", "taken up"), ("k-up", "uploaded"), ("k-check", "started")
    )
    return figure("timeline", "Timeline of flows", desc, drawing, PASSED_HEIGHT + 24, figures, legend)


def _lanes(seen: Sequence[FlowLine], run: Run, length_s: float, desc: str) -> str:
    """One thin line for each flow."""
    every = max(1, math.ceil(len(seen) / LANES))
    lanes = seen[::every]
    pitch = 14 if len(lanes) <= 12 else 7 if len(lanes) <= 40 else 4 if len(lanes) <= 80 else 3
    height = pitch * len(lanes)
    drawing = [time_marks(length_s, height + 4)]
    rows = []
    for n, flow in enumerate(lanes):
        parts = _stretches(flow, run, length_s)
        stretches = [what if mark == "t-bad" else f"{what} {span(to - at)}" for mark, what, at, to in parts]
        words = escape(f"{flow.name}: {', '.join(stretches) or 'begun'}")
        lane = "".join(
            f'<rect class="{mark}" x="{percent(at, length_s)}" width="{percent(max(to - at, length_s / 400), length_s)}" '
            f'y="{n * pitch}" height="{pitch - 1}"/>'
            for mark, _, at, to in parts
        )
        drawing.append(f"<g><title>{words}</title>{lane}</g>")
        if n % max(1, len(lanes) // 30) == 0:
            rows.append(_row(flow, run))
    shown = "" if every == 1 else f" One line for every {every} flows."
    legend = f'<p class="sum">{escape(desc)}{shown}</p>' + key(
        ("k-open", "until the first upload"),
        ("k-up", "uploading"),
        ("k-check", "checked and started"),
        ("k-bad", "kept from its start"),
    )
    head = ("Flow", "Taken up", "Opened", "First upload", "Last upload", "Started")
    figures = table(head, rows, "Timeline of flows")
    return figure("timeline", "Timeline of flows", desc, "".join(drawing), height + 24, figures, legend)


def _stretches(flow: FlowLine, run: Run, length_s: float) -> list[tuple[str, str, float, float]]:
    """(CSS class, what, from, to) in seconds since the run began."""
    t = flow.times
    at = _entered(flow, run, run.began + length_s)
    assert at is not None
    stations = [("t-open", "opening", t.first_upload), ("t-up", "uploading", t.last_upload), ("t-check", "checking", t.started)]
    parts = []
    for mark, what, until in stations:
        if until is not None and _within(until, run, run.began + length_s):
            if until > at or what == "uploading":
                parts.append((mark, what, at - run.began, max(at, until) - run.began))
            at = max(at, until)
    if flow.status is FlowStatus.PROBLEM and t.started is None:
        parts.append(("t-bad", "kept from its start", at - run.began, at - run.began))
    return parts


def _row(flow: FlowLine, run: Run) -> tuple[str, ...]:
    t = flow.times
    stations = (t.begun, t.opened, t.first_upload, t.last_upload, t.started)
    return (flow.name, *("-" if at is None else f"{at - run.began:.1f} s" for at in stations))
