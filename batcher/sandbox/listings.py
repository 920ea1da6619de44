"""What the service reads: listings and contents, as generators of bytes that run on a reader's thread.

In: a connection, a query, `Readings`. Out: pieces of JSON; a listing of 1,000,000 assets is never held.
Called through `Database.stream` and `Database.read` by `calls` and `admin`.
"""

from __future__ import annotations

import itertools
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .blocks import Blob, Content, DataUri, File, Joined, json_text
from .glb import make_glb
from .listing_pages import Beside, Page
from .readings import Readings
from .refusals import Refusal
from .render import dump, flow_json, input_members, output_id, output_members
from .states import FLOW_COLUMNS, STATE
from .templates import GLB

_INPUT_COLUMNS = "asset_id, kind, mime, bytes, additional, received_at, fails, broken"
_INPUTS = f"SELECT {_INPUT_COLUMNS}, data FROM inputs WHERE flow = ?"  # fixed text
_INPUTS_WITHOUT_DATA = f"SELECT {_INPUT_COLUMNS} FROM inputs WHERE flow = ?"


@dataclass(frozen=True, slots=True)
class FlowQuery:
    """GET /flows: which, in which order, and which page of them."""

    states: tuple[str, ...] = ()
    sort_by: str = "created_at"
    page: Page = field(default_factory=Page)


def count_flows(db: sqlite3.Connection, query: FlowQuery, readings: Readings) -> tuple[int, int]:
    """How many there are in all, and behind the page."""
    where, values = _where(query)
    total: int = db.execute(f"SELECT COUNT(*) FROM flows WHERE {where}", values).fetchone()[0]  # fixed text
    limit, offset = query.page.rows
    if query.page.after:
        where, values = _after(db, query, readings)
        behind: int = db.execute(f"SELECT COUNT(*) FROM flows WHERE {where}", values).fetchone()[0]
        return total, behind - limit
    return total, total - limit - offset


def list_flows(db: sqlite3.Connection, query: FlowQuery, readings: Readings, beside: Beside) -> Iterator[bytes]:
    """The flows of a page in their envelope."""
    where, values = _after(db, query, readings)
    direction = "DESC" if readings.order == "desc" else "ASC"
    sort_by = "state" if query.sort_by == "status" else query.sort_by
    sql = f"SELECT {FLOW_COLUMNS} FROM flows WHERE {where} ORDER BY {sort_by} {direction}, seq {direction}"
    sql += " LIMIT :limit OFFSET :offset"
    values |= dict(zip(("limit", "offset"), query.page.rows, strict=True))
    items = ((flow_json(row, readings, readings.flow_id, listed=True).encode(),) for row in db.execute(sql, values))
    yield from enveloped("flows", readings.flows, items, beside)


