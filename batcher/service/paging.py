"""How a listing leads to its next page, in the forms that are in use; and whether, at its end, all of it was shown.

In: what stood beside the items of each page (`signs_of`), and what the items are called (`Pages.shows`). Out: the address
to ask for next, and in the end a `Listing`. Called by `flows_api`; it asks for nothing itself.

The service does not document its pages, so a sign of more is followed in each way that it may be meant, one after the other:
a way counts as understood when it brings something that was not shown before, and as not understood when its page repeats,
is refused, or is empty though there is more. Where no way is left, the listing is not whole. So no circle is gone round:
an address is asked for once, a page must bring something new, and pages, bytes and time are bounded.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit

from multidict import CIMultiDictProxy

from ..core.names import Names
from ..core.remote import Listing
from .listing import PLACES, TROUBLE, plain

PAGES: Final = 50_000  # of one listing
EMPTY_PAGES: Final = 100  # in a row: services that filter while they walk give them
REPEATED_PAGES: Final = 2  # in a row, of a way that is understood: what is made meanwhile shifts the pages
LISTING_S: Final = 1800.0
LISTING_BYTES: Final = 4 << 30
ADDRESS_CHARS: Final = 8000  # a longer request line is refused by the common servers

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
_BY_LAST: Final = ("starting_after", "after", "after_id")
_IN_HEADERS: Final = frozenset({*_MORE, *_TOTAL, *_TOKENS, "totalpages", "page", "perpage"}) - {"next", "more", "cursor"}
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


@dataclass(slots=True)
class _Page:
    """What came of one page so far."""

    ids: array[int] = field(default_factory=lambda: array("q"))
    items: int = 0
    new: int = 0
    last: str = ""  # the id of the last item


class Pages:
    """The walk through one listing. `address` is to be asked for next: path and query; `base` the endpoint before it.

    Ids are kept from the second page on, as hashes of 8 bytes (`core.names`); two of a million share one once in 40 million
    listings, and then one item is taken for a repetition."""

    def __init__(self, base: str, path: str, query: Mapping[str, str], now: Callable[[], float]) -> None:
        self._base = base
        self._path = path
        self._query = dict(query)
        self._now = now
        self._began = now()
        self._asked: set[int] = set()
        self._seen: Names | None = None
        self._page = _Page()
        self._handed: Names | None = None  # what a page has shown that did not come to its end, and is asked for again
        self._signs = Signs()  # of the last page that counted
        self._last = ""
        self._shown = 0  # items in all
        self._fetched = 0  # pages that counted
        self._requests = 0
        self._bytes = 0
        self._empty = self._repeated = 0  # in a row
        self._second = False  # it is gone through once more
        self._most = PAGES
        self._way = ""  # by which the page was asked for
        self._cursor = ""  # that it was asked for with
        self._number = 0  # of the page that was asked for by number, where the service does not tell numbers
        self._worked: set[str] = set()
        self._dead: set[str] = set()
        self._trouble = ""
        self.address = self._to("", {})
        self._ask(self.address)

    def shows(self, ident: str) -> bool:
        """The page shows this item; whether no page before it did. The same twice on one page is the service's own word."""
        page = self._page
        value = hash(ident) or 1
        page.ids.append(value)
        page.items += 1
        page.last = ident
        new = self._seen is None or value not in self._seen
        page.new += new
        return new and (self._handed is None or value not in self._handed)

    @property
    def begun(self) -> bool:
        """Whether a page has come to its end."""
        return self._requests > 1

    def again(self) -> None:
        """The page did not come to its end, and is asked for once more: what it has shown is not handed on twice."""
        self._handed = self._handed or Names()
        for value in self._page.ids:
            self._handed.add(value)
        self._page = _Page()

    def moved(self, size: int) -> None:
        self._bytes += size

    def refused(self, status: int) -> bool:
        """The page was refused; whether that is because it was asked for in a way that is not understood."""
        return bool(self._way) and status in (400, 404, 405, 410, 414, 416, 422)

    def turn(self, signs: Signs | None) -> Listing | None:
        """The page is at its end (None: it was refused). What the listing is, or None: ask for `address`."""
        page, self._page, self._handed = self._page, _Page(), None
        if signs is None:
            self._dead.add(self._way)
            return self._go_on()
        self._trouble = self._trouble or signs.trouble
        if self._way and page.items and not page.new and not self._second:
            return self._repeats(signs)
        self._repeated = 0
        self._fetched += 1
        self._shown += page.new
        if page.items:
            self._empty = 0
            self._last = page.last
            self._worked.add(self._way)
        else:
            self._empty += 1
            if self._empty > EMPTY_PAGES:
                return Listing(False, f"{EMPTY_PAGES} empty pages came in a row")
            told = self._leads_on(signs) or signs.more or (signs.pages or 0) > self._fetched
            if self._way and not told and not self._counts_from_1():
                self._dead.add(self._way)  # it is beyond the end
        self._signs = signs
        if not self._leads_on(signs) and not self._more(signs, page.items):
            return self._end()
        if self._seen is None:
            self._seen = Names()
        for value in page.ids:
            self._seen.add(value)
        return self._go_on()

    def _repeats(self, signs: Signs) -> Listing | None:
        """Nothing new: a way that is not understood, a circle, or pages that were shifted by what was made meanwhile."""
        self._repeated += 1
        if self._counts_from_1():
            pass
        elif self._way in self._worked and self._repeated <= REPEATED_PAGES:
            self._signs = signs
        else:
            self._dead.add(self._way)
        return self._go_on()

    def _counts_from_1(self) -> bool:
        """Whether page 1 was asked for, to see whether that is the first one or the second."""
        return self._way == "page" and self._number == 1

    def _leads_on(self, signs: Signs) -> bool:
        """Whether the page names the next one."""
        if signs.more is False:
            return False
        return bool(signs.links or signs.tokens or (signs.cursor and signs.cursor != self._cursor))

    def _more(self, signs: Signs, items: int) -> bool:
        """Whether the page says that there is more than was shown."""
        if signs.more or (signs.total or 0) > self._shown or (signs.pages or 0) > self._fetched:
            return True
        if (signs.count or 0) > max(items, self._shown):
            return True
        told = signs.more is False or signs.ended or signs.total is not None or signs.pages is not None
        return not told and signs.limit is not None and items >= max(1, signs.limit)

    def _end(self) -> Listing:
        return Listing(not self._trouble, self._trouble)

    def _go_on(self) -> Listing | None:
        """The next address, by the first way that is left."""
        if self._requests >= self._most:
            return Listing(False, self._why(False) if self._second else f"it has more than {PAGES:,} pages")
        if self._now() - self._began > LISTING_S or self._bytes > LISTING_BYTES:
            return Listing(False, "it takes too long, or too many bytes, to come to its end")
        circle = False
        for way, address, cursor in self._ways(self._signs):
            if way in self._dead or len(address) > ADDRESS_CHARS:
                continue
            if hash(address) in self._asked:
                circle = True
                continue
            self._way, self._cursor = way, cursor
            self._number += way == "page"
            self._ask(address)
            return None
        if self._fetched > 1 and not self._second and not circle:
            self._once_more()
            return None
        return Listing(False, self._why(circle))

    def _once_more(self) -> None:
        """From the start, for what was made meanwhile may have shifted the pages; only what was not shown is handed on."""
        self._second = True
        self._most = self._requests * 2 + 2
        self._asked.clear()
        self._dead.clear()
        self._way, self._cursor, self._number, self._fetched = "", "", 0, 0
        self._ask(self._to("", {}))

    def _why(self, circle: bool) -> str:
        signs = self._signs
        told = max(signs.total or 0, signs.count or 0)
        if told > self._shown:
            return f"it tells of {told:,} and shows {self._shown:,}, and how to ask for the rest is not known"
        if circle:
            return "its pages lead in a circle"
        return "there is more, or may be, and how to ask for it is not known"

    def _ways(self, signs: Signs) -> Iterator[tuple[str, str, str]]:
        """(kind, address, the cursor in it), the likeliest first."""
        for link in signs.links:
            if (address := self._of_link(link)) is not None:
                yield "link", address, ""
        for way, text in signs.tokens:
            yield f"token {way}", self._to("", {way: text}), text
        if signs.cursor and signs.cursor != self._cursor:
            yield "token cursor", self._to("", {"cursor": signs.cursor}), signs.cursor
        if not self._leads_on(signs) or self._more(signs, 0):
            # Not told, it is 1 first: counted from 0 that is the second page, from 1 the first, which shows nothing new.
            number = signs.page + 1 if signs.page is not None else self._number + 1
            by_number = "page", self._to("", {"page": str(number)}), ""
            by_offset = "offset", self._to("", {"offset": str(self._shown)}), ""
            yield from (by_offset, by_number) if signs.offset is not None and signs.page is None else (by_number, by_offset)
            for way in _BY_LAST if self._last and signs.more else ():
                yield way, self._to("", {way: self._last}), ""

    def _to(self, query: str, more: Mapping[str, str], path: str | None = None) -> str:
        """Path and query: what was asked for first stays, unless the next page's address says otherwise."""
        pairs = parse_qsl(query, keep_blank_values=True) + list(more.items())
        names = {name for name, _ in pairs}
        pairs = [(name, value) for name, value in self._query.items() if name not in names] + pairs
        path = self._path if path is None else quote(path, safe="/%:@!$&'()*+,;=~")
        return f"{path}?{urlencode(pairs)}" if pairs else path

    def _of_link(self, link: str) -> str | None:
        """Where a link leads at this endpoint, whatever host it names: gateways show their inside, and the key goes nowhere
        else. None: to something else."""
        try:
            target, own = urlsplit(urljoin(self._base + self._path, link)), urlsplit(self._base)
            if target.path.rstrip("/").endswith(self._path):
                return self._to(target.query, {})
            if target[:2] == own[:2] and target.path.startswith(own.path + "/"):
                return self._to(target.query, {}, target.path[len(own.path) :])
        except ValueError:
            pass
        return None

    def _ask(self, address: str) -> None:
        self.address = address
        self._asked.add(hash(address))
        self._requests += 1
