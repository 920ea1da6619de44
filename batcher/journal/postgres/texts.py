"""Texts that PostgreSQL cannot hold: a NUL, and half a surrogate pair (a service's reply may have either).

In: any Python string. Out: one that it can hold, and the same string back. What is escaped sorts elsewhere, and always at the
same place. Called for every text on its way into the database, and out of it.
"""

from __future__ import annotations

import re
from typing import Any, Final

ESCAPE: Final = "\x1a"  # the control character for a substitute; four hexadecimal digits follow
_UNFIT: Final = re.compile(f"[\0{ESCAPE}\ud800-\udfff]")
_ESCAPED: Final = re.compile(f"{ESCAPE}([0-9a-f]{{4}})")


def stored(text: str) -> str:
    return _UNFIT.sub(lambda found: f"{ESCAPE}{ord(found[0]):04x}", text)


def original(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text) if ESCAPE in text else text


def stored_all(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple([stored(value) if type(value) is str else value for value in values])


def original_all(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple([original(value) if type(value) is str else value for value in values])
