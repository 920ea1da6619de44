"""The calls about inputs and outputs (flows-api, Endpoints).

In: the `Service` and a `Call`. Out: `Received`. Called by `routes`.
"""

from __future__ import annotations

import itertools
import sqlite3
import time
from collections.abc import Callable, Iterator

from .blocks import DataUri
from .call import Call, Received
from .listing_pages import Beside, beside, page_of
from .listings import Assets
from .refusals import invalid_query
from .render import input_members, output_members, upload_json
from .reply import Reply, json_reply
from .service import Service
from .store import find_flow, require
from .templates import GLB
from .uploads import receive_asset

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


async def upload(service: Service, call: Call) -> Received:
    """POST /flows/{flow_id}/inputs."""
    readings = service.readings
    asset = await receive_asset(service, call.request, call.flow_id)

    async def act() -> Reply:
        asset.broken = asset.broken or call.input_error
        asset_id = await service.db.write(lambda db: service.writes.upload(db, call.flow_id, asset, readings))
        return json_reply(upload_json(asset_id, readings))

    return Received(act, [asset])


async def inputs(service: Service, call: Call) -> Received:
    """GET /flows/{flow_id}/inputs."""
    return await _listing(service, call, outputs=False)


async def outputs(service: Service, call: Call) -> Received:
    """GET /flows/{flow_id}/outputs."""
    return await _listing(service, call, outputs=True)


async def _listing(service: Service, call: Call, *, outputs: bool) -> Received:
    with_data = _include_data(call)
    readings = service.readings
    page = page_of(call.request.query, readings, flows=False)

    async def act() -> Reply:
        assets = await _assets(service, call, finished=outputs)
        around = Beside()
        if page.limit is not None:
            total, left = await service.db.read(lambda db: assets.count(db, page, outputs=outputs))
            envelope = readings.outputs if outputs else readings.inputs
            around = beside(call.request, readings, page, envelope, total, left)
        listed = assets.list_outputs if outputs else assets.list_inputs
        body = service.db.stream(lambda db: listed(db, with_data, page, around))
        return Reply(body=body, headers=around.headers)

    return Received(act)


async def input_(service: Service, call: Call) -> Received:
    """GET /flows/{flow_id}/inputs/{asset_id}, with the data."""

    async def act() -> Reply:
        assets = await _assets(service, call)
        row = await service.db.read(lambda db: assets.find_input(db, call.asset_id))
        members = input_members(row, service.readings, time.time())
        pieces = itertools.chain([members.encode(), b',"data":"'], assets.input_data(row), [b'"}'])
        return Reply(body=service.db.stream(_only(pieces)))

    return Received(act)


async def output(service: Service, call: Call) -> Received:
    """GET /flows/{flow_id}/outputs/{asset_id}: the GLB, made now; in JSON, or raw."""

    async def act() -> Reply:
        assets = await _assets(service, call, finished=True)
        row = await service.db.read(lambda db: assets.find_output(db, call.asset_id))
        glb = await service.db.work(assets.glb, row)
        if service.readings.download == "raw":
            body = service.db.stream(_only(glb.blocks()))
            return Reply(body=body, content_type=GLB, length_bytes=glb.size_bytes)
        members = output_members(row, service.readings, assets.flow["finished_at"])
        data = DataUri(GLB, glb)
        head, tail = members.encode() + b',"data":"', b'"}'
        pieces = itertools.chain([head], data.blocks(), [tail])
        length_bytes = len(head) + data.size_bytes + len(tail)
        return Reply(body=service.db.stream(_only(pieces)), length_bytes=length_bytes)

    return Received(act)


def _only(pieces: Iterator[bytes]) -> Callable[[sqlite3.Connection], Iterator[bytes]]:
    """Pieces that need no connection, as a stream of the database: read on its threads."""

    def rows(_: sqlite3.Connection) -> Iterator[bytes]:
        yield from pieces

    return rows


async def _assets(service: Service, call: Call, *, finished: bool = False) -> Assets:
    row = await service.db.read(lambda db: find_flow(db, call.flow_id))
    if finished:
        require(row, "outputs", service.readings.illegal)
    return Assets(row, service.assets, service.readings)


def _include_data(call: Call) -> bool:
    text = call.request.query.get("include_data", "false")
    if text not in _BOOLEANS:
        raise invalid_query("include_data", "Input should be a valid boolean: true or false")
    return _BOOLEANS[text]
