"""One reply as a value, before it is sent: so that a fault can spoil it.

In: a status and a body, whole or in pieces. Out: an aiohttp response, sent. Called by `calls`, `mischief`, `server`.
"""

from __future__ import annotations

import contextlib
import html
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from aiohttp import web

from .readings import Readings
from .refusals import Refusal
from .render import dump

JSON = "application/json"


@dataclass(slots=True)
class Reply:
    """A reply. A body in pieces has a `length_bytes` where that is known; else it is sent chunked."""

    status: int = 200
    body: bytes | AsyncGenerator[bytes, None] = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    length_bytes: int | None = None

    async def whole(self) -> bytes:
        """The body in memory: for the faults that change it, which are meant for small replies."""
        if isinstance(self.body, bytes):
            return self.body
        return b"".join([piece async for piece in self.body])


def json_reply(text: str, status: int = 200) -> Reply:
    return Reply(status, text.encode())


def refusal_reply(refusal: Refusal, readings: Readings) -> Reply:
    """A refusal's body, in the reading `errors`."""
    return error_reply(refusal.status, refusal.detail, readings.errors)


def error_reply(status: int, detail: object, form: str) -> Reply:
    """`form`: detail or json, message, html, empty; as S3 (xml), RFC 9457 (problem), OpenAI (quota) and others (errors) do."""
    text = detail if isinstance(detail, str) else dump(detail)
    match form:
        case "html":
            return Reply(status, html_page(status), "text/html")
        case "empty":
            return Reply(status, b"", "text/plain")
        case "xml":
            words = f"<Error><Code>SandboxFault</Code><Message>{html.escape(text)}</Message><RequestId>1</RequestId></Error>"
            return Reply(status, f'<?xml version="1.0" encoding="UTF-8"?>\n{words}'.encode(), "application/xml")
        case "problem":
            problem = {"type": "about:blank", "title": phrase_of(status), "status": status, "detail": text}
            return Reply(status, dump(problem).encode(), "application/problem+json")
        case "errors":
            return json_reply(dump({"errors": [{"field": "data", "message": text}]}), status)
        case "quota":
            message = f"You exceeded your current quota, please check your plan and billing details. {text}"
            error = {"message": message, "type": "insufficient_quota", "param": None, "code": "insufficient_quota"}
            return json_reply(dump({"error": error}), status)
        case "message":
            return json_reply(dump({"error": {"code": status, "message": text}}), status)
        case _:
            return json_reply(dump({"detail": detail}), status)


def phrase_of(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def html_page(status: int) -> bytes:
    """What a gateway says."""
    title = f"{status} {phrase_of(status)}"
    return f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n".encode()


async def deliver(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    """Sends the reply as it is."""
    if isinstance(reply.body, bytes):
        return web.Response(
            status=reply.status, body=reply.body, content_type=reply.content_type, headers=reply.headers or None
        )
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    response.content_type = reply.content_type
    if reply.length_bytes is None:
        response.enable_chunked_encoding()
    else:
        response.content_length = reply.length_bytes
    await response.prepare(request)
    async with contextlib.aclosing(reply.body) as pieces:  # a client that leaves ends the query, too
        async for piece in pieces:
            await response.write(piece)
    await response.write_eof()
    return response
