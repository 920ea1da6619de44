"""Faults carried out on the wire: resets, silence, replies that are cut, slow, huge, or not what they should be.

In: a request, the fault that struck it, and the reply it would have had. Out: a response that was sent, or the ruins
of the connection. Called by `server`, which knows whether anything was committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import random
import re
import socket
import struct
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from aiohttp import web

from .faults import Fault
from .render import dump
from .reply import Reply, deliver, error_reply, html_page, json_reply
from .store import new_id

HANG_POLL_S = 0.05  # how soon a held connection notices that its client left
HUGE_PIECE = b"x" * 65536
NOT_YET = "Error: asset is being migrated, try again later"
SIGNATURE = "X-Expires=300&X-Signature=5e1c7a90d3"  # as object stores sign an address
_DIGEST = re.compile(r"[0-9a-f]{32,}")


def is_gone(request: web.BaseRequest) -> bool:
    """Whether the client has left."""
    return request.transport is None or request.transport.is_closing()


def reset(transport: asyncio.Transport | None) -> None:
    """Ends a connection with RST."""
    if transport is None:
        return
    raw: socket.socket | None = transport.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            # Lingering for 0 s: the kernel drops what is unsent and sends RST, not FIN.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def lose(request: web.BaseRequest, how: str, stopping: asyncio.Event) -> web.StreamResponse:
    """No reply: the connection is closed, reset, or held until the client leaves."""
    if how == "hang":
        while not is_gone(request) and not stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), HANG_POLL_S)
    if how == "reset":
        reset(request.transport)
    elif request.transport is not None:
        request.transport.close()
    return web.Response()  # aiohttp wants one; it cannot leave any more


async def drop_in_body(request: web.BaseRequest) -> None:
    """Resets the connection when half of the body has come."""
    half_bytes, size_bytes = (request.content_length or 0) // 2, 0
    while size_bytes < half_bytes and not request.content.at_eof():
        size_bytes += len(await request.content.readany())
    reset(request.transport)


async def read_slowly(request: web.BaseRequest, bytes_per_s: int) -> None:
    """Takes the body at this pace, and drops it. Returns when the client has left or all has come."""
    while not is_gone(request) and not request.content.at_eof():
        piece = await request.content.read(max(1, bytes_per_s // 10))
        await asyncio.sleep(len(piece) / bytes_per_s)


def error_of(fault: Fault, status: int, request: web.BaseRequest | None = None) -> Reply:
    """The error that a fault asks for, with its Retry-After."""
    if fault.body == "echo":
        authorization = request.headers.get("Authorization") if request is not None else None
        reply = error_reply(status, f"Sandbox fault: not with Authorization: {authorization}", "json")
    elif fault.body == "input":
        size_bytes = (request.content_length if request is not None else None) or 0
        reply = Reply(status, _said_again(fault.text, size_bytes))
    else:
        reply = error_reply(status, f"Sandbox fault: {fault.text}", fault.body)
    if fault.retry_after is not None:
        reply.headers = {"Retry-After": _retry_after(fault.retry_after)}
    return reply


def _retry_after(text: str) -> str:
    kind, _, seconds = text.rpartition(":")
    if kind != "date":
        return text
    return format_datetime(datetime.now(UTC) + timedelta(seconds=float(seconds)), usegmt=True)


async def spoil(
    request: web.BaseRequest, fault: Fault, reply: Reply, rng: random.Random, stopping: asyncio.Event
) -> web.StreamResponse:
    """Answers a request whose body was read with what the fault makes of `reply`."""
    match fault.effect:
        case "status" | "error_after_commit":
            return await deliver(request, error_of(fault, fault.value, request))
        case "redirect":
            return await deliver(request, Reply(307, headers={"Location": _location(request, fault.value)}))
        case "lost_reply":
            return await lose(request, fault.value, stopping)
        case "address":
            return await deliver(request, json_reply(dump({"data": f"{_location(request, fault.value)}?{SIGNATURE}"})))
        case "garbage":
            return await deliver(request, _garbage(fault.value, rng))
        case "truncate":
            return await _truncate(request, reply)
        case "trickle":
            return await _trickle(request, reply, fault.value)
        case "stall":
            return await _stall(request, reply, stopping)
        case "huge":
            return await deliver(request, Reply(body=_huge(fault.value), length_bytes=fault.value))
        case "corrupt_list" | "wrong_types":
            return await deliver(request, await _changed(fault, reply, rng))
    return await deliver(request, reply)


def _location(request: web.BaseRequest, url: str) -> str:
    has_path = "/" in url.partition("://")[2]
    return url if has_path else url + request.path_qs


def _garbage(kind: str, rng: random.Random) -> Reply:
    match kind:
        case "json":
            return json_reply('{"unexpected": ["valid", "JSON", {"of": "another kind"}]}')
        case "html":
            return Reply(body=html_page(200), content_type="text/html")
        case "error":
            return json_reply('{"error": "the queue is full"}')
        case "created":
            return json_reply('{"state": "created"}')
        case "binary":
            return Reply(body=rng.randbytes(256))
        case "text":
            return json_reply(dump({"data": NOT_YET}))
        case "plain":
            return Reply(body=NOT_YET.encode(), content_type="text/plain")
        case _:
            return Reply()


async def _truncate(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    """Half of the body, under a Content-Length (or a chunked encoding) that promises all of it."""
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    response.content_type = reply.content_type
    if isinstance(reply.body, bytes):
        response.content_length = max(2, len(reply.body))
        await response.prepare(request)
        await response.write(reply.body[: len(reply.body) // 2] or b"{")
    else:
        if reply.length_bytes is None:
            response.enable_chunked_encoding()
        else:
            response.content_length = reply.length_bytes
        await response.prepare(request)
        first = await anext(reply.body, b"")
        await reply.body.aclose()
        await response.write(first[: max(1, len(first) // 2)])
    if request.transport is not None:
        request.transport.close()
    return response


async def _trickle(request: web.BaseRequest, reply: Reply, bytes_per_s: int) -> web.StreamResponse:
    body = await reply.whole()
    step_bytes = max(1, bytes_per_s // 10)

    async def slices() -> AsyncGenerator[bytes, None]:
        for offset in range(0, len(body), step_bytes):
            await asyncio.sleep(step_bytes / bytes_per_s)
            yield body[offset : offset + step_bytes]

    slow = Reply(reply.status, slices(), reply.content_type, reply.headers, len(body))
    return await deliver(request, slow)


async def _stall(request: web.BaseRequest, reply: Reply, stopping: asyncio.Event) -> web.StreamResponse:
    # Written by hand: aiohttp keeps a head back until the first byte of the body.
    if request.transport is not None:
        head = f"HTTP/1.1 {reply.status} OK\r\nContent-Type: {reply.content_type}\r\nContent-Length: 1000\r\n\r\n"
        request.transport.write(head.encode())
    return await lose(request, "hang", stopping)


async def _huge(size_bytes: int) -> AsyncGenerator[bytes, None]:
    """Valid JSON as far as it gets: one long string."""
    head, tail = b'{"detail":"', b'"}'
    yield head
    left_bytes = size_bytes - len(head) - len(tail)
    while left_bytes > 0:
        yield HUGE_PIECE[:left_bytes]
        left_bytes -= len(HUGE_PIECE)
    yield tail


async def _said_again(text: str, size_bytes: int) -> AsyncGenerator[bytes, None]:
    """A 422 in FastAPI's shape, in which the input is as long as the body was; and one more entry behind it."""
    first = dump({"type": "value_error", "loc": ["body", "data"], "msg": "Sandbox fault: not this one"})
    yield f'{{"detail":[{first[:-1]},"input":"data:image/png;base64,'.encode()
    for begin in range(0, size_bytes, len(HUGE_PIECE)):
        yield HUGE_PIECE[: size_bytes - begin]
    last = {"type": "value_error", "loc": ["body"], "msg": text, "input": None}
    yield b'"},' + dump(last).encode() + b"]}"


