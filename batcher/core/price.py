"""What a start costs, as the user says it: a number with a currency or a unit of any kind. No I/O.

In: a text such as `0.40 EUR`, `$0.40` or `2 credits`. Out: a `Price`, and sums of it as text. Called by the manifest's keys,
the forecast and whoever says what was paid. Exact: decimal numbers, no floating point.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

ADVICE: Final = "write a price like 0.40 EUR, $0.40 or 2 credits"
_NUMBER: Final = r"[0-9]{1,12}(?:\.[0-9]{1,6})?"
_UNIT: Final = r"[^\s\d.,:;+-][^\d.,:;+-]{0,15}"
_AFTER: Final = re.compile(rf"({_NUMBER})(?:(\s*)({_UNIT}))?")
_BEFORE: Final = re.compile(rf"({_UNIT}?)(\s*)({_NUMBER})")


@dataclass(frozen=True, slots=True)
class Price:
    """`unit` is as it was written, with the blank between it and the number; `before`: it stands before it."""

    amount: Decimal
    unit: str = ""
    before: bool = False

    @property
    def currency(self) -> str:
        """The unit alone, to compare two prices by."""
        return self.unit.strip()

    def times(self, count: int) -> str:
        """So many of it, with the decimals of one: `84.80 EUR`."""
        number = f"{self.amount * count:,}"
        return f"{self.unit}{number}" if self.before else f"{number}{self.unit}"

    def to_come(self, pending: int) -> str:
        """What flows that are not started yet will cost, as the end of a sentence; "" where there is none."""
        return f"; {self.times(pending)} to come for {pending:,}" if pending else ""

    def __str__(self) -> str:
        return self.times(1)


def parse_price(value: object) -> Price:
    """Raises ValueError, with advice. A plain number has no unit."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(ADVICE)
    text = str(value).strip()
    if not text.isprintable():
        raise ValueError(ADVICE)
    if found := _AFTER.fullmatch(text):
        return Price(Decimal(found[1]), f"{found[2] or ''}{found[3] or ''}")
    if found := _BEFORE.fullmatch(text):
        return Price(Decimal(found[3]), f"{found[1]}{found[2]}", before=True)
    comma = re.search(r"\d,\d", text) is not None
    raise ValueError(f"{ADVICE}: the decimals follow a point" if comma else ADVICE)
