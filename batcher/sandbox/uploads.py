"""The body of a request, read to its end, in bounded memory.

In: a request. Out: the `Asset` of an upload, the JSON of another call. An upload holds one block at a time; blocks are
decoded, digested and written on a worker thread while the next one comes from the network. Called by `calls`.

Memory of an upload: BLOCK_BYTES in hand + 3/4 of it decoded + what aiohttp has read ahead (128 KiB), so that
16 at once take about 10 MiB.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from .intake import Asset, Intake
from .readings import Readings
from .refusals import Refusal, invalid
from .render import dump
from .scan import NotJson, ObjectScanner, load_json
from .service import Service
from .store import find_flow
from .templates import find_template

# Up to here a body is decoded on the loop (0.2 ms), which is less than the way to a thread and back under load.
BLOCK_BYTES = 256 * 1024
# POST /flows with inputs is held in memory; uploads are the way for large contents.
JSON_BODY_MAX_BYTES = 64 * 1024 * 1024


async def blocks_of(request: web.BaseRequest) -> AsyncIterator[tuple[bytes, bool]]:
    """(block, whether it is the last one). Raises what aiohttp raises when the client leaves."""
    content = request.content
    chunks: list[bytes] = []
    size_bytes = 0
    while not content.at_eof():
        chunk = await content.readany()
        chunks.append(chunk)
        size_bytes += len(chunk)
        if size_bytes >= BLOCK_BYTES and not content.at_eof():
            yield b"".join(chunks), False
            chunks, size_bytes = [], 0
    yield b"".join(chunks), True


async def read_json_body(request: web.BaseRequest) -> bytes:
    """The whole body. Raises a Refusal (413) once it has been read, and not been kept."""
    kept: list[bytes] = []
    size_bytes = 0
    async for block, _ in blocks_of(request):
        size_bytes += len(block)
        if size_bytes <= JSON_BODY_MAX_BYTES:
            kept.append(block)
        else:
            kept.clear()
    if size_bytes > JSON_BODY_MAX_BYTES:
        raise Refusal(413, f"Body exceeds {JSON_BODY_MAX_BYTES} bytes")
    return b"".join(kept)


def parse_object(body: bytes, readings: Readings) -> dict[str, Any]:
    """A body that must be a JSON object. Raises a Refusal."""
    try:
        document = load_json(body)
    except NotJson as error:
        raise _not_json(error, readings) from error
    if not isinstance(document, dict):
        raise invalid([], "Input should be an object", "model_attributes_type")
    return document


async def receive_asset(service: Service, request: web.BaseRequest, flow_id: str) -> Asset:
    """The asset of an upload. What is wrong with it is in its `problem`, for the body is read to its end first."""
    intake = Intake(
        service.new_spool_file(),
        max_bytes=service.max_data_bytes,
        prompts_only=service.readings.data_prompt == "text" and await _takes_text(service, flow_id),
    )
    scanner = ObjectScanner(intake.feed)
    broken: NotJson | None = None

    def take(block: bytes, last: bool) -> Asset | None:
        nonlocal broken
        try:
            if broken is None:
                scanner.feed(block)
                if last:
                    scanner.close()
        except NotJson as error:
            broken = error
            intake.refuse(_not_json(error, service.readings))
        return _close(scanner, intake) if last else None

    asset: Asset | None = None
    in_thread = False
    try:
        async for block, last in blocks_of(request):
            in_thread = in_thread or not last
            asset = await service.db.work(take, block, last) if in_thread else take(block, last)
    finally:
        if asset is None:  # the client left
            intake.abandon()
    assert asset is not None
    return asset


def _close(scanner: ObjectScanner, intake: Intake) -> Asset:
    if not scanner.has_data:
        present = "data" in scanner.members
        message = "Input should be a valid string" if present else "Field required"
        intake.refuse(invalid(["data"], message, "string_type" if present else "missing"))
    asset = intake.close()
    asset.additional = scanner.members.get("additional", b"null").decode()
    _mark(asset)
    return asset


async def _takes_text(service: Service, flow_id: str) -> bool:
    try:
        row = await service.db.read(lambda db: find_flow(db, flow_id))
    except Refusal:
        return False  # said again, when the body has been read
    return find_template(row["template"]).takes_text


def assets_from(service: Service, items: object, *, prompts_only: bool) -> list[Asset]:
    """The assets of POST /flows: a list of objects as in an upload, or of strings. May block. Raises a Refusal."""
    if not isinstance(items, list):
        raise invalid(["inputs"], "Input should be a valid list", "list_type")
    assets: list[Asset] = []
    try:
        for index, item in enumerate(items):
            members = item if isinstance(item, dict) else {"data": item}
            assets.append(_asset_from(service, members, ["inputs", index], prompts_only))
    except Refusal:
        for asset in assets:
            asset.discard()
        raise
    return assets


def _asset_from(service: Service, members: dict[str, Any], loc: list[str | int], prompts_only: bool) -> Asset:
    data = members.get("data")
    if not isinstance(data, str):
        raise invalid([*loc, "data"], "Input should be a valid string", "string_type")
    try:
        raw = data.encode()
    except UnicodeEncodeError as error:
        raise invalid([*loc, "data"], "Input should be UTF-8 text") from error
    intake = Intake(service.new_spool_file(), max_bytes=service.max_data_bytes, prompts_only=prompts_only)
    intake.feed(raw, False)
    asset = intake.close()
    asset.additional = dump(members.get("additional"))
    _mark(asset)
    return asset


def _mark(asset: Asset) -> None:
    """`"sandbox": "fail"` or `"error"` in `additional` asks for a bad end."""
    if '"sandbox"' not in asset.additional:
        return
    additional = json.loads(asset.additional)
    wish = additional.get("sandbox") if isinstance(additional, dict) else None
    asset.fails, asset.broken = wish == "fail", wish == "error"


def _not_json(error: NotJson, readings: Readings) -> Refusal:
    return invalid([], f"JSON decode error: {error}", "json_invalid", status=readings.bad_json)
