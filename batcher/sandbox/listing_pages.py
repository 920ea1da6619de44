"""How a listing is cut into pages, in each of the readings that are in use out there.

In: the query of a request and the readings. Out: which rows, and the members and headers that lead to the next page.
Called by `flow_calls` and `asset_calls`. All but `last_id` count from the start of the list, as services that page by number
do: a flow that is deleted while its client goes through the pages shifts those after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web

from .readings import Readings
from .refusals import invalid_query
from .render import dump

_PARAMETERS = frozenset(
    {"page", "per_page", "page_size", "limit", "offset", "cursor", "page_token", "starting_after", "next_token"}
)
_BY_NUMBER = frozenset({"page", "next_page", "has_more", "total", "link", "headers"})
_BY_TOKEN = {"cursor": "cursor", "next": "cursor", "token": "cursor", "page_token": "page_token"}


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list was asked for. `limit` None: all of it. `after`: those behind the one with this id."""

    limit: int | None = None
    offset: int = 0
    start: int = 0  # the same, with the empty page before the first one counted
    after: str = ""

    @property
    def rows(self) -> tuple[int, int]:
        """LIMIT and OFFSET."""
        return -1 if self.limit is None else self.limit, self.offset


@dataclass(frozen=True, slots=True)
class Beside:
    """What stands beside the items: JSON members, before or after them, and headers."""

    before: str = ""
    after: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def page_of(params: Mapping[str, str], readings: Readings, *, flows: bool = True) -> Page:
    """The page that a request asks for. Raises a Refusal (422)."""
    most = readings.page_size
    if readings.pages == "none" or not (flows or readings.paged == "all"):
        return Page()
    if readings.page_params == "refused" and (named := _PARAMETERS & params.keys()):
        raise invalid_query(min(named), "Extra inputs are not permitted")
    if readings.page_params == "ignored" or readings.pages == "cap":
        params = {}
    limit, start, after = most, 0, ""
    if readings.pages in _BY_NUMBER:
        name = "per_page" if "per_page" in params else "page_size"
        limit = min(most, _number(params, name, most, at_least=1))
        start = (_number(params, "page", 1, at_least=1) - 1) * limit
    elif readings.pages == "offset":
        limit = min(most, _number(params, "limit", most, at_least=1))
        start = _number(params, "offset", 0)
    elif readings.pages == "last_id":
        after = params.get("starting_after", "")
    elif readings.pages != "cap":
        limit = min(most, _number(params, "limit", most, at_least=1))
        start = _start_of(params, _BY_TOKEN[readings.pages])
    if readings.page_first == "empty":
        return Page(0 if start < most else limit, max(0, start - most), start, after)
    return Page(limit, start, start, after)


def _start_of(params: Mapping[str, str], name: str) -> int:
    token = params.get(name, "")
    if token and not (token.startswith("c") and token[1:].isdecimal()):
        raise invalid_query(name, "is no cursor of this list")
    return int(token[1:] or 0)


def beside(
    request: web.BaseRequest, readings: Readings, page: Page, envelope: str, total: int, left: int
) -> Beside:
    """What leads on from a page of a list of `total` items, `left` of them behind it."""
    if page.limit is None or readings.pages == "cap":
        return Beside()
    limit = readings.page_size if page.limit == 0 else page.limit
    end = page.start + limit
    more = left > 0
    if readings.page_end == "circle" and not more and total:
        more, end = True, 0
    members, headers = _members(request, readings, limit, page.start, end, more, total)
    if readings.pages_in != "top" and members:
        if readings.pages_in == "_links":
            members = {name: {"href": value} if name == "next" and value else value for name, value in members.items()}
        members = {readings.pages_in: members}
    text = dump(members)[1:-1]
    if not text or envelope == "bare":
        return Beside(headers=headers)
    if readings.pages_place == "before":
        return Beside(text + ",", "", headers)
    return Beside("", "," + text, headers)


def _members(
    request: web.BaseRequest, readings: Readings, limit: int, start: int, end: int, more: bool, total: int
) -> tuple[dict[str, object], dict[str, str]]:
    """The members of a page and its headers. `end`: where the next page begins, if there is `more`."""
    token = f"c{end}" if more else None
    number = end // limit + 1
    shift = limit if readings.page_first == "empty" else 0
    match readings.pages:
        case "page":
            pages = -(-(total + shift) // limit)
            return {"page": start // limit + 1, "per_page": limit, "total": total, "pages": pages}, {}
        case "offset":
            return {"limit": limit, "offset": start, "total": total}, {}
        case "cursor":
            return {"next_cursor": token}, {}
        case "page_token":
            return {"next_page_token": token}, {}
        case "token":
            return {"next": token}, {}
        case "next_page":
            return {"next_page": number if more else None}, {}
        case "has_more" | "last_id":
            return {"has_more": more}, {}
        case "total":
            return {"total_count": total}, {}
        case "headers":
            return {}, {"X-Total-Count": str(total), "X-Next-Page": str(number) if more else ""}
        case "link":
            url = request.url.update_query(page=number)
            return {}, {"Link": f'<{url.with_query(page=1)}>; rel="first"' + (f', <{url}>; rel="next"' if more else "")}
        case _:
            return {"next": token and str(request.url.update_query(cursor=token))}, {}


def _number(params: Mapping[str, str], name: str, default: int, *, at_least: int = 0) -> int:
    text = params.get(name)
    if text is None:
        return default
    if not text.isdecimal() or int(text) < at_least:
        raise invalid_query(name, f"Input should be an integer from {at_least}")
    return int(text)
