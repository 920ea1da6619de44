"""The named statements of `queries.sql`, read once.

In: the file in the package. Out: `SQL[name]`, and the forms that take many values. Called by the modules of this room that
speak SQL; no other place has a statement, but for the migrations and pragmas.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, TypeVar

VALUES_MAX: Final = 500  # in an IN list: SQLite takes 999 variables in its older builds
_MANY: Final = "(?...)"
_VALUES: Final = re.compile(r"(VALUES )(\([?, ]+\))")

T = TypeVar("T")


def parse(text: str) -> dict[str, str]:
    """Statements by the `-- name:` before each, without its comments and its semicolon. Raises ValueError where one stands
    twice, or does not end with its semicolon."""
    found: dict[str, str] = {}
    for part in text.split("\n-- name: ")[1:]:
        name, _, body = part.partition("\n")
        statement = " ".join(line.strip() for line in body.splitlines() if line.strip() and not line.startswith("--"))
        if name in found or not statement.endswith(";") or ";" in statement[:-1]:
            raise ValueError(f"queries.sql: {name} must stand once, as one statement")
        found[name] = statement[:-1]
    return found


# By pkgutil, which is imported in a millisecond; importlib.resources, which the migrations are found with, takes ten.
SQL: Final = parse((pkgutil.get_data(__package__, "queries.sql") or b"").decode())


@lru_cache(maxsize=128)
def of_many(name: str, count: int) -> str:
    """The statement with so many marks in its list."""
    return SQL[name].replace(_MANY, f"({','.join('?' * count)})")


def of_rows(name: str, count: int) -> str:
    """The INSERT for so many rows at once."""
    return _VALUES.sub(lambda found: found[1] + ",".join([found[2]] * count), SQL[name])


def parts(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """As many of the values as one statement takes, one part after the other."""
    for start in range(0, len(values), VALUES_MAX):
        yield values[start : start + VALUES_MAX]
