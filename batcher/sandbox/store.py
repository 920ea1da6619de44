"""What the service writes: flows and inputs, each change one function that runs inside a transaction.

In: a connection and the values of one call. Out: ids and rows, or a `Refusal`. All of it runs on the one writer
thread, so that a check and the write after it are one step: a flow cannot be started twice, however calls race.
Called through `Database.write` by `calls`.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .intake import Asset
from .readings import Readings
from .refusals import Refusal, invalid
from .states import FLOW_COLUMNS, LEGAL
from .templates import TEXT, Template, find_template

_SELECT_FLOW = f"SELECT {FLOW_COLUMNS} FROM flows WHERE flow_id = :flow_id AND deleted_at IS NULL"

_ids = itertools.count()
_process = os.urandom(5).hex()


def new_id() -> str:
    """24 hex digits, ascending while the process lives: time, process, counter, as in MongoDB's ObjectId."""
    return f"{int(time.time()):08x}{_process}{next(_ids) & 0xFFFFFF:06x}"


def find_flow(db: sqlite3.Connection, flow_id: str) -> sqlite3.Row:
    """The flow as it is now. Raises a Refusal (404)."""
    row: sqlite3.Row | None = db.execute(_SELECT_FLOW, {"flow_id": flow_id, "now": time.time()}).fetchone()
    if row is None:
        raise Refusal(404, "Flow not found")
    return row


def require(row: sqlite3.Row, action: str, status: int) -> None:
    """Raises a Refusal unless `action` is legal in the flow's state (states, LEGAL)."""
    if row["state"] not in LEGAL[action]:
        raise Refusal(status, f"Cannot {action}: flow is {row['state']}, not {' or '.join(LEGAL[action])}")


class Writes:
    """The writes, and the folder where large contents are."""

    def __init__(self, assets: Path) -> None:
        self._assets = assets

    def path(self, asset_id: str) -> Path:
        return self._assets / asset_id

    def sweep(self, db: sqlite3.Connection) -> None:
        """Removes files that no row names: a kill came between the file and its row, or during a delete."""
        named = "SELECT 1 FROM inputs JOIN flows ON flows.seq = flow WHERE asset_id = ? AND data IS NULL AND deleted_at IS NULL"
        for entry in os.scandir(self._assets):
            if db.execute(named, (entry.name,)).fetchone() is None:
                os.unlink(entry.path)

    def create(
        self,
        db: sqlite3.Connection,
        template: str,
        parameters: str,
        additional: str,
        assets: Sequence[Asset] | None,
        readings: Readings,
        processing_s: float,
        *,
        fails: bool,
    ) -> sqlite3.Row:
        """A new flow; with `assets` (even none) it starts at once."""
        kind = find_template(template)
        for index, asset in enumerate(assets or ()):
            _check(asset, kind, readings, ["inputs", index])
        if assets is not None and not assets and readings.empty_start != 200:
            raise invalid(["inputs"], "Flow has no inputs", status=readings.empty_start)
        flow_id = new_id()
        insert = "INSERT INTO flows (flow_id, template, parameters, additional, created_at) VALUES (?, ?, ?, ?, ?)"
        flow = db.execute(insert, (flow_id, kind.name, parameters, additional, time.time())).lastrowid
        for asset in assets or ():
            self._insert(db, flow, asset)
        if assets is not None:
            self._set_started(db, flow, processing_s, fails)
        return find_flow(db, flow_id)

    def upload(self, db: sqlite3.Connection, flow_id: str, asset: Asset, readings: Readings) -> str:
        """Adds an input to a flow; returns its id."""
        row = find_flow(db, flow_id)
        require(row, "upload", readings.illegal)
        _check(asset, find_template(row["template"]), readings, [])
        return self._insert(db, row["seq"], asset)

    def start(
        self, db: sqlite3.Connection, flow_id: str, readings: Readings, processing_s: float, *, fails: bool
    ) -> sqlite3.Row:
        """created -> starting, once."""
        row = find_flow(db, flow_id)
        db.execute("UPDATE flows SET start_requests = start_requests + 1 WHERE seq = ?", (row["seq"],))
        if row["state"] != "created":
            if readings.start_twice == 200:
                return row
            require(row, "start", readings.start_twice)
        has_input = db.execute("SELECT 1 FROM inputs WHERE flow = ? LIMIT 1", (row["seq"],)).fetchone()
        if has_input is None and readings.empty_start != 200:
            raise invalid(["action"], "Flow has no inputs", status=readings.empty_start)
        self._set_started(db, row["seq"], processing_s, fails)
        return find_flow(db, flow_id)

    def abort(self, db: sqlite3.Connection, flow_id: str, readings: Readings) -> sqlite3.Row:
        """starting or running -> aborting."""
        row = find_flow(db, flow_id)
        require(row, "abort", readings.illegal)
        db.execute("UPDATE flows SET aborted_at = ? WHERE seq = ?", (time.time(), row["seq"]))
        return find_flow(db, flow_id)

    def delete(self, db: sqlite3.Connection, flow_id: str, readings: Readings) -> list[Path]:
        """Removes a flow with its contents from the API. Returns the files to remove once that is committed."""
        row = find_flow(db, flow_id)
        require(row, "delete", readings.illegal)
        large = "SELECT asset_id FROM inputs WHERE flow = ? AND data IS NULL"
        files = [self.path(each["asset_id"]) for each in db.execute(large, (row["seq"],))]
        db.execute("UPDATE flows SET deleted_at = ? WHERE seq = ?", (time.time(), row["seq"]))
        db.execute("UPDATE inputs SET data = NULL WHERE flow = ? AND data IS NOT NULL", (row["seq"],))
        return files

    def _insert(self, db: sqlite3.Connection, flow: Any, asset: Asset) -> str:
        asset_id = new_id()
        if asset.path is not None:
            # Before the row: a row whose file is missing would be half an input, a file without row is swept away.
            os.rename(asset.path, self.path(asset_id))
            asset.path = None
        db.execute(
            "INSERT INTO inputs"
            " (flow, asset_id, kind, mime, sha256, bytes, additional, received_at, fails, broken, data)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                flow,
                asset_id,
                asset.kind,
                asset.mime,
                asset.sha256,
                asset.size_bytes,
                asset.additional,
                time.time(),
                asset.fails,
                asset.broken,
                asset.blob,
            ),
        )
        return asset_id

    def _set_started(self, db: sqlite3.Connection, flow: Any, processing_s: float, fails: bool) -> None:
        db.execute(
            "UPDATE flows SET started_at = ?, processing_s = ?, starts = starts + 1,"
            " fails = ? OR EXISTS (SELECT 1 FROM inputs WHERE flow = flows.seq AND fails) WHERE seq = ?",
            (time.time(), processing_s, fails, flow),
        )


def _check(asset: Asset, template: Template, readings: Readings, loc: list[str | int]) -> None:
    """Raises a Refusal if the asset is no input for the template."""
    if asset.problem is not None:
        raise asset.problem
    if asset.kind == "text" and not template.takes_text:
        raise invalid([*loc, "data"], "Data should be a data URI: data:<MIME>;base64,<data>")
    if asset.kind == "file" and template.takes_text:
        raise invalid([*loc, "data"], "Data should be plain text, not a data URI")
    if not template.takes(asset.mime):
        allowed = ", ".join(each for each in template.types if each != TEXT)
        message = f"MIME type {asset.mime} is not supported by {template.name}; supported: {allowed}"
        raise invalid([*loc, "data"], message, "mime_type", status=readings.bad_mime)
