"""What a part found: a table, the targets it was held against, and the raw figures; as Markdown and as JSON.

In: figures. Out: text. Called by every part and by bench.py.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Target:
    """One promise of the issue "Speed": `claim` is its number there."""

    claim: int
    what: str
    wanted: str
    measured: str
    ok: bool

    @classmethod
    def at_least(cls, claim: int, what: str, wanted: float, measured: float, unit: str = "") -> Self:
        return cls(claim, what, f"≥ {wanted:g}{unit}", f"{measured:.3g}{unit}", measured >= wanted)

    @classmethod
    def at_most(cls, claim: int, what: str, wanted: float, measured: float, unit: str = "") -> Self:
        return cls(claim, what, f"≤ {wanted:g}{unit}", f"{measured:.3g}{unit}", measured <= wanted)

    @classmethod
    def between(cls, claim: int, what: str, low: float, high: float, measured: float) -> Self:
        return cls(claim, what, f"{low:g} to {high:g}", f"{measured:.3g}", low <= measured <= high)


@dataclass(slots=True)
class Part:
    name: str
    title: str
    header: list[str]
    rows: list[list[str]] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)  # for the plots, and for whoever doubts the medians

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        return cls(**{**value, "targets": [Target(**target) for target in value["targets"]]})

    def markdown(self) -> str:
        notes = "".join(f"\n- {note}" for note in self.notes)
        return f"### {self.title}\n\n{table(self.header, self.rows)}\n{notes}\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, the first column to the left and the others to the right, padded to be read as text too."""
    lines = [list(header), *map(list, rows)]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *others = (
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join([first, *others])} |"

    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    return "\n".join([line(header), f"|{rule}|", *map(line, lines[1:])])


def target_table(parts: Iterable[Part]) -> str:
    found = sorted((target for part in parts for target in part.targets), key=lambda target: target.claim)
    rows = [[f"{t.claim}. {t.what}", t.wanted, t.measured, "ok" if t.ok else "**falls short**"] for t in found]
    return table(["promise", "wanted", "measured", ""], rows) if rows else ""


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Median and, where they differ, the range: `8,730 (8,510–9,020)`."""
    middle, low, high = (number(pick(values), digits) for pick in (statistics.median, min, max))
    return middle if low == high else f"{middle} ({low}–{high})"


def number(value: float, digits: int = 3) -> str:
    """`digits` significant ones, no exponent: 1.23, 12.3, 12,345."""
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    return f"{value:,.{max(0, digits - whole)}f}"
