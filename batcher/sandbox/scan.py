"""A JSON object read while it arrives, its member `data` passed on piece by piece.

In: the bytes of a request body, cut anywhere. Out: the text of `data` (UTF-8, escapes undone) through a callback, and
the raw JSON of every other member. A body of 1 GiB is read in the memory of one block. Called by `uploads`.
The shape is h11's: bytes in, events out, no I/O; each state is a method that says how far it got.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

# Everything but `data` is held in memory. `additional` is a tag and some details, not a payload.
MEMBERS_MAX_BYTES = 4 * 1024 * 1024
KEY_MAX_BYTES = 4096
# The longest escape: a surrogate pair, \ud83d\ude00.
ESCAPE_MAX_BYTES = 12

_SPACE = re.compile(rb"[ \t\n\r]*")
_KEY = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_STRUCTURE = re.compile(rb'["{}\[\],]')
_STRING_REST = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_HEX = rb"[0-9a-fA-F]"
_ESCAPE = re.compile(
    rb'\\(?:["\\/bfnrt]|u[dD][89abAB]' + _HEX + rb"{2}\\u[dD][c-fC-F]" + _HEX + rb"{2}|u(?![dD][89a-fA-F])" + _HEX + rb"{4})"
)
_STRING_TOKENS = re.compile(rb'(?:[^"\\\x00-\x1f]++|' + _ESCAPE.pattern + rb")*+")


class NotJson(ValueError):
    """The body is not one JSON object."""


def load_json(raw: bytes) -> Any:
    """Strict JSON: UTF-8 only, no NaN or Infinity, nothing too deep. Raises NotJson."""
    try:
        return json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise NotJson(str(error)) from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _unescape(match: re.Match[bytes]) -> bytes:
    text: str = json.loads(b'"' + match.group() + b'"')
    return text.encode("utf-8")


class ObjectScanner:
    """Reads one JSON object. `on_data(piece, raw)` gets the pieces of `data`; raw: no escape was in the piece."""

    def __init__(self, on_data: Callable[[bytes, bool], None]) -> None:
        self.members: dict[str, bytes] = {}
        self.has_data = False
        self._on_data = on_data
        self._pending = b""
        self._step: Callable[[bytes, int], int] = self._open
        self._key = ""
        self._value: list[bytes] = []
        self._members_bytes = 0
        self._depth = 0
        self._in_string = False

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes. Raises NotJson; after that the scanner is spent."""
        buffer = self._pending + chunk if self._pending else chunk
        position = 0
        while position < len(buffer):
            step, before = self._step, position
            position = step(buffer, position)
            if position == before and self._step == step:
                break  # needs more bytes: an escape or a key was cut
        self._pending = buffer[position:]

    def close(self) -> None:
        """Raises NotJson if the object is not complete."""
        if self._pending or self._step != self._end:
            raise NotJson("the body ends early")

    # Each step takes the buffer and a position and returns the position of what it left.

    def _open(self, buffer: bytes, position: int) -> int:
        return self._punctuation(buffer, position, {b"{": self._first_key})

    def _first_key(self, buffer: bytes, position: int) -> int:
        position = _skip_space(buffer, position)
        if buffer[position : position + 1] == b"}":
            self._step = self._end
            return position + 1
        self._step = self._read_key
        return position

    def _read_key(self, buffer: bytes, position: int) -> int:
        position = _skip_space(buffer, position)
        if position == len(buffer):
            return position
        match = _KEY.match(buffer, position)
        if match is None:
            if buffer[position] != 0x22 or len(buffer) - position > KEY_MAX_BYTES:
                raise NotJson("expected a member's name in double quotes")
            return position
        self._key = load_json(match.group())
        self._step = self._colon
        return match.end()

    def _colon(self, buffer: bytes, position: int) -> int:
        return self._punctuation(buffer, position, {b":": self._begin_value})

    def _begin_value(self, buffer: bytes, position: int) -> int:
        position = _skip_space(buffer, position)
        if position == len(buffer):
            return position
        if self._key == "data":
            # Taking the last of two would mean to forget what was already passed on.
            if self.has_data or "data" in self.members:
                raise NotJson("member data is there twice")
            if buffer[position] == 0x22:
                self.has_data = True
                self._step = self._read_data
                return position + 1
        self._value, self._depth, self._in_string = [], 0, False
        self._step = self._read_value
        return position

    def _read_data(self, buffer: bytes, position: int) -> int:
        quote = buffer.find(b'"', position)
        end = quote if quote >= 0 else len(buffer)
        if buffer.find(b"\\", position, end) < 0:  # pure base64, nearly always
            self._on_data(buffer[position:end], True)
        else:
            match = _STRING_TOKENS.match(buffer, position)
            end = match.end() if match else position
            if end > position:
                self._on_data(_ESCAPE.sub(_unescape, buffer[position:end]), False)
        if buffer[end : end + 1] == b'"':
            self._step = self._after_value
            return end + 1
        if len(buffer) - end >= ESCAPE_MAX_BYTES:
            raise NotJson("invalid escape in data")
        return end

    def _read_value(self, buffer: bytes, position: int) -> int:
        start, done = position, False
        while position < len(buffer) and not done:
            if self._in_string:
                match = _STRING_REST.match(buffer, position)
                position = match.end() if match else position
                if buffer[position : position + 1] != b'"':
                    break  # the string goes on, or an escape was cut
                self._in_string = False
                position += 1
                continue
            found = _STRUCTURE.search(buffer, position)
            if found is None:
                position = len(buffer)
                break
            position, sign = found.end(), found.group()
            if sign == b'"':
                self._in_string = True
            elif sign in b"{[":
                self._depth += 1
            elif self._depth == 0 and sign != b"]":
                position, done = found.start(), True
            elif sign in b"}]":
                self._depth -= 1
        self._keep(buffer[start:position])
        if done:
            raw = b"".join(self._value).strip(b" \t\n\r")
            load_json(raw)
            self.members[self._key] = raw
            self._step = self._after_value
        return position

    def _keep(self, piece: bytes) -> None:
        self._value.append(piece)
        self._members_bytes += len(piece)
        if self._members_bytes > MEMBERS_MAX_BYTES:
            raise NotJson(f"members other than data exceed {MEMBERS_MAX_BYTES} bytes")

    def _after_value(self, buffer: bytes, position: int) -> int:
        return self._punctuation(buffer, position, {b",": self._read_key, b"}": self._end})

    def _end(self, buffer: bytes, position: int) -> int:
        return self._punctuation(buffer, position, {})

    def _punctuation(self, buffer: bytes, position: int, then: dict[bytes, Callable[[bytes, int], int]]) -> int:
        position = _skip_space(buffer, position)
        if position == len(buffer):
            return position
        sign = buffer[position : position + 1]
        if sign not in then:
            raise NotJson(f"unexpected {sign!r}")
        self._step = then[sign]
        return position + 1


def _skip_space(buffer: bytes, position: int) -> int:
    match = _SPACE.match(buffer, position)
    return match.end() if match else position
