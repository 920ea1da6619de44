"""How GET /flows is cut into pages, in each of the readings that are in use out there.

In: the query of a request and the readings. Out: which rows, and the members that lead to the next page.
Called by `flow_calls`. All count from the start of the list, as services that page by number do: a flow that is
deleted while its client goes through the pages shifts those after it.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from .errors import invalid_query
from .readings import Readings
from .render import dump


def page_of(params: Mapping[str, str], readings: Readings) -> tuple[int | None, int]:
    """(limit, offset); no limit: the whole list. Raises a Refusal (422)."""
    most = readings.page_size
    match readings.pages:
        case "none":
            return None, 0
        case "page":
            name = "per_page" if "per_page" in params else "page_size"
            limit = min(most, _number(params, name, most, at_least=1))
            return limit, (_number(params, "page", 1, at_least=1) - 1) * limit
        case "offset":
            return min(most, _number(params, "limit", most, at_least=1)), _number(params, "offset", 0)
        case _:
            limit = min(most, _number(params, "limit", most, at_least=1))
            cursor = params.get("cursor", "")
            if cursor and not (cursor.startswith("c") and cursor[1:].isdecimal()):
                raise invalid_query("cursor", "is no cursor of this list")
            return limit, int(cursor[1:] or 0)


def page_members(request: web.BaseRequest, readings: Readings, limit: int, offset: int, total: int) -> str:
    """What stands beside the items of a page, as JSON members with a leading comma."""
    following = f"c{offset + limit}" if offset + limit < total else None
    members: dict[str, object]
    match readings.pages:
        case "page":
            pages = -(-total // limit)
            members = {"page": offset // limit + 1, "per_page": limit, "total": total, "pages": pages}
        case "offset":
            members = {"limit": limit, "offset": offset, "total": total}
        case "cursor":
            members = {"next_cursor": following}
        case _:
            members = {"next": following and str(request.url.update_query(cursor=following))}
    return "," + dump(members)[1:-1]


def _number(params: Mapping[str, str], name: str, default: int, *, at_least: int = 0) -> int:
    text = params.get(name)
    if text is None:
        return default
    if not text.isdecimal() or int(text) < at_least:
        raise invalid_query(name, f"Input should be an integer from {at_least}")
    return int(text)
