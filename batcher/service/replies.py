"""What a reply's JSON says: a flow, an id, whether a start was one or another write was done, a template, an asset.

In: a JSON value, in whatever shape a service may give it. Out: frozen values of `core.remote`, or None where it holds none.
Called by the client's calls. The service's facts: flows-api; where they are silent every reading is taken: `id` or `flow_id`,
`state` or `status`, an envelope or none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from ..core.model import JSON
from ..core.remote import RemoteFlow, RemoteInput, RemoteOutput, StartReply, Template
from ..core.tags import read_flow_tag
from .credentials import Mask, shown
from .listing import plain

ID_CHARS: Final = 300

FLOW_IN: Final = frozenset({"flow", "data", "result", "response", "payload", "item"})  # as `plain` gives them
FLOW_ONLY: Final = frozenset({"template", "parameters", "progress", "created_at", "started_at", "finished_at"})
FLOW_STATES: Final = frozenset({"created", "starting", "running", "aborting", "completed", "aborted"})  # no word of an error
REASONS: Final = (  # members under which a flow may say why it failed
    "error", "errors", "error_message", "failure_reason", "reason", "status_message", "status_reason", "message", "detail",
    "details",
)  # fmt: skip
REASONS_LISTED: Final = 5
ERRORS: Final = frozenset({"error", "errored", "fail", "failed", "failure"})  # as a `status` beside no id: of the request


def id_of(item: object, *names: str) -> str | None:
    """The first of the members that is an id: a number or a text that can stand in a line, in an address, in a row."""
    if isinstance(item, dict):
        for name in names:
            value = item.get(name)
            if isinstance(value, str | int) and not isinstance(value, bool):
                text = str(value)
                if 0 < len(text) <= ID_CHARS and text.isprintable():
                    return text
    return None


def created_id(body: object) -> str | None:
    """The id of the flow that a create has made."""
    return id_of(_flow_in(body), "flow_id", "id")


def _flow_in(body: object, depth: int = 3) -> dict[str, Any] | None:
    """The object that tells of a flow: the reply itself, or one within it, as in `{"flow": {…}}` and `{"data": {…}}`."""
    if not isinstance(body, dict):
        return None
    members = (value for name, value in body.items() if plain(name) in FLOW_IN)
    inside = any(isinstance(value, dict) and id_of(value, "flow_id", "id") for value in members)
    if id_of(body, "flow_id") is not None or (not inside and id_of(body, "id") is not None and _state(body)):
        return body
    within = (_flow_in(value, depth - 1) for name, value in body.items() if depth and plain(name) in FLOW_IN)
    found = next((flow for flow in within if flow is not None), None)
    return found if found is not None or not (id_of(body, "id") is not None or _state(body)) else body


def _state(item: Mapping[str, Any]) -> str:
    return next((item[name] for name in ("state", "status") if isinstance(item.get(name), str)), "")


def _id_in(item: Mapping[str, Any], asked: str | None) -> str | None:
    """The id of the flow that the object tells of; without one, that which was asked for, where something else shows that it is
    a flow: the `status` of the reply itself (`{"status": "error", "message": …}`) is no flow's state."""
    ids = [found for name in ("flow_id", "id") if (found := id_of(item, name)) is not None]
    if asked is None:
        return ids[0] if ids else None
    if ids:
        return asked if asked in ids else None
    return asked if not FLOW_ONLY.isdisjoint(item) or _state(item).lower() in FLOW_STATES else None


def remote_flow(body: object, flow_id: str | None, mask: Mask) -> RemoteFlow | None:
    """`flow_id`: of the flow that was asked for. None: the body tells of no flow, or of another one."""
    item = _flow_in(body)
    found = _id_in(item, flow_id) if item is not None else None
    if item is None or found is None:
        return None
    progress = item.get("progress")
    known = isinstance(progress, int | float) and 0 <= progress <= 1
    return RemoteFlow(found, shown(_state(item).lower(), mask), str(item.get("template", "")),
                      read_flow_tag(item.get("additional")), float(progress) if known else 0.0,  # type: ignore[arg-type]
                      bool(item.get("finished_at")), _reason(item, mask))  # fmt: skip


