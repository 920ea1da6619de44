"""What the service reads: listings and contents, as generators of bytes that run on a reader's thread.

In: a connection, a query, `Readings`. Out: pieces of JSON; a listing of 1,000,000 assets is never held.
Called through `Database.stream` and `Database.read` by `calls` and `admin`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .content import Blob, Content, DataUri, File, json_text
from .errors import Refusal
from .glb import make_glb
from .readings import Readings
from .render import dump, flow_json, input_members, output_id, output_members
from .states import FLOW_COLUMNS, STATE
from .templates import GLB

_INPUT_COLUMNS = "asset_id, kind, mime, bytes, additional, received_at, fails, broken"
_INPUTS = f"SELECT {_INPUT_COLUMNS}, data FROM inputs WHERE flow = ?"  # fixed text
_INPUTS_WITHOUT_DATA = f"SELECT {_INPUT_COLUMNS} FROM inputs WHERE flow = ?"


@dataclass(frozen=True, slots=True)
class FlowQuery:
    """GET /flows: which, in which order, and which page of them (`limit` None: all)."""

    states: tuple[str, ...] = ()
    sort_by: str = "created_at"
    limit: int | None = None
    offset: int = 0


def count_flows(db: sqlite3.Connection, query: FlowQuery) -> int:
    where, values = _where(query)
    total: int = db.execute(f"SELECT COUNT(*) FROM flows WHERE {where}", values).fetchone()[0]  # fixed text
    return total


def list_flows(db: sqlite3.Connection, query: FlowQuery, readings: Readings, head: str, tail: str) -> Iterator[bytes]:
    """The flows of a page between `head` and `tail`."""
    where, values = _where(query)
    direction = "DESC" if readings.order == "desc" else "ASC"
    sort_by = "state" if query.sort_by == "status" else query.sort_by
    sql = f"SELECT {FLOW_COLUMNS} FROM flows WHERE {where} ORDER BY {sort_by} {direction}, seq {direction}"
    sql += " LIMIT :limit OFFSET :offset"
    values |= {"limit": -1 if query.limit is None else query.limit, "offset": query.offset}
    yield head.encode()
    separator = ""
    for row in db.execute(sql, values):
        yield (separator + flow_json(row, readings, readings.flow_id, listed=True)).encode()
        separator = ","
    yield tail.encode()


def _where(query: FlowQuery) -> tuple[str, dict[str, object]]:
    values: dict[str, object] = {"now": time.time()}
    where = "deleted_at IS NULL"
    if query.states:
        values |= {f"state{index}": state for index, state in enumerate(query.states)}
        where += f" AND {STATE} IN ({', '.join(f':state{index}' for index in range(len(query.states)))})"
    return where, values


@dataclass(frozen=True, slots=True)
class Assets:
    """The assets of one flow, as inputs or as the outputs made from them."""

    flow: sqlite3.Row
    folder: Path  # where large contents are
    readings: Readings

    def list_inputs(self, db: sqlite3.Connection, with_data: bool) -> Iterator[bytes]:
        now = time.time()
        rows = db.execute((_INPUTS if with_data else _INPUTS_WITHOUT_DATA) + " ORDER BY asset_id", (self.flow["seq"],))
        members: Callable[[sqlite3.Row], str] = lambda row: input_members(row, self.readings, now)  # noqa: E731
        yield from self._list("inputs", self.readings.inputs, rows, members, self.input_data if with_data else None)

    def list_outputs(self, db: sqlite3.Connection, with_data: bool) -> Iterator[bytes]:
        finished_at = self.flow["finished_at"]
        members: Callable[[sqlite3.Row], str] = lambda row: output_members(row, self.readings, finished_at)  # noqa: E731
        rows = self._made(db, _INPUTS if with_data else _INPUTS_WITHOUT_DATA)
        yield from self._list("outputs", self.readings.outputs, rows, members, self.output_data if with_data else None)

    def find_input(self, db: sqlite3.Connection, asset_id: str) -> sqlite3.Row:
        """The row of an input. Raises a Refusal (404)."""
        sql = _INPUTS + " AND asset_id = ?"
        row: sqlite3.Row | None = db.execute(sql, (self.flow["seq"], asset_id)).fetchone()
        if row is None:
            raise Refusal(404, "Asset not found")
        return row

    def find_output(self, db: sqlite3.Connection, asset_id: str) -> sqlite3.Row:
        """The row of the input that the output was made from. Raises a Refusal (404)."""
        row = self.find_input(db, output_id(asset_id))
        if not any(made["asset_id"] == row["asset_id"] for made in self._made(db, _INPUTS_WITHOUT_DATA, upto=row)):
            raise Refusal(404, "Asset not found")
        return row

    def content(self, row: sqlite3.Row) -> Content:
        if row["data"] is not None:
            return Blob(row["data"])
        return File(self.folder / row["asset_id"], row["bytes"])

    def input_data(self, row: sqlite3.Row) -> Iterator[bytes]:
        """The member `data` of an input as it stands in JSON, without the quotes."""
        content = self.content(row)
        return DataUri(row["mime"], content).blocks() if row["kind"] == "file" else json_text(content)

    def glb(self, row: sqlite3.Row) -> Content:
        return make_glb(self.content(row), row["mime"])

    def output_data(self, row: sqlite3.Row) -> Iterator[bytes]:
        """The member `data` of an output, without the quotes."""
        return DataUri(GLB, self.glb(row)).blocks()

    def _made(self, db: sqlite3.Connection, sql: str, upto: sqlite3.Row | None = None) -> Iterator[sqlite3.Row]:
        """The inputs that became outputs: all but the failing ones; of an aborted flow the first ones."""
        values: list[object] = [self.flow["seq"]]
        sql += " AND NOT fails"
        if upto is not None and self.flow["state"] != "aborted":
            sql += " AND asset_id = ?"  # one lookup instead of a walk
            values.append(upto["asset_id"])
        limit = -1
        if self.flow["state"] == "aborted":
            count = db.execute("SELECT COUNT(*) FROM inputs WHERE flow = ? AND NOT fails", (self.flow["seq"],))
            limit = int(count.fetchone()[0] * self.flow["progress"])
        yield from db.execute(sql + " ORDER BY asset_id LIMIT ?", (*values, limit))

    def _list(
        self,
        name: str,
        envelope: str,
        rows: Iterator[sqlite3.Row],
        members: Callable[[sqlite3.Row], str],
        data: Callable[[sqlite3.Row], Iterator[bytes]] | None,
    ) -> Iterator[bytes]:
        head, tail = envelope_of(name, envelope, f'"flow_id":"{self.flow["flow_id"]}",')
        yield head.encode()
        separator = ""
        for row in rows:
            yield (separator + members(row)).encode()
            if data is not None:
                yield b',"data":"'
                yield from data(row)
                yield b'"'
            yield b"}"
            separator = ","
        yield tail.encode()


def envelope_of(name: str, reading: str, members: str = "", tail: str = "") -> tuple[str, str]:
    """What stands before and after the items of a listing, in the reading `named`, `bare` or `items`."""
    if reading == "bare":
        return "[", "]"
    return f'{{{members}"{name if reading == "named" else "items"}":[', f"]{tail}}}"


def record_of_flows(db: sqlite3.Connection) -> Iterator[bytes]:
    """Every flow that ever was, with its inputs: the judge's view. A JSON list."""
    sql = f"SELECT {FLOW_COLUMNS}, starts, start_requests, deleted_at FROM flows ORDER BY seq"  # fixed text
    columns = "asset_id, sha256, bytes, mime, additional, received_at, kind"
    inputs = f"SELECT {columns} FROM inputs WHERE flow = ? ORDER BY asset_id"
    yield b"["
    separator = ""
    for flow in db.execute(sql, {"now": time.time()}):
        members = {name: flow[name] for name in ("flow_id", "template", "state", "starts", "start_requests")}
        members |= {"deleted": flow["deleted_at"] is not None}
        members |= {name: flow[name] for name in ("created_at", "started_at")}
        yield (
            f'{separator}{dump(members)[:-1]},"parameters":{flow["parameters"]},"additional":{flow["additional"]},"inputs":['
        ).encode()
        separator = ",\n"
        comma = ""
        for row in db.execute(inputs, (flow["seq"],)):
            asset = {name: row[name] for name in ("asset_id", "sha256", "bytes", "mime", "received_at", "kind")}
            yield f'{comma}{dump(asset)[:-1]},"additional":{row["additional"]}}}'.encode()
            comma = ","
        yield b"]}"
    yield b"]"
