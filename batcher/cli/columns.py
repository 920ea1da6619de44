"""Text in columns of a terminal. In: harmless texts. Out: texts of a bounded width. Called by the commands that draw tables.

`wcwidth` tells how wide characters are: emoji of several code points, combining marks, East Asian ones. It is imported for a
text that is not ASCII only: that takes 25 ms.
"""

from __future__ import annotations


def width(text: str) -> int:
    """Columns that a terminal takes for the text."""
    if text.isascii():
        return len(text)
    import wcwidth

    return wcwidth.width(text)


def fit(text: str, columns: int, *, pad: bool = False) -> str:
    """At most so many columns: of a longer text the middle is left out, for the ends of names tell them apart. `pad`: exactly
    so many, filled up with blanks."""
    taken = width(text)
    if taken > columns:
        right = (columns - 1) // 2
        head, tail = _part(text, 0, columns - 1 - right), _part(text, taken - right, taken)
        text, taken = f"{head}…{tail}", width(head) + 1 + width(tail)
    return text + " " * (columns - taken) if pad else text


def _part(text: str, start: int, end: int) -> str:
    """What lies within these columns; a character that lies across an edge is left out."""
    if text.isascii():
        return text[start:end]
    import wcwidth

    return wcwidth.clip(text, start, end, fillchar="")
