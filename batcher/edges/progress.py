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

Style = Literal["bar", "plain", "none"]
PLAIN_S: Final = 30.0
BAR_S: Final = 0.1


def style_of(wanted: str, quiet: bool) -> Style:
    """`auto` is a bar where stderr is a terminal."""
    if quiet or wanted == "none":
        return "none"
    if wanted == "auto":
        return "bar" if sys.stderr.isatty() else "plain"
    return "bar" if wanted == "bar" else "plain"


def size(count: float) -> str:
    """Bytes for people: 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


async def show(report: Report, style: Style) -> None:
    """Draw until cancelled."""
    if style == "bar":
        await _bar(report)
    elif style == "plain":
        await _plain(report)


async def _bar(report: Report) -> None:
    from tqdm import tqdm  # 30 ms that nobody needs elsewhere

    layout = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
    bar = tqdm(total=0, unit=" inputs", file=sys.stderr, dynamic_ncols=True, bar_format=layout, leave=False)
    began = time.monotonic()
    try:
        while True:
            bar.total = report.inputs.total or None
            bar.n = report.inputs.uploaded
            rate = report.inputs.bytes_now / max(0.1, time.monotonic() - began)
            flows = report.flows
            sent = size(report.inputs.bytes_now)
            bar.set_postfix_str(f"{flows.started}/{flows.total} flows, {sent}, {size(rate)}/s", refresh=False)
            bar.refresh()
            await asyncio.sleep(BAR_S)
    finally:
        bar.close()


async def _plain(report: Report) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(PLAIN_S)
        inputs, flows = report.inputs, report.flows
        rate = inputs.bytes_now / max(0.1, time.monotonic() - began)
        line = (
            f"batcher: {flows.started}/{flows.total} flows started, {inputs.uploaded}/{inputs.total} "
            f"inputs uploaded, {size(rate)}/s, {report.requests.retried} retries"
        )
        print(line, file=sys.stderr, flush=True)
