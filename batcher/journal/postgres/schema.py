"""The schema's versions: numbered files of statements, from none to today's.

In: a connection whose search path is the journal's schema. Out: its tables as they are today. Two hosts that make them at once
wait for one another: one does it. The version stands in `schema_version`. Called when a journal is opened, or looked at.
"""

from __future__ import annotations

import hashlib
from typing import Final

from psycopg import sql

from ...core.errors import JournalError
from ...host.failpoint import failpoint
from .address import DatabaseAddress
from .statements import SQL, Connection, ask

SCHEMA: Final = 3  # as many files as there are


def lock_key(schema: str, what: str) -> int:
    """Of an advisory lock: 64 bits with their sign."""
    digest = hashlib.blake2b(f"batcher {what} {schema}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


def version_of(connection: Connection, address: DatabaseAddress) -> int:
    """0: there is nothing yet. Raises JournalError where it is newer than this program."""
    if not ask(connection, "has_tables", address.schema):
        return 0
    table = sql.Identifier(address.schema, "schema_version").as_bytes()
    rows = connection.execute(SQL["version"] + table).fetchall()
    version = int(rows[0][0]) if rows else 0
    if version > SCHEMA:
        raise JournalError(f"the journal {address} was written by a newer batcher (schema {version})", "update batcher")
    return version


def migrate(connection: Connection, address: DatabaseAddress) -> None:
    """To today's version, in one transaction. Raises psycopg.Error, JournalError."""
    if version_of(connection, address) == SCHEMA:
        return
    with connection.transaction():
        ask(connection, "lock_migration", lock_key(address.schema, "migration"))
        version = version_of(connection, address)  # another host may have been at it
        if version == SCHEMA:
            return
        if not ask(connection, "schema", address.schema):  # to ask for one that is there needs rights on the database
            connection.execute(SQL["make_schema"] + sql.Identifier(address.schema).as_bytes())
        for number in range(version + 1, SCHEMA + 1):
            connection.execute(_migration(number))
            failpoint("in migration")
        connection.execute(SQL["put_version"], (SCHEMA,))


def _migration(number: int) -> bytes:
    """The statements that make version `number` of the one before it."""
    from importlib import resources  # only where something is to be migrated

    folder = resources.files(__package__).joinpath("migrations")
    (file,) = (file for file in folder.iterdir() if file.name.startswith(f"{number:04}_"))
    return file.read_bytes()
