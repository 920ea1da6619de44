"""Text of others, made fit to be shown: on one line, without what a terminal would obey, of a bounded length.

In: names, messages of services, values of a manifest. Out: text that can stand in a message. Called by every room that says
something; no I/O.
"""

from __future__ import annotations

import re
from typing import Final

# For a character class of a pattern: what a terminal obeys, or shows as something else. Control characters but for line
# ends, escapes, marks that turn the direction of writing, line separators, and halves of characters, as names of files that
# are not UTF-8 are read.
OBEYED: Final = "\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
_HARMFUL: Final = re.compile(f"[\n{OBEYED}]")  # a line end, too: it would change what stands around the name


def shown(name: str) -> str:
    """A name with what is harmful in it spelled out, as \\u202e, for a page or a table."""
    return _HARMFUL.sub(lambda match: f"\\u{ord(match[0]):04x}", name)


def escaped(text: str) -> str:
    """The text with every character spelled out that is not printable, line ends too: `\\x1b`, `\\n`, `\\u202e`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def shortened(text: str, most_chars: int) -> str:
    """The beginning of the text, of at most so many characters; the last is `…` where something was left out."""
    return text if len(text) <= most_chars else text[: most_chars - 1] + "…"


def harmless(text: str, most_chars: int) -> str:
    """The text on one line: shortened first, for what is spelled out takes more characters than it had."""
    return escaped(shortened(text, most_chars))


def size(count: float) -> str:
    """Bytes for people: 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
