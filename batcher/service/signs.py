"""What one page of a listing says of the others: where the next one is, whether there is more, how much there is in all.

In: a reply's status, the members beside its list, and its headers. Out: `Signs`. Called by `paging`. The service does not
document its pages, so every form that is in use is read; `pages` decides which of them to go by.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from multidict import CIMultiDictProxy

from .listing import PLACES, TROUBLE, plain

# Names as `plain` gives them.
_NEXT: Final = (
    "next", "nextlink", "nexturl", "nexthref", "nexturi", "nextpageurl", "nextpagelink", "odatanextlink", "hydranext",
    "nextpage",
)  # fmt: skip
_TOKENS: Final[Mapping[str, tuple[str, ...]]] = {  # member → parameters that may take it
    "nextcursor": ("cursor", "next_cursor", "after"),
    "nextpagetoken": ("page_token", "pageToken", "next_page_token"),
    "nexttoken": ("next_token", "nextToken", "token"),
    "continuation": ("continuation",),
    "continuationtoken": ("continuation_token", "continuationToken", "continuation"),
    "nextcontinuationtoken": ("continuation_token", "continuationToken", "continuation-token"),
    "nextmarker": ("marker",),
    "nextoffset": ("offset",),
    "nextstartingafter": ("starting_after",),
    "nextpagenumber": ("page",),
    "scrollid": ("scroll_id",),
    "nextpage": ("page", "page_token", "cursor"),
    "next": ("cursor", "next", "page_token", "after"),
}
_WITH_MORE: Final[Mapping[str, tuple[str, ...]]] = {  # tokens that are there on the last page, too
    "endcursor": ("after", "cursor"), "after": ("after", "cursor"), "lastid": ("after_id", "after", "starting_after"),
}  # fmt: skip
_MORE: Final = ("hasmore", "more", "hasnext", "hasnextpage", "moreavailable", "moreresults", "istruncated", "truncated")
_PARTLY: Final = ("partial", "incomplete", "incompleteresults")
_TOTAL: Final = ("total", "totalcount", "totalitems", "totalresults", "totalelements", "totalrecords", "totalhits", "totalsize",
                 "numresults", "totalflows", "totalinputs", "totaloutputs", "hydratotalitems", "odatacount")  # fmt: skip
_PAGES: Final = ("pages", "totalpages", "pagecount", "lastpage", "numpages")
_PAGE: Final = ("page", "currentpage", "pagenumber", "number", "pageindex")
_OFFSET: Final = ("offset", "skip", "start", "from")
_LIMIT: Final = ("limit", "perpage", "pagesize", "size")
_IN_HEADERS: Final = frozenset({*_MORE, *_TOTAL, *_TOKENS, "totalpages", "page", "perpage"}) - {"next", "more", "cursor"}
_SAYING: Final = frozenset({*_NEXT, *_TOKENS, *_WITH_MORE, *_MORE, *_PARTLY, *_TOTAL, *_PAGES, *_PAGE, *_OFFSET, *_LIMIT,
                            *TROUBLE, "cursor", "count"})  # fmt: skip
_LINK: Final = re.compile(r"<([^<>]*)>([^<]*)")
_REL_NEXT: Final = re.compile(r"""rel\s*=\s*(?:"(?:[^"]*\s)?next(?:\s[^"]*)?"|'next'|next\b)""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Signs:
    """What one page says of the others. `links` are addresses, `tokens` parameters with their values; `cursor` may be that of
    the next page or this page's own."""

    links: tuple[str, ...] = ()
    tokens: tuple[tuple[str, str], ...] = ()
    cursor: str = ""
    more: bool | None = None
    ended: bool = False  # a member that would lead on is there, and empty
    total: int | None = None
    count: int | None = None  # of all, or of this page
    pages: int | None = None
    page: int | None = None
    offset: int | None = None
    limit: int | None = None
    trouble: str = ""  # why nothing after this page can make the listing whole


def signs_of(status: int, envelope: Mapping[str, object], headers: CIMultiDictProxy[str]) -> Signs:
    """Read them from the reply's status, the members beside its list, and its headers."""
    found = _members(envelope)
    for name, text in headers.items():
        spelled = plain(name).removeprefix("x")
        if spelled in _IN_HEADERS:
            found.setdefault(spelled, (name.lower().removeprefix("x-").replace("-", "_"), text))
    if status != 206 and found.keys().isdisjoint(_SAYING) and "Content-Range" not in headers and "Link" not in headers:
        return Signs()  # as nearly always, of a short list
    total = _first_number(found, _TOTAL)
    if (span := re.search(r"/\s*(\d{1,18})\s*$", headers.get("Content-Range", ""))) is not None:
        total = int(span[1]) if total is None else total
    more = next((_truth(found[name][1]) for name in _MORE if name in found and _truth(found[name][1]) is not None), None)
    links, tokens, ended = _following(found)
    for text in headers.getall("Link", []):
        links += [target for target, rest in _LINK.findall(text) if _REL_NEXT.search(rest)]
    for name in ("next", "nextpage"):
        said = _truth(found[name][1]) if name in found else None
        more = said if more is None and said is not None else more
    if more:
        tokens += [(way, text) for name, ways in _WITH_MORE.items() if (text := _token(found, name)) for way in ways]
    trouble = ""
    if any(found[name][1] for name in TROUBLE if name in found):
        trouble = "it comes with an error"
    elif any(_truth(found[name][1]) for name in _PARTLY if name in found):
        trouble = "it says itself that it is a part"
    elif status == 206 and total is None:
        trouble = "it came as a part (206)"
    return Signs(
        tuple(links), tuple(tokens), _token(found, "cursor"), more, ended, total, _first_number(found, ("count",)),
        _first_number(found, _PAGES), _first_number(found, _PAGE), _first_number(found, _OFFSET), _first_number(found, _LIMIT),
        trouble,
    )  # fmt: skip


def _members(envelope: Mapping[str, object]) -> dict[str, tuple[str, object]]:
    """plain name → (name, value): of the envelope, then of the objects in it that speak of pages."""
    found: dict[str, tuple[str, object]] = {}
    level: list[Mapping[str, object]] = [envelope]
    for _ in range(3):
        below: list[Mapping[str, object]] = []
        for members in level:
            for name, value in members.items():
                spelled = plain(name)
                if isinstance(value, list) and spelled == "links":  # [{"rel": "next", "href": "…"}]
                    value = {str(one.get("rel")): one.get("href") for one in value if isinstance(one, dict)}
                if isinstance(value, dict):
                    if spelled == "next":
                        target = next((value[n] for n in ("href", "url", "cursor", "token", "page") if value.get(n)), None)
                        found.setdefault(spelled, (name, target))
                    elif spelled in PLACES:
                        below.append(value)
                elif spelled not in found or found[spelled][1] is None:
                    found[spelled] = (name, value)
        level = below
    return found


def _following(found: Mapping[str, tuple[str, object]]) -> tuple[list[str], list[tuple[str, str]], bool]:
    """Links, tokens, and whether a member that would lead on is there without leading anywhere."""
    links: list[str] = []
    tokens: list[tuple[str, str]] = []
    empty = False
    for name in dict.fromkeys((*_NEXT, *_TOKENS)):
        if name not in found:
            continue
        spelled, value = found[name]
        if not value or value is True:
            empty = empty or not value
        elif isinstance(value, str) and (name not in _TOKENS or _is_address(value)):
            links.append(value)
        elif text := _token(found, name):
            ways = _TOKENS.get(name, ())
            ways = ("page", *ways) if name == "next" and text.isdecimal() else ways
            camel = spelled != spelled.lower()
            tokens += [(way, text) for way in sorted(dict.fromkeys(ways), key=lambda way: (way != way.lower()) is not camel)]
    return links, tokens, empty and not links and not tokens


def _is_address(text: str) -> bool:
    """A token may begin with a slash, too; an address of a page has a query, or names the list."""
    return "://" in text or text.startswith("?") or bool(re.match(r"[\w./%~-]*\?[\w.%\[\]-]+=", text)) or (
        text.startswith("/") and bool(re.search(r"/(flows|inputs|outputs|templates)(/|$)", text)))  # fmt: skip


def _token(found: Mapping[str, tuple[str, object]], name: str) -> str:
    value = found[name][1] if name in found else None
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value else ""


def _first_number(found: Mapping[str, tuple[str, object]], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = found[name][1] if name in found else None
        if isinstance(value, str) and value.isdecimal() and len(value) < 18:
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None


def _truth(value: object) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None
