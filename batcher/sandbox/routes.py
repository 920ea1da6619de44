"""From method and path to the call: the table of endpoints.

In: a request. Out: a `Call` with its name, and the function that receives it. Called by `server`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from . import asset_calls, flow_calls
from .call import Call, Received
from .scan import NotJson, load_json
from .service import Service
from .uploads import read_json_body

Receiver = Callable[[Service, Call], Awaitable[Received]]

# path pattern, by its parts ("" stands for an id) -> method -> call
_ROUTES: Final[dict[tuple[str, ...], dict[str, str]]] = {
    ("templates",): {"GET": "templates"},
    ("flows",): {"POST": "create", "GET": "flows"},
    ("flows", ""): {"GET": "flow", "PATCH": "start", "DELETE": "delete"},
    ("flows", "", "inputs"): {"POST": "upload", "GET": "inputs"},
    ("flows", "", "inputs", ""): {"GET": "input"},
    ("flows", "", "outputs"): {"GET": "outputs"},
    ("flows", "", "outputs", ""): {"GET": "output"},
}

_RECEIVERS: Final[dict[str, Receiver]] = {
    "templates": flow_calls.templates,
    "create": flow_calls.create,
    "flows": flow_calls.flows,
    "flow": flow_calls.flow,
    "start": flow_calls.start,
    "abort": flow_calls.abort,
    "delete": flow_calls.delete,
    "upload": asset_calls.upload,
    "inputs": asset_calls.inputs,
    "input": asset_calls.input_,
    "outputs": asset_calls.outputs,
    "output": asset_calls.output,
    "not_found": flow_calls.unknown,
    "not_allowed": flow_calls.not_allowed,
}


def match(request: web.BaseRequest) -> Call:
    """The call that a request makes; a PATCH is a `start` until its body was read."""
    parts = request.path.strip("/").split("/")
    methods = _ROUTES.get(tuple("" if index % 2 else part for index, part in enumerate(parts)))
    if methods is None or not all(parts):
        return Call("not_found", request)
    name = methods.get(request.method, "not_allowed")
    flow_id, asset_id, *_ = [*parts[1::2], "", ""]
    return Call(name, request, flow_id, asset_id)


async def name_action(call: Call) -> None:
    """Reads the body of a PATCH, which says what it is. Raises what `read_json_body` raises."""
    call.body = await read_json_body(call.request)
    try:
        body = load_json(call.body)
    except NotJson:
        return
    if isinstance(body, dict) and body.get("action") == "abort":
        call.name = "abort"


async def receive(service: Service, call: Call) -> Received:
    """Reads the request to its end. Raises a Refusal, or what aiohttp raises when the client leaves."""
    return await _RECEIVERS[call.name](service, call)
