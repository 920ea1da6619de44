"""The named statements of the crew and its queue, read once from `crew.sql`, and what sends one."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from typing import Any, Final

from ..queries import parse
from .link import Connection

_TEXT: Final = (pkgutil.get_data(__package__, "crew.sql") or b"").decode()
SQL: Final = {name: statement.encode() for name, statement in parse(_TEXT).items()}


async def execute(connection: Connection, name: str, values: Mapping[str, object]) -> None:
    """Raises psycopg.Error, as all here."""
    await connection.execute(SQL[name], values)


async def rows(connection: Connection, name: str, values: Mapping[str, object] = {}) -> list[tuple[Any, ...]]:
    """All rows of one statement."""
    return await (await connection.execute(SQL[name], values)).fetchall()


async def row(connection: Connection, name: str, values: Mapping[str, object] = {}) -> tuple[Any, ...]:
    """The first row of one that has some."""
    return (await rows(connection, name, values))[0]
