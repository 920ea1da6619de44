"""Listings, item by item while they arrive: a million assets are listed without holding them.

In: pieces of a JSON text that is a list, or an object with a list among its members. Out: each item of that list to
`take`; the object's plain members in `envelope`. Called by `flows_api`. Items are decoded whole by the standard library's
decoder in C; ijson took twice as long for items of 280 bytes, and would have to be told the name of the list.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable
from typing import Final

ITEM_CHARS: Final = 1 << 20  # no item, and nothing beside the list, is larger
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_decode: Final = json.JSONDecoder().raw_decode


class ListParser:
    """Feed it bytes, then close it. Both raise ValueError for what is no listing, RecursionError for what is too deep."""

    def __init__(self, take: Callable[[object], None]) -> None:
        self.envelope: dict[str, object] = {}
        self._take = take
        self._text = ""
        self._at = 0
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._step: Callable[[], bool] | None = self._begin
        self._inside = False  # of an object: the list is a member
        self._listed = False  # the list has been met
        self._name = ""

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
        if not self._listed:
            raise ValueError("there is no list in the listing")

    # Each step takes what it can from the text; False: there is not enough yet.

    def _peek(self) -> str:
        """The next character that is no space; empty where there is none yet."""
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
                self._at += 1
                self._inside = True
                self._step = self._first_member
            case _:
                raise ValueError("the listing is neither a list nor an object")
        return True

    def _list(self) -> None:
        self._at += 1
        self._listed = True
        self._step = self._first_item

    def _first_item(self) -> bool:
        if self._peek() == "]":
            return self._end_list()
        return self._item()

    def _item(self) -> bool:
        """Items as long as there are whole ones, for nearly all of a listing is that."""
        taken = False
        while self._peek() and (found := self._value()) is not None:
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
        self._step = self._after_member if self._inside else None
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
        if self._peek() == "[" and not self._listed:
            self._list()
            return True
        if not self._peek() or (found := self._value()) is None:
            return False
        if not isinstance(found[0], list | dict):
            self.envelope[self._name] = found[0]
        self._step = self._after_member
        return True

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
        self._step = None
        return True
