"""The table that `status` prints: it fits the terminal, says what is urgent first, and sums up what is many.

In: a `BatchStatus`, how wide the terminal is. Out: lines. Names may be hostile: they are made harmless before.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ..core.report import Report
from ..reporting.progress import size
from .columns import fit, width
from .flow_status import BatchStatus, FlowStatus, Line
from .readable import shown, span

FREE: Final = 6  # problems of no row in the table
ADVISED: Final = 4  # different pieces of advice
LISTED: Final = 20  # of one status; of all of them where there are no more than twice as many flows in all
INKS: Final = {FlowStatus.PROBLEM: "31;1", FlowStatus.UNDER_WAY: "33", FlowStatus.PENDING: "2", FlowStatus.STARTED: "32"}


@dataclass(frozen=True, slots=True)
class Terminal:
    """How much fits on it, and whether it takes colours."""

    columns: int
    rows: int = 24
    color: bool = False

    def ink(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.color and text else text


@dataclass(frozen=True, slots=True)
class Pace:
    """What was uploaded at a time of a clock that never jumps."""

    at: float
    inputs: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Widths:
    """Of the table's columns; where the terminal is narrow the ids are left out, then the sizes (0)."""

    inputs: int
    size: int
    flow_id: int
    name: int

    @staticmethod
    def of(terminal: Terminal, inputs: int) -> Widths:
        room = terminal.columns - 9 - 2 - inputs - 2
        for size_, ids in ((8, 24 if terminal.columns >= 110 else 12), (8, 0), (0, 0)):
            name = room - sum(width + 2 for width in (size_, ids) if width)
            if name >= 12:
                break
        return Widths(inputs, size_, ids, max(12, name))

    def row(self, state: str, inputs: str, size: str, flow_id: str, name: str) -> str:
        cells = [state, f"{inputs:>{self.inputs}}", f"{size:>{self.size}}" if self.size else ""]
        cells += [fit(flow_id, self.flow_id, pad=True) if self.flow_id else "", fit(name, self.name)]
        return "  ".join(cell for cell in cells if cell)


def lines_of(found: BatchStatus, terminal: Terminal, *, everything: bool = False, room: int | None = None) -> list[str]:
    """The table. `room`: so many lines at most, as on a terminal that is drawn again and again."""
    if not found.lines:
        return []
    wide = max(len(f"{line.accepted}/{line.facts.inputs}") for line in found.lines)
    widths = Widths.of(terminal, max(6, wide))
    out = [terminal.ink(widths.row(f"{'STATE':9}", "INPUTS", "SIZE", "FLOW ID", "FLOW"), "2")]
    order = sorted(found.lines, key=lambda line: line.status)  # stable: the journal's order within
    few = everything or (room is None and len(order) <= 2 * LISTED)
    for status in FlowStatus:
        group = [line for line in order if line.status is status]
        for number, line in enumerate(group):
            block = list(_block(line, terminal, widths, short=room is not None))
            full = room is not None and len(out) + len(block) + 1 > room
            if full or (number >= LISTED and not few):
                left = len(group) - number
                if room is None or len(out) < room:
                    how = "" if room is not None else " (--all lists them)"
                    out.append(terminal.ink(f"… {left} {'more ' if number else ''}{status.of_many}{how}", "2"))
                break
            out += block
    return out


def _block(line: Line, terminal: Terminal, widths: Widths, short: bool) -> Iterator[str]:
    facts, status = line.facts, line.status
    done, bytes_ = f"{line.accepted}/{facts.inputs}", size(facts.size_bytes or line.accepted_bytes)
    if not facts.inputs:  # it has no row: nothing is known of it but what is wrong
        done = bytes_ = "-"
    state = terminal.ink(f"{status.word:9}", INKS[status])
    yield widths.row(state, done, bytes_, shown(facts.flow_id or "-"), shown(facts.name))
    if line.problem is not None:
        message = shown(line.problem.message)
        yield from ["  ↳ " + fit(message, terminal.columns - 4)] if short else _wrapped(message, terminal.columns)


def _wrapped(text: str, columns: int) -> Iterator[str]:
    lines = textwrap.wrap(text, columns - 4, break_on_hyphens=False) or [""]
    if any(width(line) > columns - 4 for line in lines):  # wide characters, which textwrap counts once
        lines = textwrap.wrap(text, max(20, (columns - 4) // 2), break_on_hyphens=False)
    for number, line in enumerate(lines):
        yield ("  ↳ " if number == 0 else "    ") + line


def totals(
    found: BatchStatus, report: Report, terminal: Terminal, now: float, before: Pace | None = None, last: Pace | None = None
) -> list[str]:
    """The sums, how the last run went, and where two paces are given, how fast it goes."""
    flows, inputs = report.flows, report.inputs
    if not flows.total and not found.runs:
        return ["nothing was run yet"]
    unknown = report.flows.total - len(found.lines)
    found_counts = {**found.counts, FlowStatus.PENDING: found.counts[FlowStatus.PENDING] + unknown}
    counts = [
        f", {number} {status.of_many}"
        for status, number in found_counts.items()
        if number and status is not FlowStatus.STARTED
    ]
    out = [
        *([""] if found.lines else []),
        fit(f"flows:  {flows.started} of {flows.total} started{''.join(counts)}", terminal.columns),
        f"inputs: {inputs.uploaded} of {inputs.total} uploaded, {size(inputs.bytes)}",
    ]
    if before is not None and last is not None and last.at > before.at and last.inputs > before.inputs:
        rate = (last.inputs - before.inputs) / (last.at - before.at)
        speed = (last.size_bytes - before.size_bytes) / (last.at - before.at)
        left = f", about {span(inputs.pending / rate)} to go" if inputs.pending else ""
        out[-1] += f"; {rate:.1f}/s, {size(speed)}/s{left}"
    out += _run(found, terminal, now)
    return out


def _run(found: BatchStatus, terminal: Terminal, now: float) -> Iterator[str]:
    if not found.runs:
        return
    began, document = found.runs[0]
    code, took = document["exit_code"], float(str(document["elapsed_s"]))
    at = datetime.fromtimestamp(began).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    under_way = found.under_way(now)
    if code is not None:
        text = f"{at}, took {span(took)}, ended with {code}"
    elif under_way:
        text = f"under way since {at} ({span(now - began)})"
    else:
        text = f"{at}, cut off after {span(took)} or later; run again: it resumes"
    for line in textwrap.wrap(f"run:    {text}", terminal.columns, subsequent_indent="        "):
        yield terminal.ink(line, "33") if under_way else line
    for problem in found.free[:FREE]:
        name = f"{problem.flow}: " if problem.flow is not None else ""
        yield from _wrapped(shown(name + problem.message), terminal.columns)
    if len(found.free) > FREE:
        yield f"    … and {len(found.free) - FREE} more (--json lists them)"
    advice = dict.fromkeys(p.hint for p in (*(line.problem for line in found.lines), *found.free) if p is not None and p.hint)
    for number, hint in enumerate(advice):
        if number == ADVISED:
            yield f"        … and {len(advice) - ADVISED} more pieces of advice (--json has them)"
            return
        yield from textwrap.wrap(shown(hint), terminal.columns, initial_indent="        " if number else "do:     ",
                                 subsequent_indent="        ")  # fmt: skip
