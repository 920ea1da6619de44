"""Flows and assets as JSON text, in the words of the readings.

In: rows and `Readings`. Out: `str`, put together from JSON that is stored as it was sent, so that `additional` is
copied verbatim and a listing of a million assets costs no parser. Called by `listings` and `calls`.
"""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from typing import Final

from .readings import Readings


def dump(value: object) -> str:
    """Compact JSON that can be stored and sent as UTF-8."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair: JSON has an escape for it, UTF-8 has nothing
        return json.dumps(value, separators=(",", ":"))
    return text


WHY: Final = "out of memory while meshing"  # of every failed flow


def flow_json(row: sqlite3.Row, readings: Readings, id_reading: str, *, listed: bool = False) -> str:
    """A flow; `id_reading`: `id`, `flow_id` or `both`; `listed`: in GET /flows."""
    return (
        "{"
        + _id_members(id_reading, "flow_id", row["flow_id"])
        + f',"template":"{row["template"]}"'
        + state_members(row, readings)
        + f',"progress":{row["progress"]:.4f}'
        + f',"created_at":{_time(row["created_at"], readings)}'
        + f',"started_at":{_time(row["started_at"], readings)}'
        + f',"finished_at":{_time(row["finished_at"], readings)}'
        + (_reason(readings) if row["state"] == "failed" and readings.reason_in != ("flow" if listed else "flows") else "")
        + f',"parameters":{row["parameters"]},"additional":{row["additional"]}'
        + "}"
    )


def _reason(readings: Readings) -> str:
    match readings.reason:
        case "none":
            return ""
        case "object":
            return f',"error":{{"code":"OOM","message":"{WHY}","retryable":false}}'
        case "list":
            return f',"errors":[{{"loc":["inputs",0],"msg":"{WHY}"}}],"message":null'
        case name:
            return f',"{name}":"{WHY}"'


def state_members(row: sqlite3.Row, readings: Readings) -> str:
    names = ("state", "status") if readings.state == "both" else (readings.state,)
    words = {"completed": readings.completed, "failed": readings.failed, "aborted": readings.aborted}
    state = words.get(row["state"], row["state"])
    return "".join(f',"{name}":"{state}"' for name in names)


def short_flow_json(row: sqlite3.Row, readings: Readings, id_reading: str) -> str:
    """A flow's id and state only: the reply to a PATCH in the reading `action=state`."""
    return "{" + _id_members(id_reading, "flow_id", row["flow_id"]) + state_members(row, readings) + "}"


def upload_json(asset_id: str, readings: Readings) -> str:
    """The reply to an upload; empty for a reply without body."""
    match readings.upload:
        case "empty":
            return ""
        case "none":
            return '{"status":"ok"}'
        case name:
            return f'{{"{name}":"{asset_id}"}}'


def input_members(row: sqlite3.Row, readings: Readings, now: float) -> str:
    """The members of an input, without the closing brace: `data` may follow."""
    processed_at: float | None = row["received_at"] + readings.input_processing
    if row["broken"]:
        status, processed_at = "error", None
    elif processed_at is not None and now < processed_at:
        status, processed_at = "processing", None
    else:
        status = readings.ready
    return _asset_members(row["asset_id"], status, processed_at, row["additional"], readings)


def output_id(asset_id: str) -> str:
    """The id of the output made from an input, and back again: nothing has to be stored for an output."""
    return asset_id[::-1]


def output_members(row: sqlite3.Row, readings: Readings, finished_at: float) -> str:
    """The members of an output, without the closing brace; `additional` is copied from the input."""
    return _asset_members(output_id(row["asset_id"]), "ready", finished_at, row["additional"], readings)


def _asset_members(asset_id: str, status: str, processed_at: float | None, additional: str, readings: Readings) -> str:
    match readings.processed:
        case "null":
            processed = "null"
        case "bool":
            processed = "false" if processed_at is None else "true"
        case _:
            processed = _time(processed_at, readings)
    ids = _id_members(readings.id, "asset_id", asset_id)
    return f'{{{ids},"status":"{status}","processed":{processed},"additional":{additional}'


def _id_members(reading: str, long_name: str, value: str) -> str:
    names = ("id", long_name) if reading == "both" else (reading,)
    return ",".join(f'"{name}":"{value}"' for name in names)


def _time(seconds: float | None, readings: Readings) -> str:
    if seconds is None:
        return "null"
    if readings.time == "epoch":
        return f"{seconds:.6f}"
    return f'"{datetime.fromtimestamp(seconds, UTC).isoformat()}"'
