"""What people see while a run is under way: a bar on a terminal, a plain line every half a minute elsewhere.

In: the run's `Report`, which the stages fill. Out: text on stderr. Both printers read the same counts. Called by the
command line; nothing here can slow a run, for nothing waits for it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Final, Literal

from ..core.report import Report
from ..core.text import harmless, size

Style = Literal["bar", "plain", "none"]
PLAIN_S: Final = 30.0
BAR_S: Final = 0.1
TROUBLE_S: Final = 3.0  # so long without a request that was done is more than a reply that was lost
TROUBLE_CHARS: Final = 100
LAYOUT: Final = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
TROUBLED: Final = "{n_fmt}/{total_fmt} {unit} [{elapsed}]{postfix}"  # no bar: 80 columns have room for the reason


def style_of(wanted: str, quiet: bool, dumb: bool = False) -> Style:
    """`auto` is a bar where stderr is a terminal; `dumb`: one that cannot draw over what it has shown."""
    if quiet or wanted == "none":
        return "none"
    if wanted == "auto":
        return "bar" if sys.stderr.isatty() and not dumb else "plain"
    return "bar" if wanted == "bar" else "plain"


async def show(report: Report, style: Style) -> None:
    """Draw until cancelled."""
    if style == "bar":
        await _bar(report)
    elif style == "plain":
        await _plain(report)


def _counts(report: Report) -> tuple[int, int, str, int]:
    """(done, of how many, of what, bytes that moved in this run)."""
    outputs = report.outputs
    if outputs is not None:
        return outputs.collected, outputs.total, "outputs", outputs.bytes_now
    return report.inputs.uploaded, report.inputs.total, "inputs", report.inputs.bytes_now


def _flows(report: Report) -> str:
    flows, ends = report.flows, report.ends
    if ends is None:
        return f"{flows.started}/{flows.total} flows"
    running = f", {ends.running} running" if ends.running else ""
    return f"{flows.started - ends.running}/{flows.started} flows ended{running} ({ends.progress:.0%})"


def _trouble(report: Report) -> str:
    """Why nothing moves, once that has lasted."""
    if report.trouble is None or (lasted_s := time.monotonic() - report.trouble[0]) < TROUBLE_S:
        return ""
    return f"waiting for the service for {lasted_s:.0f} s: {harmless(report.trouble[1], TROUBLE_CHARS)}"


async def _bar(report: Report) -> None:
    await asyncio.sleep(BAR_S)  # most runs that have nothing to do are over by then
    from tqdm import tqdm  # 30 ms that nobody needs elsewhere

    tqdm.monitor_interval = 0  # no thread of its own, which a second Ctrl-C could hit at the end
    bar = tqdm(total=0, file=sys.stderr, dynamic_ncols=True, leave=False)
    began = time.monotonic()
    try:
        while True:
            bar.n, total, bar.unit, moved = _counts(report)
            bar.total = total or None
            rate = moved / max(0.1, time.monotonic() - began)
            trouble = _trouble(report)
            bar.bar_format = TROUBLED if trouble else LAYOUT
            bar.set_postfix_str(trouble or f"{_flows(report)}, {size(moved)}, {size(rate)}/s", refresh=False)
            bar.refresh()
            await asyncio.sleep(BAR_S)
    finally:
        bar.close()
        sys.stderr.flush()  # it leaves the last carriage return in the buffer, and the summary would begin at the right edge


async def _plain(report: Report) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(PLAIN_S)
        done, total, what, moved = _counts(report)
        flows = _flows(report) if report.ends is not None else f"{report.flows.started}/{report.flows.total} flows started"
        did = "collected" if report.outputs is not None else "uploaded"
        rate = moved / max(0.1, time.monotonic() - began)
        line = f"batcher: {flows}, {done}/{total} {what} {did}, {size(rate)}/s, {report.requests.retried} retries"
        if trouble := _trouble(report):
            line += f"; {trouble}"
        print(line, file=sys.stderr, flush=True)
