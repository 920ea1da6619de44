"""Listings, item by item while they arrive: a million assets are listed without holding them.

In: pieces of a JSON text that is a list, or an object with a list among its members, or among those of an object within.
Out: each item of that list to `take`; what stands beside it in `envelope`. Called by `paging`. Items are decoded whole
by the standard library's decoder in C; ijson took twice as long for items of 280 bytes, and would have to be told the name
of the list.

Which list is meant is told by its name, not by its place: an empty `warnings` before it must not pass for an empty list of
flows. A list whose name says nothing is taken where it holds objects and no other list can be meant.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

ITEM_CHARS: Final = 1 << 20  # no item, and nothing beside the list, is larger
DEPTH: Final = 3  # objects around the list
NAME_CHARS: Final = 64  # a longer name is not remembered: what a service sends is not to fill the memory
# Names as `plain` gives them. A list by one of these is the list that was asked for, whatever was asked for.
LISTS: Final = frozenset({
    "items", "data", "results", "result", "records", "entries", "list", "objects", "values", "value", "elements", "content",
    "contents", "rows", "nodes", "collection", "docs", "documents", "resources", "hydramember",
})  # fmt: skip
WRAPPERS: Final = frozenset({"response", "payload", "body", "embedded"})  # objects that the list may stand in, beside those
# Objects that speak of pages: kept in `envelope` as they are.
PLACES: Final = frozenset({
    "meta", "metadata", "responsemetadata", "pagination", "paging", "page", "pages", "pageinfo", "pagemeta", "links",
    "cursors", "next", "hydraview",
})  # fmt: skip
TROUBLE: Final = frozenset({"error", "errors"})
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_MARKS: Final = re.compile(r"[^a-z0-9]+")
_decode: Final = json.JSONDecoder().raw_decode


def plain(name: str) -> str:
    """One spelling of `next_page_token`, `nextPageToken` and `Next-Page-Token`."""
    return _remembered(name) if len(name) <= NAME_CHARS else _spelled(name)


def _spelled(name: str) -> str:
    return _MARKS.sub("", name.lower())


_remembered: Final = lru_cache(1024)(_spelled)


@lru_cache(16)
def _lists(names: frozenset[str]) -> frozenset[str]:
    return LISTS | names


class NoListing(ValueError):
    """What comes begins as no listing does."""


class ListParser:
    """Feed it bytes, then close it. Both raise ValueError for what is no listing, RecursionError for what is too deep.

    `names` are those of the list that is meant, plain, beside `LISTS`."""

    def __init__(self, take: Callable[[object], None], names: frozenset[str] = frozenset()) -> None:
        self.envelope: dict[str, object] = {}
        self._take = take
        self._names = _lists(names)
        self._text = ""
        self._at = 0
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._step: Callable[[], bool] | None = self._begin
        self._depth = 0  # of objects that are gone through
        self._listed = False  # the list has been met, or a null in its place
        self._filled = False  # it has an item
        self._fresh = False  # a list has begun, and no item of it has been taken
        self._name = ""
        self._beside = 0  # characters of what is kept
        self._others: list[list[object]] = []  # lists by names that say nothing

    def feed(self, piece: bytes) -> None:
        self._text = self._text[self._at :] + self._utf8.decode(piece)
        self._at = 0
        while self._step is not None and self._step():
            pass
        if self._step is None and self._peek():
            raise ValueError("the listing goes on after its end")
        if len(self._text) - self._at > ITEM_CHARS:
            raise ValueError("an item of the listing is larger than 1 MiB, or no JSON")

    def close(self) -> None:
        self._utf8.decode(b"", final=True)
        if self._step is not None:
            raise ValueError("the listing is cut off, or no JSON")
        if self._listed:
            return
        likely = [items for items in self._others if items and all(isinstance(item, dict) for item in items)]
        if len(likely) != 1:
            raise ValueError("there is no list in the listing that can be meant")
        for item in likely[0]:
            self._take(item)

    # Each step takes what it can from the text; False: there is not enough yet.

    def _peek(self) -> str:
        """The next character that is no space; empty where there is none yet."""
        first = self._text[self._at : self._at + 1]
        if first > " ":
            return first  # at once, as nearly always
        space = _SPACE.match(self._text, self._at)
        assert space is not None
        self._at = space.end()
        return self._text[self._at : self._at + 1]

    def _value(self) -> tuple[object] | None:
        """The value that begins here, once all of it is there."""
        try:
            value, end = _decode(self._text, self._at)
        except json.JSONDecodeError:
            return None
        if end == len(self._text) and isinstance(value, int | float):
            return None  # more digits may come
        self._at = end
        return (value,)

    def _begin(self) -> bool:
        match self._peek():
            case "":
                return False
            case "[":
                self._list()
            case "{":
                self._object()
            case "n":
                return self._nothing()
            case "<":
                raise NoListing("a web page in place of a list")
            case _:
                raise NoListing("the listing is neither a list nor an object")
        return True

    def _nothing(self) -> bool:
        """A bare null: how some languages write an empty list."""
        found = self._value()
        if found is not None:
            self._listed = True
            self._step = None
        elif not "null".startswith(self._text[self._at :]):
            raise NoListing("the listing is neither a list nor an object")
        return found is not None

    def _object(self) -> None:
        self._at += 1
        self._depth += 1
        self._step = self._first_member

    def _list(self) -> None:
        self._at += 1
        self._listed = self._fresh = True
        self._step = self._first_item

    def _first_item(self) -> bool:
        if self._peek() == "]":
            return self._end_list()
        return self._item()

    def _item(self) -> bool:
        """Items as long as there are whole ones, for nearly all of a listing is that."""
        taken = False
        while self._peek() and (found := self._value()) is not None:
            if self._fresh:
                if self._filled:
                    raise ValueError("there are two lists in the listing, and either may be meant")
                self._filled, self._fresh = True, False
            self._take(found[0])
            if self._peek() != ",":
                self._step = self._after_item
                return True
            self._at += 1
            self._step = self._item
            taken = True
        return taken

    def _after_item(self) -> bool:
        match self._peek():
            case "":
                return False
            case ",":
                self._at += 1
                self._step = self._item
            case "]":
                return self._end_list()
            case _:
                raise ValueError("the items of the listing are not separated")
        return True

    def _end_list(self) -> bool:
        self._at += 1
        self._step = self._after_member if self._depth else None
        return True

    def _first_member(self) -> bool:
        if self._peek() == "}":
            return self._end()
        return self._member()

    def _member(self) -> bool:
        start = self._at
        if not self._peek() or (found := self._value()) is None:
            return False
        if not isinstance(found[0], str):
            raise ValueError("a member of the listing has no name")
        if self._peek() != ":":
            if self._at < len(self._text):
                raise ValueError("a member of the listing has no value")
            self._at = start
            return False
        self._at += 1
        self._name = found[0]
        self._step = self._member_value
        return True

    def _member_value(self) -> bool:
        name, first = plain(self._name), self._peek()
        if first == "[" and name in self._names:
            self._list()
            return True
        if first == "{" and (name in self._names or name in WRAPPERS) and self._depth < DEPTH:
            self._object()
            return True
        start = self._at
        if not first or (found := self._value()) is None:
            return False
        self._keep(name, found[0], self._at - start)
        self._step = self._after_member
        return True

    def _keep(self, name: str, value: object, size: int) -> None:
        if value is None and name in self._names:
            self._listed = True  # null for an empty list
        elif not isinstance(value, list | dict) or name in PLACES:
            if self.envelope.get(self._name) is None:
                self.envelope[self._name] = value
        elif name in TROUBLE:
            self.envelope[self._name] = bool(value)
        elif isinstance(value, list):
            self._others.append(value)
        else:
            return
        self._beside += size
        if self._beside > ITEM_CHARS:
            raise ValueError("there is more beside the list than 1 MiB")

    def _after_member(self) -> bool:
        match self._peek():
            case "":
                return False
            case ",":
                self._at += 1
                self._step = self._member
            case "}":
                return self._end()
            case _:
                raise ValueError("the members of the listing are not separated")
        return True

    def _end(self) -> bool:
        self._at += 1
        self._depth -= 1
        self._step = self._after_member if self._depth else None
        return True
