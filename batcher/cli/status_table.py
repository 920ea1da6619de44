"""The table that `status` prints: it fits the terminal, says what is urgent first, and sums up what is many.

In: a `BatchStatus`, how wide the terminal is. Out: lines; the sums below them stand in `status_sums`. Names may be hostile:
they are made harmless before.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ..core.text import size
from .batch_status import BatchStatus
from .columns import fit, width
from .flow_status import FlowStatus, StatusLine, became
from .readable import shown

LISTED: Final = 20  # of one status; of all of them where there are no more than twice as many flows in all
ATTEMPTS: Final = 3  # of one flow that are told, the last ones
INKS: Final = {
    FlowStatus.PROBLEM: "31;1", FlowStatus.FAILED: "31;1", FlowStatus.ABORTED: "31;1", FlowStatus.UPLOADING: "33",
    FlowStatus.PLANNED: "2", FlowStatus.STARTED: "36", FlowStatus.RUNNING: "36", FlowStatus.COMPLETED: "32",
    FlowStatus.COLLECTED: "32", FlowStatus.DELETED: "32",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Terminal:
    """How much fits on it, and whether it takes colours."""

    columns: int
    rows: int = 24
    color: bool = False

    def ink(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.color and text else text


@dataclass(frozen=True, slots=True)
class Widths:
    """Of the table's columns; where the terminal is narrow the ids are left out, then the sizes, then the outputs (0)."""

    state: int
    inputs: int
    outputs: int
    size: int
    flow_id: int
    name: int

    @staticmethod
    def of(terminal: Terminal, state: int, inputs: int, outputs: int) -> Widths:
        ids = 24 if terminal.columns >= 110 else 12
        for size_, flow_id, outs in ((8, ids, outputs), (8, 0, outputs), (0, 0, outputs), (0, 0, 0)):
            taken = [state, inputs, *(part for part in (size_, flow_id, outs) if part)]
            name = terminal.columns - sum(part + 2 for part in taken)
            if name >= 12:
                break
        return Widths(state, inputs, outs, size_, flow_id, max(8, name))

    def row(self, state: str, inputs: str, outputs: str, size: str, flow_id: str, name: str) -> str:
        cells = [state, f"{inputs:>{self.inputs}}", f"{outputs:>{self.outputs}}" if self.outputs else ""]
        cells.append(f"{size:>{self.size}}" if self.size else "")
        cells += [fit(flow_id, self.flow_id, pad=True) if self.flow_id else "", fit(name, self.name)]
        return "  ".join(cell for cell in cells if cell)


def lines_of(found: BatchStatus, terminal: Terminal, *, everything: bool = False, room: int | None = None) -> list[str]:
    """The table. `room`: so many lines at most, as on a terminal that is drawn again and again."""
    if not found.lines:
        return []
    table = _Table(found.lines, terminal, short=room is not None)
    out = [terminal.ink(table.head, "2")]
    few = everything or (room is None and sum(found.counts.values()) <= 2 * LISTED)
    for status in FlowStatus:
        group = [line for line in found.lines if line.status is status]  # in the journal's order
        for number, line in enumerate(group):
            block = list(table.block(line))
            full = room is not None and len(out) + len(block) + 1 > room
            if full or (number >= LISTED and not few):
                left = found.counts[status] - number
                if room is None or len(out) < room:
                    how = "" if room is not None else " (--all lists them)"
                    more = fit(f"… {left:,} {'more ' if number else ''}{status.of_many}{how}", terminal.columns)
                    out.append(terminal.ink(more, "2"))
                break
            out += block
    return out


class _Table:
    """`short`: one line for what is wrong with a flow, and none for its earlier attempts."""

    def __init__(self, lines: Sequence[StatusLine], terminal: Terminal, *, short: bool) -> None:
        self._terminal = terminal
        self._short = short
        state = max(9, *(min(12, len(line.words)) for line in lines))
        inputs = max(6, *(len(_inputs(line)) for line in lines))
        outputs = max(len(_outputs(line)) for line in lines)
        self._widths = Widths.of(terminal, state, inputs, max(7, outputs) if outputs > 1 else 0)
        heads = ("INPUTS", "OUTPUTS", "SIZE", "FLOW ID", "FLOW")
        self.head = self._widths.row(f"{'STATE':{state}}", *heads)

    def block(self, line: StatusLine) -> Iterator[str]:
        facts, columns = line.facts, self._terminal.columns
        bytes_ = size(facts.size_bytes or line.accepted_bytes) if facts.inputs else "-"
        state = self._terminal.ink(fit(shown(line.words), self._widths.state, pad=True), INKS[line.status])
        yield self._widths.row(state, _inputs(line), _outputs(line), bytes_, shown(facts.flow_id or "-"), shown(facts.name))
        if line.problem is not None:
            message = shown(line.problem.message)
            yield from ["  ↳ " + fit(message, columns - 4)] if self._short else wrapped(message, columns)
        if not self._short:
            yield from self._attempts(line)

    def _attempts(self, line: StatusLine) -> Iterator[str]:
        """What it was before it was paid for again."""
        first = max(0, len(line.attempts) - ATTEMPTS)
        for number, (facts, end) in enumerate(line.attempts[first:], first + 1):
            said = became(end) if end is not None else "its end was not seen"
            for part in wrapped(shown(f"attempt {number} was {facts.flow_id}: {said}"), self._terminal.columns, sign="↺"):
                yield self._terminal.ink(part, "2")


def _inputs(line: StatusLine) -> str:
    """Where a flow has no row, nothing is known of it but what is wrong."""
    return f"{line.accepted}/{line.facts.inputs}" if line.facts.inputs else "-"


def _outputs(line: StatusLine) -> str:
    return f"{line.collected}/{line.listed}" if line.listed else "-"


def wrapped(text: str, columns: int, sign: str = "↳") -> Iterator[str]:
    """A text below a row."""
    lines = textwrap.wrap(text, columns - 4, break_on_hyphens=False) or [""]
    if any(width(line) > columns - 4 for line in lines):  # wide characters, which textwrap counts once
        lines = textwrap.wrap(text, max(20, (columns - 4) // 2), break_on_hyphens=False)
    for number, line in enumerate(lines):
        yield (f"  {sign} " if number == 0 else "    ") + line