def start_reply(body: JSON, flow_id: str, mask: Mask) -> StartReply:
    """A 2xx may still say that nothing was started."""
    if not isinstance(body, dict):
        return StartReply("")
    said = next((body[name] for name in ("error", "errors") if body.get(name)), None)
    if said is None and (body.get("success") is False or body.get("ok") is False):
        said = body.get("message") or "it was not done"
    flow = remote_flow(body, flow_id, mask)
    error = "" if said is None else shown(said if isinstance(said, str) else json.dumps(said, ensure_ascii=False), mask)
    return StartReply(flow.state if flow is not None else "", error)


def not_done(body: JSON, mask: Mask, *flags: str) -> str:
    """What the 2xx of a write other than a start says where nothing was done; "" where it does not say so. `flags`: further
    members that say no by false. An error beside an id may be of the flow or the asset that is shown, and is none of these."""
    if not isinstance(body, dict):
        return ""
    said = _said({name: body[name] for name in REASONS if name in body}) or "it was not done"
    if any(body.get(name) is False for name in ("success", "ok", *flags)):
        return shown(said, mask)
    failed = body.get("error") or body.get("errors") or _state(body).lower() in ERRORS
    return shown(said, mask) if failed and id_of(body, "flow_id", "id", "asset_id") is None else ""


def _reason(item: Mapping[str, object], mask: Mask) -> str:
    """Why a flow is in its state, in the service's words; under which member they stand is not documented."""
    kept: list[str] = []
    for name in REASONS:
        said = _said(item[name]) if name in item else ""
        if said and not any(said in other for other in kept):
            kept = [*(other for other in kept if other not in said), said]
    return shown(": ".join(kept), mask) if kept else ""


def _said(value: object, depth: int = 3) -> str:
    """What a member says in words: a text, or the texts in an object or a list; "" where it says nothing."""
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, list) and depth:
        return "; ".join(filter(None, (_said(each, depth - 1) for each in value[:REASONS_LISTED])))
    if isinstance(value, dict) and depth:
        known = [name for name in ("code", "type", *REASONS, "msg", "description") if name in value]
        texts = [_said(value[name], depth - 1) for name in known or list(value)[:REASONS_LISTED]]
        return ": ".join(dict.fromkeys(filter(None, texts)))
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) and value else ""


def template_of(item: object, mask: Mask) -> Template | None:
    """A template: its name alone, or an object with names and types."""
    if isinstance(item, str):
        return Template(shown(item, mask), None)
    if not isinstance(item, dict):
        return None
    names = [item[n] for n in ("name", "template_name", "id", "template_id") if isinstance(item.get(n), str)]
    if not names:
        return None
    # The types stand under a key that is not documented: a list of what looks like types, and not of the outputs'.
    lists = (value for key, value in item.items() if isinstance(value, list) and "output" not in key.lower())
    types = next((value for value in lists if value and all(map(_looks_like_a_type, value))), None)
    first, *others = (shown(name, mask) for name in names)
    return Template(first, None if types is None else tuple(shown(each, mask) for each in types), tuple(others))


def _looks_like_a_type(value: object) -> bool:
    return isinstance(value, str) and ("/" in value or value in ("prompt", "text"))


def remote_input(item: object) -> RemoteInput:
    """An input as it is listed; one without an id is there, too. Raises ValueError."""
    if not isinstance(item, dict):
        raise ValueError("an asset is no object")
    return RemoteInput(id_of(item, "id", "asset_id") or "", _asset_status(item), item.get("additional"))


def remote_output(item: object) -> RemoteOutput:
    """An output as it is listed. Raises ValueError."""
    asset_id = id_of(item, "id", "asset_id")
    if not isinstance(item, dict) or asset_id is None:
        raise ValueError("an output has no id")
    asset_id.encode()  # half a surrogate pair would be no id that can be asked for
    return RemoteOutput(asset_id, _asset_status(item), item.get("additional"))


def _asset_status(item: Mapping[str, Any]) -> str:
    status = item.get("status")
    return status.lower() if isinstance(status, str) else ""
