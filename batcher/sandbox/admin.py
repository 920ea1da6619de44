"""The calls that steer a running sandbox, and the judge's view of it. They need no key: the sandbox is on loopback.

    GET, POST /_sandbox/faults     a list of texts or objects; POST replaces it
    GET, POST /_sandbox/readings   an object of readings, or text such as "id=asset_id"; POST changes those it names
    POST      /_sandbox/keys       {"keys": [...], "expired": [...]}
    GET       /_sandbox/record     every flow that ever was, with its inputs, and counters
    GET       /_sandbox/requests   the last requests

Called by `server`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from .faults import faults_from
from .listings import record_of_flows
from .refusals import FormatError, Refusal
from .render import dump
from .reply import Reply, deliver, json_reply, refusal_reply
from .uploads import parse_object, read_json_body

if TYPE_CHECKING:
    from .server import Sandbox

PREFIX: Final = "/_sandbox/"


async def handle(sandbox: Sandbox, request: web.BaseRequest) -> web.StreamResponse:
    """Answers an admin call."""
    return await deliver(request, await _reply(sandbox, request))


async def _reply(sandbox: Sandbox, request: web.BaseRequest) -> Reply:
    service = sandbox.service
    try:
        match request.method, request.path.removeprefix(PREFIX):
            case "GET", "faults":
                return json_reply(dump({"faults": sandbox.plan.as_json()}))
            case "POST", "faults":
                sandbox.set_faults(faults_from(await _document(request)))
                return json_reply(dump({"faults": sandbox.plan.as_json()}))
            case "GET", "readings":
                return json_reply(dump(service.readings.as_dict()))
            case "POST", "readings":
                values = await _document(request)
                if isinstance(values, str):
                    service.readings = service.readings.with_text(values)
                elif isinstance(values, dict):
                    service.readings = service.readings.with_values(values)
                else:
                    raise FormatError("readings: write an object or text")
                return json_reply(dump(service.readings.as_dict()))
            case "POST", "keys":
                body = parse_object(await read_json_body(request), service.readings)
                service.keys = _words(body, "keys")
                service.expired_keys = _words(body, "expired")
                return json_reply("{}")
            case "GET", "record":
                return Reply(body=_record(sandbox))
            case "GET", "requests":
                return json_reply(dump({"requests": [entry.as_json() for entry in sandbox.seen.log]}))
        raise Refusal(404, "Not Found")
    except FormatError as error:
        return refusal_reply(Refusal(422, str(error)), service.readings)
    except Refusal as refusal:
        return refusal_reply(refusal, service.readings)


async def _document(request: web.BaseRequest) -> Any:
    try:
        return json.loads(await read_json_body(request))
    except ValueError as error:
        raise FormatError(f"the body is not JSON: {error}") from error


def _words(body: dict[str, Any], name: str) -> frozenset[str]:
    words = body.get(name, [])
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise FormatError(f"{name}: write a list of strings")
    return frozenset(words)


async def _record(sandbox: Sandbox) -> AsyncGenerator[bytes, None]:
    yield b'{"flows":'
    async for piece in sandbox.service.db.stream(record_of_flows):
        yield piece
    yield f",{dump(sandbox.seen.as_json())[1:]}".encode()
