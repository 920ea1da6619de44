"""Values as people read them, in a terminal and on the report's page: names, numbers, sizes, times.

In: values. Out: text that is safe to print: a name may be hostile, and a terminal or a page obeys control characters.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from ..core.text import OBEYED

_HARMFUL: Final = re.compile(f"[\n{OBEYED}]")  # a line end, too: it would change what stands around the name


def shown(name: str) -> str:
    """A name with what is harmful in it spelled out, as \\u202e."""
    return _HARMFUL.sub(lambda match: f"\\u{ord(match[0]):04x}", name)


def width(text: str) -> int:
    """Columns on a terminal: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(_columns(char) for char in text)


def _columns(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Cf", "Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def fit(text: str, columns: int) -> str:
    """Cut in the middle to so many columns, and filled up with blanks: the ends of names tell them apart."""
    if width(text) > columns:
        right = (columns - 1) // 2
        text = f"{_head(text, columns - 1 - right)}…{_head(text[::-1], right)[::-1]}"
    return text + " " * (columns - width(text))


def _head(text: str, columns: int) -> str:
    for n, char in enumerate(text):
        columns -= _columns(char)
        if columns < 0:
            return text[:n]
    return text


def count(number: float) -> str:
    """Thousands set apart by a narrow blank, which every language can read."""
    return f"{number:,.0f}".replace(",", "\u202f")


def span(seconds: float) -> str:
    """A duration: 340 ms, 12.5 s, 4 min 05 s, 3 h 20 min, 2 d 4 h."""
    if seconds < 0.9995:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
