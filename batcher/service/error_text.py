"""The words of a refusal, out of whatever shape they come in, however large it is.

In: pieces of a reply's body. Out: a line for people. Called by `receiving` for every reply that is no success. Services say
again what was sent to them (FastAPI's 422 does, under `input`), so long strings of JSON are cut while they arrive: what is
kept is small, and what comes after them is read, too.
"""

from __future__ import annotations

import html
import json
import re
from typing import Any, Final

KEPT_BYTES: Final = 64 << 10  # of a body, its long strings cut
STRING_BYTES: Final = 4 << 10  # of a string: more than is ever shown, however it is escaped
ESCAPE_BYTES: Final = 6  # at most
DEEP: Final = 8  # words are not looked for further inside
_PLAIN: Final = re.compile(rb'[^"\\]+')
_OUTSIDE: Final = re.compile(rb'[^"]+')
_MEMBER: Final = re.compile(r'"(loc|msg|message|title|detail)"\s*:\s*("(?:[^"\\]|\\.)*"|\[[^\[\]{}]*\])')
_XML: Final = re.compile(r"<(?:\w+:)?(code|message|title|detail)(?:\s[^>]*)?>([^<]+)</", re.IGNORECASE)


class Head:
    """What is kept of a body. Feed it until it is `full`."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self.json: bool | None = None  # by its first byte
        self._string = -1  # bytes of the string that we are in; -1: in none
        self._escaped = False

    @property
    def full(self) -> bool:
        return len(self._kept) >= KEPT_BYTES

    def feed(self, piece: bytes) -> None:
        if self.json is None:
            piece = piece.lstrip()
            if not piece:
                return
            self.json = piece[:1] in (b"{", b"[")
        if not self.json:
            self._kept += piece[: KEPT_BYTES - len(self._kept)]
            return
        at = 0
        while at < len(piece) and not self.full:
            at = self._between(piece, at) if self._string < 0 else self._inside(piece, at)

    def _between(self, piece: bytes, at: int) -> int:
        """Outside of strings."""
        other = _OUTSIDE.match(piece, at)
        if other is not None:
            self._kept += other[0][: KEPT_BYTES - len(self._kept)]
            return other.end()
        self._kept += b'"'
        self._string = 0
        return at + 1

    def _inside(self, piece: bytes, at: int) -> int:
        """Of a string. Half an escape is never kept."""
        if self._escaped:
            self._escaped = False
            self._keep(piece[at : at + 1])
            return at + 1
        plain = _PLAIN.match(piece, at)
        if plain is not None:
            self._keep(plain[0])
            return plain.end()
        if piece[at : at + 1] == b'"':
            self._string = -1
            self._kept += b'"'
            return at + 1
        self._escaped = True
        if self._string + ESCAPE_BYTES > STRING_BYTES:
            self._string = STRING_BYTES
        self._keep(b"\\")
        return at + 1

    def _keep(self, data: bytes) -> None:
        self._kept += data[: STRING_BYTES - self._string]
        self._string = min(STRING_BYTES, self._string + len(data))

    def text(self) -> str:
        return self._kept.decode(errors="replace").strip()


def words_of(text: str) -> str:
    """What the service says; of a page in HTML nothing but that it is one."""
    if text[:1] == "<":
        return _of_markup(text)
    try:
        return _of_json(json.loads(text), 0) or text
    except (ValueError, RecursionError):
        return _of_members(text) if text[:1] in ("{", "[") else text


def _of_markup(text: str) -> str:
    found: dict[str, str] = {}
    for name, value in _XML.findall(text):
        found.setdefault(name.lower(), html.unescape(value).strip())
    if re.search(r"<html|<!doctype html", text, re.IGNORECASE) or not (found.keys() & {"code", "message", "detail"}):
        return "an HTML page" if not text.startswith("<?xml") else "XML without words"
    return ": ".join(found.values())


def _of_members(text: str) -> str:
    """Of JSON that was cut off: the members that are whole."""
    parts: list[str] = []
    place = ""
    for name, value in _MEMBER.findall(text):
        try:
            found = json.loads(value, strict=False)
        except ValueError:
            continue
        if name == "loc" and isinstance(found, list):
            place = ".".join(map(str, found)) + ": "
        elif isinstance(found, str):
            parts.append(place + found)
            place = ""
    return "; ".join(parts) or text


def _of_json(value: Any, depth: int) -> str:
    """Of a string itself, of a list what each says, of an object its words by the names that are in use for them."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and depth < DEEP:
        return "; ".join(words for each in value if (words := _of_json(each, depth + 1)))
    if not isinstance(value, dict) or depth >= DEEP:
        return ""

    def said(*names: str) -> str:
        return next((words for name in names if (words := _of_json(value.get(name), depth + 1))), "")

    loc = value.get("loc")
    place = ".".join(map(str, loc)) if isinstance(loc, list) else said("field")
    found = [said("msg", "message", "error_description", "title"), said("detail", "errors")]
    if not any(found):
        found = [said("error")]
    parts = [place, "" if place else _code(value), *found]
    return ": ".join(dict.fromkeys(part for part in parts if part)) or json.dumps(value, ensure_ascii=False)


def _code(value: dict[str, Any]) -> str:
    """A code that is a word, such as `insufficient_quota`; a number says nothing that the status does not."""
    codes = (value.get(name) for name in ("code", "__type", "type"))
    return next((code for code in codes if isinstance(code, str) and code.replace("-", "_").isidentifier()), "")
