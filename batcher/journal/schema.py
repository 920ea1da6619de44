"""The schema's versions: numbered files of statements, from none to today's.

In: a connection. Out: the same database in today's schema; a journal that only is to be read is brought there in a private
copy. The version stands in `PRAGMA user_version`. Called when a journal is opened, or looked at.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Final

from ..core.errors import JournalError
from ..host.failpoint import failpoint
from .rows import advice

SCHEMA: Final = 8  # as many files as there are


def migration(number: int) -> list[str]:
    """The statements that make version `number` of the one before it. Raises ValueError where there is no such file."""
    from importlib import resources  # only where something is to be migrated

    folder = resources.files(__package__).joinpath("migrations")
    (file,) = (file for file in folder.iterdir() if file.name.startswith(f"{number:04}_"))
    return statements(file.read_text("utf-8"))


def statements(text: str) -> list[str]:
    """The statements of a script, each of which ends with a semicolon at the end of a line, and comments. Raises ValueError
    where something is left over."""
    found: list[str] = []
    begun = ""
    for line in text.splitlines(keepends=True):
        begun += line
        if sqlite3.complete_statement(begun):
            found.append(begun.strip())
            begun = ""
    if begun.strip():
        raise ValueError(f"no statement: {begun.strip()[:60]}")
    return found


def version_of(connection: sqlite3.Connection, path: Path) -> int:
    """0: nothing is in it yet. Raises JournalError where it is newer, or no database at all."""
    try:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error as error:
        raise JournalError(f"{path} is not a journal that can be read: {error}", advice(error)) from error
    if version > SCHEMA:
        raise JournalError(f"the journal {path} was written by a newer batcher (schema {version})", "update batcher")
    return version


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """From that version to today's, in one transaction. Raises sqlite3.Error, ValueError."""
    if version == SCHEMA:
        return
    steps = [statement for number in range(version + 1, SCHEMA + 1) for statement in migration(number)]
    for statement in ("BEGIN IMMEDIATE", *steps, f"PRAGMA user_version={SCHEMA}", "COMMIT"):
        connection.execute(statement)
        failpoint("in migration")


def readable(connection: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    """The same journal in today's schema, for reading: the connection itself, or, where an older batcher wrote it, one to a
    copy of its own, on disk, that goes away when it is closed; the journal stays as it is. Raises JournalError."""
    version = version_of(connection, path)
    if version in (0, SCHEMA):  # 0: nothing is there to be read, and whoever asks is told so
        return connection
    with contextlib.closing(connection), contextlib.ExitStack() as opened:
        try:
            copy = opened.enter_context(contextlib.closing(_private()))
            connection.backup(copy)
            migrate(copy, version)
        except (sqlite3.Error, ValueError) as error:
            raise JournalError(f"the journal {path} cannot be read: {error}", advice(error)) from error
        opened.pop_all()
        return copy


def _private() -> sqlite3.Connection:
    """A database without a name: in memory, and from some size on in the folder for temporary files."""
    return sqlite3.connect("", isolation_level=None, check_same_thread=False)
