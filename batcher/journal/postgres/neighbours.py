"""Which other journals lie in the same database.

In: an address. Out: each journal's address, what it says of itself, and whether it knows any flow. Called by `open.py`, for a
manifest that was renamed and for completion.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace

import psycopg
from psycopg import sql

from ...core.model import Manifest
from ..siblings import Sibling
from .address import DatabaseAddress
from .line import OPEN_S, Line, Patience, user_error
from .statements import SQL, Connection, ask


@dataclass(frozen=True, slots=True)
class Neighbour:
    address: DatabaseAddress
    about: Mapping[str, str]
    has_flows: bool


def neighbours(address: DatabaseAddress) -> list[Neighbour]:
    """All journals of the database that may be read, in the order of their schemas; that of `address` is one of them. Raises as
    `PostgresReader`."""
    with closing(Line(address, Patience(OPEN_S))) as line:
        try:
            line.open()
            return line.do(lambda connection: list(_found(connection, address)))
        except psycopg.Error as error:
            raise user_error(address, error, "read") from error


def _found(connection: Connection, address: DatabaseAddress) -> Iterator[Neighbour]:
    for (schema,) in ask(connection, "journals"):
        connection.execute(SQL["set_session"], (["search_path"], [sql.Identifier(schema).as_string()]))
        about = ask(connection, "meta", "about")
        has_flows = bool(ask(connection, "any_flow")[0][0])
        yield Neighbour(replace(address, schema=schema), json.loads(about[0][0]) if about else {}, has_flows)


def siblings_of(manifest: Manifest, address: DatabaseAddress) -> Iterator[Sibling]:
    """The other journals of the manifest's endpoint with flows, as long as its own, at `address`, has none."""
    found = [one for one in neighbours(address) if one.has_flows]
    if any(one.address.schema == address.schema for one in found):
        return
    for one in found:
        if one.about.get("endpoint") == manifest.endpoint:
            was = one.about["manifest"]
            yield Sibling(one.address, was, one.about["batch"], os.path.dirname(was) == manifest.folder, True)