def _after(db: sqlite3.Connection, query: FlowQuery, readings: Readings) -> tuple[str, dict[str, object]]:
    where, values = _where(query)
    if query.page.after:
        row = db.execute("SELECT seq FROM flows WHERE flow_id = ?", (query.page.after,)).fetchone()
        where += f" AND seq {'<' if readings.order == 'desc' else '>'} :seq"
        values["seq"] = -1 if row is None else row[0]
    return where, values


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

    def count(self, db: sqlite3.Connection, page: Page, *, outputs: bool) -> tuple[int, int]:
        """How many there are in all, and behind the page."""
        ids = [row["asset_id"] for row in self._rows(db, _INPUTS_WITHOUT_DATA, outputs)]
        return len(ids), len(ids[self._begins(ids, page, outputs) :]) - (page.limit or 0)

    def list_inputs(self, db: sqlite3.Connection, with_data: bool, page: Page, beside: Beside) -> Iterator[bytes]:
        now = time.time()
        rows = self._page(db, with_data, page, outputs=False)
        members: Callable[[sqlite3.Row], str] = lambda row: input_members(row, self.readings, now)  # noqa: E731
        yield from self._list("inputs", self.readings.inputs, rows, members, self.input_data if with_data else None, beside)

    def list_outputs(self, db: sqlite3.Connection, with_data: bool, page: Page, beside: Beside) -> Iterator[bytes]:
        finished_at = self.flow["finished_at"]
        members: Callable[[sqlite3.Row], str] = lambda row: output_members(row, self.readings, finished_at)  # noqa: E731
        rows = self._page(db, with_data, page, outputs=True)
        yield from self._list("outputs", self.readings.outputs, rows, members, self.output_data if with_data else None, beside)

    def _rows(self, db: sqlite3.Connection, sql: str, outputs: bool) -> Iterator[sqlite3.Row]:
        if outputs:
            return self._made(db, sql)
        return iter(db.execute(sql + " ORDER BY asset_id", (self.flow["seq"],)))

    def _page(self, db: sqlite3.Connection, with_data: bool, page: Page, *, outputs: bool) -> Iterator[sqlite3.Row]:
        """The rows of a page. Those of a list without pages are never held."""
        rows = self._rows(db, _INPUTS if with_data else _INPUTS_WITHOUT_DATA, outputs)
        if page.limit is None:
            return rows
        held = list(rows)
        if self.readings.order == "desc":
            held.reverse()
        begin = self._begins([row["asset_id"] for row in held], page, outputs)
        return iter(held[begin : begin + page.limit])

    @staticmethod
    def _begins(ids: list[str], page: Page, outputs: bool) -> int:
        after = output_id(page.after) if outputs else page.after
        return ids.index(after) + 1 if after in ids else page.offset

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
        glb = make_glb(self.content(row), row["mime"])
        return Joined([glb, Blob(bytes(self.readings.trailing))]) if self.readings.trailing else glb

    def output_data(self, row: sqlite3.Row) -> Iterator[bytes]:
        """The member `data` of an output, without the quotes."""
        return DataUri(GLB, self.glb(row)).blocks()

    def _made(self, db: sqlite3.Connection, sql: str, upto: sqlite3.Row | None = None) -> Iterator[sqlite3.Row]:
        """The inputs that became outputs: all but the failing ones, or the first of them."""
        values: list[object] = [self.flow["seq"]]
        sql += " AND NOT fails"
        limit = self._most(db)
        if upto is not None and limit < 0:
            sql += " AND asset_id = ?"  # one lookup instead of a walk
            values.append(upto["asset_id"])
        yield from db.execute(sql + " ORDER BY asset_id LIMIT ?", (*values, limit))

    def _most(self, db: sqlite3.Connection) -> int:
        """How many outputs the flow has now: fewer where it was aborted, or the readings say so; -1: all."""
        aborted, readings = self.flow["state"] == "aborted", self.readings
        late = readings.output_delay > 0 and time.time() < self.flow["finished_at"] + readings.output_delay
        if not aborted and not late and not readings.fewer:
            return -1
        rows = db.execute("SELECT COUNT(*) FROM inputs WHERE flow = ? AND NOT fails", (self.flow["seq"],))
        count: int = rows.fetchone()[0]
        if aborted:
            return int(count * self.flow["progress"])
        return 1 if late else max(0, count - readings.fewer)

    def _list(
        self,
        name: str,
        envelope: str,
        rows: Iterator[sqlite3.Row],
        members: Callable[[sqlite3.Row], str],
        data: Callable[[sqlite3.Row], Iterator[bytes]] | None,
        beside: Beside,
    ) -> Iterator[bytes]:
        def item(row: sqlite3.Row) -> Iterator[bytes]:
            yield members(row).encode()
            if data is not None:
                yield b',"data":"'
                yield from data(row)
                yield b'"'
            yield b"}"

        yield from enveloped(name, envelope, map(item, rows), beside, f'"flow_id":"{self.flow["flow_id"]}",')


def enveloped(
    name: str, reading: str, items: Iterator[Iterable[bytes]], beside: Beside, members: str = ""
) -> Iterator[bytes]:
    """The items of a listing in an envelope of `readings.ENVELOPES`, with what stands beside them."""
    first = next(items, None)
    nothing = reading == "null" and first is None
    head, tail = "[", "]"
    if reading == "bare":
        pass
    elif reading == "data":
        head, tail = f'{{{members}{beside.before}"data":{{"{name}":[', f"]}}{beside.after}}}"
    else:
        warnings = '"warnings":[],' if reading == "warnings" else ""
        spelled = "items" if reading == "items" else name
        head = f'{{{members}{warnings}{beside.before}"{spelled}":' + ("null" if nothing else "[")
        tail = ("" if nothing else "]") + beside.after + "}"
    yield head.encode()
    separator = b""
    for item in itertools.chain(() if first is None else (first,), items):
        yield separator
        yield from item
        separator = b","
    yield tail.encode()


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
