"""The way through the pages of a listing, in the forms that are in use; and whether, at its end, all of it was shown.

In: what each page says of the others (`signs`), and what its items are called (`Pages.shows`). Out: the address to ask for
next, and in the end a `Listing`. Called by `paging`; it asks for nothing itself.

The service does not document its pages, so a sign of more is followed in each way that it may be meant, one after the other:
a way counts as understood when it brings something that was not shown before, and as not understood when its page repeats,
is refused, or is empty though there is more. Where no way is left, the listing is not whole. So no circle is gone round:
an address is asked for once, a page must bring something new, and pages, bytes and time are bounded.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit

from ..core.names import Names
from ..core.remote import Listing
from .exchange import PATH_SAFE
from .signs import Signs

PAGES: Final = 50_000  # of one listing
EMPTY_PAGES: Final = 100  # in a row: services that filter while they walk give them
REPEATED_PAGES: Final = 2  # in a row, of a way that is understood: what is made meanwhile shifts the pages
LISTING_S: Final = 1800.0
LISTING_BYTES: Final = 4 << 30
ADDRESS_CHARS: Final = 8000  # a longer request line is refused by the common servers
_BY_LAST: Final = ("starting_after", "after", "after_id")  # parameters that may take the last item's id


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
        path = self._path if path is None else quote(path, safe=PATH_SAFE)
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
