"""The named statements of `queries.sql`, read once. Called by the modules here that speak SQL."""

from __future__ import annotations

import logging
import pkgutil
import re
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary

import psycopg

from ..queries import parse

Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"
Statement: TypeAlias = "tuple[str, Sequence[Any]]"  # its name, and its values

logging.getLogger("psycopg").addHandler(logging.NullHandler())  # what it warns of, batcher says in its own words

_MARK: Final = re.compile("%s")
_prepared: WeakKeyDictionary[Connection, set[str]] = WeakKeyDictionary()  # what each connection has plans for

_TEXT: Final = (pkgutil.get_data(__package__, "queries.sql") or b"").decode()
SQL: Final = {name: statement.encode() for name, statement in parse(_TEXT).items()}


def together(connection: Connection, *statements: Statement) -> list[list[tuple[Any, ...]]]:
    """The rows of each of several statements, which are sent as one message, within a transaction that goes on. Raises
    psycopg.Error.

    The server takes a message up once it has all of it, and between two messages it measures how long a run is idle within its
    transaction. So a run that freezes anywhere keeps its locks for a bounded time; in a pipeline, where locks are had before
    its end was sent, that would be for ever. The plans are made once: that is half of what small statements cost."""
    _prepare(connection, dict.fromkeys(name for name, _ in statements))
    binder = psycopg.ClientCursor(connection)
    text = ";\n".join(binder.mogrify(*_call(name, values)) for name, values in statements)
    cursor = connection.execute(text.encode(), prepare=False)
    found = [cursor.fetchall() if cursor.description is not None else []]
    while cursor.nextset():
        found.append(cursor.fetchall() if cursor.description is not None else [])
    return found


def _prepare(connection: Connection, names: Iterable[str]) -> None:
    known = _prepared.setdefault(connection, {"begin", "commit"})
    if new := [name for name in names if name not in known]:
        try:
            connection.execute(";\n".join(f"PREPARE {name} AS {_numbered(name)}" for name in new).encode(), prepare=False)
        except psycopg.Error:
            connection.close()  # some may have a plan now: it outlives what was rolled back
            raise
        known.update(new)


def _call(name: str, values: Sequence[Any]) -> tuple[bytes, Sequence[Any]]:
    if not values:
        return SQL[name] if name in ("begin", "commit") else f"EXECUTE {name}".encode(), ()
    return f"EXECUTE {name}({', '.join(['%s'] * len(values))})".encode(), values


def _numbered(name: str) -> str:
    """The statement with $1, $2 and so on."""
    numbers = count(1)
    return _MARK.sub(lambda mark: f"${next(numbers)}", SQL[name].decode())


def ask(connection: Connection, name: str, *values: object) -> list[tuple[Any, ...]]:
    """The rows of one statement. Raises psycopg.Error."""
    return connection.execute(SQL[name], values, binary=True).fetchall()
