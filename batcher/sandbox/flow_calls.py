"""The calls about templates and flows (flows-api, Endpoints).

In: the `Service` and a `Call`. Out: `Received`. Called by `routes`.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Final

from .call import Call, Received
from .intake import Asset
from .listing_pages import Beside, beside, page_of
from .listings import FlowQuery, count_flows, list_flows
from .readings import Readings
from .refusals import Refusal, invalid, invalid_query
from .render import dump, flow_json, short_flow_json
from .reply import Reply, json_reply
from .service import Service
from .states import FILTERS, SORTS
from .store import find_flow
from .templates import TEMPLATES, describe, find_template
from .uploads import BLOCK_BYTES, assets_from, parse_object, read_json_body

# A template is referred to by name or id; the older spellings are still documented.
_TEMPLATE_MEMBERS: Final = ("template", "template_name", "template_id")


async def templates(service: Service, call: Call) -> Received:
    async def act() -> Reply:
        return json_reply(dump({"templates": [describe(each, service.readings) for each in TEMPLATES]}))

    return Received(act)


async def create(service: Service, call: Call) -> Received:
    """POST /flows. With `inputs` the flow starts at once."""
    readings = service.readings
    raw = call.body if call.body is not None else await read_json_body(call.request)
    body = parse_object(raw, readings)
    template = find_template(next((body[name] for name in _TEMPLATE_MEMBERS if body.get(name) is not None), None))
    parameters = _parameters(body)
    template.check(parameters)
    assets: list[Asset] | None = None
    if body.get("inputs") is not None:
        prompts_only = template.takes_text and readings.data_prompt == "text"

        def decode() -> list[Asset]:
            return assets_from(service, body["inputs"], prompts_only=prompts_only)

        assets = await service.db.work(decode) if len(raw) > BLOCK_BYTES else decode()
    parameters_json, additional_json = dump(parameters), dump(body.get("additional"))

    async def act() -> Reply:
        for asset in assets or ():
            asset.broken = asset.broken or call.input_error

        def write(db: sqlite3.Connection) -> sqlite3.Row:
            return service.writes.create(
                db,
                template.name,
                parameters_json,
                additional_json,
                assets,
                readings,
                service.processing_s,
                fails=call.fail_flow,
            )

        return _single(flow_json(await service.db.write(write), readings, readings.create), readings)

    return Received(act, list(assets or ()))


def _parameters(body: dict[str, Any]) -> dict[str, Any]:
    parameters = body.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise invalid(["parameters"], "Input should be an object", "dict_type")
    return parameters


async def flows(service: Service, call: Call) -> Received:
    """GET /flows, filtered, sorted, and in pages where the readings ask for them."""
    readings, params = service.readings, call.request.query
    states = tuple(filter(None, ",".join(params.getall("filter_by", [])).split(",")))
    if unknown := set(states) - set(FILTERS):
        raise invalid_query("filter_by", f"{', '.join(sorted(unknown))}: should be one of {', '.join(FILTERS)}")
    sort_by = params.get("sort_by", SORTS[0])
    if sort_by not in SORTS:
        raise invalid_query("sort_by", f"should be one of {', '.join(SORTS)}")
    query = FlowQuery(states, sort_by, page_of(params, readings))

    async def act() -> Reply:
        around = Beside()
        if query.page.limit is not None:
            total, left = await service.db.read(lambda db: count_flows(db, query, readings))
            around = beside(call.request, readings, query.page, readings.flows, total, left)
        body = service.db.stream(lambda db: list_flows(db, query, readings, around))
        return Reply(body=body, headers=around.headers)

    return Received(act)


async def flow(service: Service, call: Call) -> Received:
    """GET /flows/{flow_id}."""

    async def act() -> Reply:
        row = await service.db.read(lambda db: find_flow(db, call.flow_id))
        return _single(flow_json(row, service.readings, service.readings.create), service.readings)

    return Received(act)


def _single(text: str, readings: Readings) -> Reply:
    """A flow as a reply of its own."""
    return json_reply(text if readings.flow_in == "none" else f'{{"{readings.flow_in}":{text}}}')


async def start(service: Service, call: Call) -> Received:
    readings = service.readings
    _action(service, call)

    async def act() -> Reply:
        row = await service.db.write(
            lambda db: service.writes.start(db, call.flow_id, readings, service.processing_s, fails=call.fail_flow)
        )
        return _action_reply(service, row)

    return Received(act)


async def abort(service: Service, call: Call) -> Received:
    readings = service.readings

    async def act() -> Reply:
        return _action_reply(service, await service.db.write(lambda db: service.writes.abort(db, call.flow_id, readings)))

    return Received(act)


def _action(service: Service, call: Call) -> None:
    """Raises a Refusal unless a PATCH asks for an action that there is. Whatever is no abort is received as a start."""
    body = parse_object(call.body or b"", service.readings)
    if "action" not in body:
        raise invalid(["action"], "Field required", "missing")
    if body["action"] != "start":
        raise invalid(["action"], "Input should be 'start' or 'abort'", "literal_error")


def _action_reply(service: Service, row: sqlite3.Row) -> Reply:
    readings = service.readings
    match readings.action:
        case "empty":
            return Reply(200)
        case "state":
            return _single(short_flow_json(row, readings, readings.create), readings)
        case _:
            return _single(flow_json(row, readings, readings.create), readings)


async def delete(service: Service, call: Call) -> Received:
    readings = service.readings

    async def act() -> Reply:
        files = await service.db.write(lambda db: service.writes.delete(db, call.flow_id, readings))
        # After the commit: a file without a row is swept away, a row without its file would be half an input.
        await service.db.work(_unlink, files)
        if readings.delete == "204":
            return Reply(204, content_type="text/plain")
        return json_reply(dump({"flow_id": call.flow_id, "deleted": True}))

    return Received(act)


def _unlink(files: list[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)


async def unknown(service: Service, call: Call) -> Received:
    raise Refusal(404, "Not Found")


async def not_allowed(service: Service, call: Call) -> Received:
    raise Refusal(405, "Method Not Allowed")
