"""The named statements of `queries.sql`, read once. Called by the modules here that speak SQL."""

from __future__ import annotations

import pkgutil
from typing import Any, Final, TypeAlias

import psycopg

from ..queries import parse

Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

_TEXT: Final = (pkgutil.get_data(__package__, "queries.sql") or b"").decode()
SQL: Final = {name: statement.encode() for name, statement in parse(_TEXT).items()}


def ask(connection: Connection, name: str, *values: object) -> list[tuple[Any, ...]]:
    """The rows of one statement. Raises psycopg.Error."""
    return connection.execute(SQL[name], values, binary=True).fetchall()