async def _changed(fault: Fault, reply: Reply, rng: random.Random) -> Reply:
    """The reply with its JSON changed; what is no JSON, or an error, stays as it is."""
    body = await reply.whole()
    if reply.status >= 400 or not body:
        return Reply(reply.status, body, reply.content_type, reply.headers)
    try:
        document = json.loads(body)
    except ValueError:
        return Reply(reply.status, body, reply.content_type, reply.headers)
    if fault.effect == "wrong_types":
        document = _wrong_types(document, rng)
    else:
        items = document if isinstance(document, list) else _the_list(document)
        if items is not None:
            _corrupt(items, fault.value, rng)
    return Reply(reply.status, dump(document).encode(), headers=reply.headers)


def _the_list(document: Any) -> list[Any] | None:
    """The longest of the lists in the envelope: an empty one beside it may be of warnings."""
    members = document.values() if isinstance(document, dict) else ()
    lists = [found for value in members if (found := value if isinstance(value, list) else _the_list(value)) is not None]
    return max(lists, key=len, default=None)


def _corrupt(items: list[Any], how: str, rng: random.Random) -> None:
    if how == "foreign":
        items.insert(rng.randint(0, len(items)), _foreign(items, rng))
        return
    if not items:
        return
    index = rng.randrange(len(items))
    match how:
        case "missing":
            del items[index]
        case "twice":
            items.insert(index, copy.deepcopy(items[index]))
        case "digest":
            items[index] = _with_other_digest(items[index])
        case "shuffle":
            rng.shuffle(items)


def _foreign(items: list[Any], rng: random.Random) -> Any:
    """An item that somebody else might have added."""
    item = copy.deepcopy(rng.choice(items)) if items else {"id": "", "status": "available", "processed": None}
    for name in {"id", "asset_id", "flow_id"} & item.keys():
        item[name] = new_id()
    return {**item, "additional": {"somebody": "else"}}


def _with_other_digest(item: Any) -> Any:
    """The item with the digests in its `additional` changed; without any, with `additional` replaced."""
    text = dump(item.get("additional"))
    changed = _DIGEST.sub(lambda match: ("1" if match[0][0] == "0" else "0") + match[0][1:], text)
    return {**item, "additional": json.loads(changed) if changed != text else {"changed": True}}


def _wrong_types(value: Any, rng: random.Random, *, top: bool = True) -> Any:
    """The document with about half of its values replaced by other types; envelopes stay."""
    if isinstance(value, dict) and (top or rng.random() < 0.8):
        return {name: _wrong_types(member, rng, top=False) for name, member in value.items()}
    if isinstance(value, list) and (top or rng.random() < 0.8):
        return [_wrong_types(member, rng, top=top) for member in value]
    if rng.random() < 0.5:
        return value
    others: list[Any] = [None, True, -1, 1e300, "text", [], {}, [[]], {"a": {}}]
    return rng.choice([other for other in others if type(other) is not type(value)])
