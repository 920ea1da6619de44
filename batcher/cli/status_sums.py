"""The sums below the table of `status`: flows by their state, inputs, outputs and where they are, what was paid, the last run.

In: a `BatchStatus`, how wide the terminal is. Out: lines. Names may be hostile: they are made harmless before.
"""

from __future__ import annotations

import os
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ..core.model import Limits
from ..core.text import size
from .batch_status import BatchStatus
from .flow_status import FlowStatus
from .readable import counted, left_open, shown, span
from .status_table import Terminal, wrapped

FREE: Final = 6  # problems of no row in the table
ADVISED: Final = 4  # different pieces of advice
FOLDERS: Final = 2  # of outputs that are named
RUNS: Final = 4  # at work, that are named
INDENT: Final = " " * 9


@dataclass(frozen=True, slots=True)
class UploadPace:
    """What was uploaded at a time of a clock that never jumps."""

    at: float
    inputs: int
    size_bytes: int


def totals(
    found: BatchStatus, limits: Limits, terminal: Terminal, now: float,
    before: UploadPace | None = None, last: UploadPace | None = None, asked: str = "",
) -> list[str]:  # fmt: skip
    """The sums, how the last run went, and where two paces are given, how fast it goes. `asked`: what came of asking the
    service, "" where it was not asked."""
    if not found.report.flows.total and not found.runs:
        endpoint = shown(found.report.endpoint)
        return _wrapped(f"nothing was run yet at {endpoint} (--endpoint and --state are those of the run)", terminal)
    out = [""] if found.lines else []
    for text in (_flows(found), _inputs(found, before, last), _outputs(found), _cost(found, limits), _at_work(found), asked):
        out += _wrapped(text, terminal) if text else []
    left = "" if found.under_way(now) else left_open(found.sums.unknown, found.sums.unsettled, limits.settle_s)
    out += _wrapped(f"open:    {left}", terminal) if left else []
    out += _run(found, terminal, now)
    out += _free(found, terminal)
    return [*out, *_advice(found, terminal, now, bool(asked))]


def _wrapped(text: str, terminal: Terminal) -> list[str]:
    return textwrap.wrap(text, terminal.columns, subsequent_indent=INDENT, break_on_hyphens=False)


def _flows(found: BatchStatus) -> str:
    flows = found.report.flows
    counts = found.counts.copy()
    counts[FlowStatus.PLANNED] += flows.total - sum(counts.values())  # those that have no row
    parts = [
        f", {counts[status]:,} {status.of_many}{_progress(found, status)}"
        for status in FlowStatus
        if counts[status] and status is not FlowStatus.STARTED
    ]
    return f"flows:   {flows.started:,} of {flows.total:,} started{''.join(parts)}"


def _progress(found: BatchStatus, status: FlowStatus) -> str:
    if status is not FlowStatus.RUNNING or not found.sums.progress:
        return ""
    return f" ({found.sums.progress / found.counts[status]:.0%} on average)"


def _inputs(found: BatchStatus, before: UploadPace | None, last: UploadPace | None) -> str:
    inputs = found.report.inputs
    text = f"inputs:  {inputs.uploaded:,} of {inputs.total:,} uploaded, {size(inputs.bytes)}"
    if before is None or last is None or last.at <= before.at or last.inputs <= before.inputs:
        return text
    rate = (last.inputs - before.inputs) / (last.at - before.at)
    speed = (last.size_bytes - before.size_bytes) / (last.at - before.at)
    left = f", about {span(inputs.pending / rate)} to go" if inputs.pending else ""
    return f"{text}; {rate:.1f}/s, {size(speed)}/s{left}"


def _outputs(found: BatchStatus) -> str:
    outputs = found.report.outputs
    if outputs is None or not outputs.total:
        return ""
    folders = [shown(place(folder)) for folder, _ in found.sums.folders.most_common(FOLDERS)]
    more = len(found.sums.folders) - len(folders)
    where = f", to {', '.join(folders)}" + (f" and {counted(more, 'more folder')}" if more else "") if folders else ""
    missing = f", {outputs.missing:,} missing" if outputs.missing else ""
    return f"outputs: {outputs.collected:,} of {outputs.total:,} collected, {size(outputs.bytes)}{where}{missing}"


def place(folder: str) -> str:
    """The folder as it can be named from here."""
    near = os.path.relpath(folder)
    return folder if near.startswith("..") else near


def _at_work(found: BatchStatus) -> str:
    """Who works on how many flows, the busiest first."""
    counts = Counter(found.at_work.values()).most_common()
    more = f" and {counted(len(counts) - RUNS, 'more run')}" if len(counts) > RUNS else ""
    each = [f"{shown(where)}: {counted(number, 'flow')}" for where, number in counts[:RUNS]]
    return f"at work: {', '.join(each)}{more}" if each else ""


def _cost(found: BatchStatus, limits: Limits) -> str:
    price = limits.price_per_start
    if price is None:
        return ""
    return f"paid:    {price.times(found.paid)} for {counted(found.paid, 'start')}{price.to_come(found.report.flows.pending)}"


def _run(found: BatchStatus, terminal: Terminal, now: float) -> Iterator[str]:
    if not found.runs:
        return
    began, document = found.runs[0]
    code, took = document["exit_code"], float(str(document["elapsed_s"]))
    at = datetime.fromtimestamp(began).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    under_way = found.under_way(now)
    command = "collect" if document.get("command") == "collect" else "run"
    if code is not None:
        text = f"{at}, took {span(took)}, ended with {code}"
    elif under_way:
        text = f"under way since {at} ({span(now - began)})"
    else:
        text = f"{at}, cut off after {span(took)} or later; {command} again: it resumes"
    for line in _wrapped(f"{command + ':':9}{text}", terminal):
        yield terminal.ink(line, "33") if under_way else line


def _free(found: BatchStatus, terminal: Terminal) -> Iterator[str]:
    for problem in found.free[:FREE]:
        name = f"{problem.flow}: " if problem.flow is not None else ""
        yield from wrapped(shown(name + problem.message), terminal.columns)
    if len(found.free) > FREE:
        yield f"    … and {len(found.free) - FREE} more (--json lists them)"


def _advice(found: BatchStatus, terminal: Terminal, now: float, asked: bool) -> Iterator[str]:
    """What to do, each piece once."""
    problems = (*(line.problem for line in found.lines), *found.free)
    advice = dict.fromkeys(problem.hint for problem in problems if problem is not None and problem.hint)
    going = found.counts[FlowStatus.STARTED] + found.counts[FlowStatus.RUNNING]
    if going and not asked:
        advice["status --refresh asks the service how started flows stand; collect brings their outputs"] = None
    elif found.counts[FlowStatus.COMPLETED]:
        advice["collect brings the outputs of completed flows"] = None
    left = found.report.flows.pending and not found.under_way(now)
    if left and not advice:
        advice[f"batcher run goes on with what is left: {counted(found.report.flows.pending, 'flow')} to start"] = None
    for number, hint in enumerate(advice):
        if number == ADVISED:
            yield f"{INDENT}… and {counted(len(advice) - ADVISED, 'more piece')} of advice (--json has them)"
            return
        yield from textwrap.wrap(shown(hint), terminal.columns, initial_indent=INDENT if number else "do:      ",
                                 subsequent_indent=INDENT, break_on_hyphens=False)  # fmt: skip
