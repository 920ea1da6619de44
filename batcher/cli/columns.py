"""Text in columns of a terminal. In: texts. Out: texts of a bounded width. Called by the commands that draw tables."""

from __future__ import annotations

import unicodedata

from ..core.text import escaped


def width(text: str) -> int:
    """Columns that a terminal takes for `text`: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(_columns(char) for char in text)


def _columns(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Cf", "Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def fit(text: str, columns: int, *, pad: bool = False) -> str:
    """`text` in at most `columns`, its middle left out where it is longer; on one line, without control characters."""
    text = escaped(text)
    taken = width(text)
    if taken > columns:
        head = (columns - 1) // 2
        left, right = _cut(text, head), _cut(text[::-1], columns - 1 - head)[::-1]
        text = f"{left}…{right}"
        taken = width(text)
    return text + " " * (columns - taken) if pad else text


def _cut(text: str, columns: int) -> str:
    taken = 0
    for index, char in enumerate(text):
        taken += _columns(char)
        if taken > columns:
            return text[:index]
    return text


def counted(count: int, what: str) -> str:
    """`1 input`, `2,000 inputs`."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")
