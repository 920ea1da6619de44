"""Downloads decoded while they stream: `{"data": "data:…;base64,…"}`, the bytes themselves, or the address where they lie,
told apart by content. A text that is not declared as one is none of them: it may be an error in words.

In: pieces of a reply's body in order. Out: pieces of the content, and the type that it was said to have. Called by
`downloads`, for outputs, and by `receiving`, for the digests of inputs. Nothing but a text (which is bounded) is held whole.
The service's facts: flows-api, `GET …/outputs/{asset_id}`.
"""

from __future__ import annotations

import json
import re
from typing import Final

import pybase64

from ..core.media import detect, plain_output_type
from ..core.output_check import HEAD_BYTES
from ..core.text import shortened

SEEK_BYTES: Final = 1 << 20  # what may stand before the member `data`: an `additional`, for example
TEXT_BYTES: Final = 64 << 20  # a text, as JSON spells it: 16 MiB of UTF-8 may take so much
HEADER_BYTES: Final = 1024  # of a data URI
NOTE_BYTES: Final = 64 << 10  # a reply that names an address is no larger
SHOWN_CHARS: Final = 101  # of a text that came in an output's place: 100, and the sign that something was left out
ADDRESS_NAMES: Final = ("data", "url", "download_url", "signed_url", "href", "uri", "location")
_ADDRESS: Final = re.compile(r"https?://[^\s\"<>\\]+", re.IGNORECASE)
_SIGNED: Final = re.compile(r"(https?://[^\s?#]*)[?#]\S*", re.IGNORECASE)
_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^\s"{}\[\],:]+', re.DOTALL)
_SPACE: Final = re.compile(rb"\s*")
_UNCUT: Final = re.compile(rb'[^"\\]*(?:\\(?:u[0-9a-fA-F]{4}|[^u])[^"\\]*)*', re.DOTALL)


class NotAnOutput(Exception):
    """What came is whole, and no output; the message is for people."""


class Elsewhere(Exception):
    """What came is whole, and names the address of the output. Whoever knows it may read there: it is never shown."""

    def __init__(self, address: str) -> None:
        super().__init__("an address")
        self.address = address


def unsigned(text: str) -> str:
    """A text for people: of addresses in it only what is no secret."""
    return _SIGNED.sub(r"\1?…", text)


def _of_text(text: str) -> Elsewhere | NotAnOutput:
    text = text.strip()
    if _ADDRESS.fullmatch(text):
        return Elsewhere(text)
    return NotAnOutput(f"it is a text: {shortened(unsigned(text), SHOWN_CHARS)}")


def _of_note(note: bytes) -> Elsewhere | NotAnOutput | None:
    """What a small reply without a string `data` says: an address, a text, or nothing."""
    try:
        value = json.loads(note)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, str):
        return _of_text(value)
    holders = [value, value.get("data")] if isinstance(value, dict) else []
    named = (holder.get(name) for holder in holders if isinstance(holder, dict) for name in ADDRESS_NAMES)
    return next((Elsewhere(each) for each in named if isinstance(each, str) and _ADDRESS.fullmatch(each)), None)


class DataMember:
    """The value of the member `data` of the object at the top: found, taken out of its JSON string, and decoded."""

    def __init__(self) -> None:
        self.declared = ""
        self._seek: bytearray | None = bytearray()  # None: the value has been found
        self._at = 0
        self._depth = 0
        self._before = b""  # the last token
        self._key = b""  # the last string that may be a member's name
        self._cut = b""  # an escape that goes on in the next piece
        self._start: bytearray | None = bytearray()  # the value's first bytes, until they tell what it is
        self._text: bytearray | None = None  # the value where it is a text
        self._group = b""  # of base64, fewer than four characters
        self._padded = False
        self._ended = False
        self._last = b""

    @property
    def seeking(self) -> bool:
        """Whether no value has been found yet."""
        return self._seek is not None

    @property
    def is_text(self) -> bool:
        """Whether the value is a text, not a data URI."""
        return self._text is not None

    def feed(self, piece: bytes) -> bytes:
        """What the piece adds to the output. Raises NotAnOutput."""
        if self._seek is not None:
            self._seek += piece
            found = self._find(self._seek)
            if found is None:
                if len(self._seek) > SEEK_BYTES:
                    raise NotAnOutput("the reply has no member `data` in its first MiB")
                return b""
            self._seek, piece = None, found
        if self._ended:
            self._last = piece.rstrip()[-1:] or self._last
            return b""
        return self._string(piece)

    def end(self) -> bytes:
        """The reply has ended: what is left of the output. Raises NotAnOutput; ValueError where it was cut off."""
        if self._seek is not None:
            raise NotAnOutput("the reply has no member `data`")
        if not self._ended or self._last != b"}":
            raise ValueError("the reply ends before its JSON does")
        if self._text is not None:
            self.declared = "text/plain"
            return str(json.loads(b'"' + bytes(self._text) + b'"')).encode(errors="replace")
        return b""

    def _find(self, held: bytearray) -> bytes | None:
        """What follows the opening quote of the value; None: not there yet."""
        while True:
            self._at = _SPACE.match(held, self._at).end()  # type: ignore[union-attr]  # it matches always
            wanted = self._before == b":" and self._depth == 1 and self._key == b'"data"'
            if self._at < len(held) and wanted:
                if held[self._at : self._at + 1] != b'"':
                    raise NotAnOutput("the reply's member `data` is no string")
                return bytes(held[self._at + 1 :])
            found = _TOKEN.match(held, self._at)
            if found is None:
                return None
            token = found[0]
            if token in (b"{", b"["):
                self._depth += 1
            elif token in (b"}", b"]"):
                self._depth -= 1
            elif token[:1] == b'"' and self._before in (b"{", b",") and self._depth == 1:
                self._key = bytes(token)
            self._before = bytes(token)
            self._at = found.end()

    def _string(self, piece: bytes) -> bytes:
        data = self._cut + piece
        uncut = _UNCUT.match(data).end() if b"\\" in data else -1  # type: ignore[union-attr]
        end = data.find(b'"') if uncut < 0 else uncut if data[uncut : uncut + 1] == b'"' else -1
        if end >= 0:
            self._ended, self._cut = True, b""
            self._last = data[end + 1 :].rstrip()[-1:]
            data = data[:end]
        elif uncut >= 0:
            self._cut, data = data[uncut:], data[:uncut]
            if len(self._cut) > 5:
                raise NotAnOutput("the reply's JSON has a broken escape")
        if self._text is not None:
            return self._more_text(data)
        if self._start is None:
            return self._base64(_unescaped(data))
        self._start += data
        start = _unescaped(bytes(self._start))
        if len(start) < 5 and not self._ended:
            return b""
        if not start.startswith(b"data:"):
            self._text, text = bytearray(), bytes(self._start)
            return self._more_text(text)
        header, comma, rest = start.partition(b",")
        if not comma:
            if len(start) > HEADER_BYTES or self._ended:
                raise NotAnOutput("the data URI has no end of its header")
            return b""
        self.declared, *parameters = header[5:].decode(errors="replace").split(";")
        if "base64" not in parameters:
            raise NotAnOutput("the data URI is not base64")
        self._start = None
        return self._base64(rest)

    def _more_text(self, data: bytes) -> bytes:
        assert self._text is not None
        self._text += data
        if len(self._text) > TEXT_BYTES:
            raise NotAnOutput("the text is larger than 64 MiB")
        return b""

    def _base64(self, data: bytes) -> bytes:
        data = self._group + (data.translate(None, b"\r\n") if b"\n" in data or b"\r" in data else data)
        if data and self._padded:
            raise NotAnOutput("the base64 goes on after its end")
        whole = len(data) if self._ended else len(data) // 4 * 4
        self._group = data[whole:]
        data = data[:whole]
        self._padded = data.endswith(b"=")
        try:
            return pybase64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
        except ValueError as error:  # binascii.Error is one
            raise NotAnOutput(f"the base64 is broken: {error}") from None


def _unescaped(data: bytes) -> bytes:
    if b"\\" not in data:
        return data
    try:
        return str(json.loads(b'"' + data + b'"', strict=False)).encode(errors="replace")
    except ValueError as error:
        raise NotAnOutput(f"the reply's JSON is broken: {error}") from None


class Decoder:
    """One download. `content_type` as the reply's header has it. After `end`, `declared` is the type it was said to have."""

    def __init__(self, content_type: str) -> None:
        self.declared = content_type
        self._head = bytearray()
        self._chosen = False
        self._json: DataMember | None = None
        self._note: bytearray | None = None  # a reply that is held, for it is no output and may name an address
        self._wrong = NotAnOutput("the reply has no member `data`")

    def feed(self, piece: bytes) -> bytes:
        """What the piece adds to the output. Raises NotAnOutput."""
        if not self._chosen:
            self._head += piece
            if len(self._head.lstrip()) < HEAD_BYTES:
                return b""
            piece = self._choose()
        return self._more(piece)

    def end(self) -> bytes:
        """What is left. Raises NotAnOutput, Elsewhere; ValueError where the reply was cut off."""
        left = self._more(b"" if self._chosen else self._choose())
        if self._json is not None and not self._json.seeking:
            left += self._json.end()
            if self._json.is_text:
                raise _of_text(left.decode(errors="replace"))
            self.declared = self._json.declared
        elif self._note is not None:
            note = bytes(self._note)
            raise (_of_text(note.decode(errors="replace")) if note[:1] == b"h" else _of_note(note)) or self._wrong
        return left

    def _more(self, piece: bytes) -> bytes:
        if self._json is not None:
            if self._json.seeking:
                self._note = (self._note or bytearray()) + piece
            try:
                found = self._json.feed(piece)
                if not self._json.seeking:
                    self._note = None
                return found
            except NotAnOutput as error:
                if not self._json.seeking:
                    raise
                self._json, self._wrong = None, error
        elif self._note is None:
            return piece
        else:
            self._note += piece
        if len(self._note or b"") > NOTE_BYTES:
            raise self._wrong
        return b""

    def _choose(self) -> bytes:
        """By content: a magic is a file; else an object is JSON, unless the header names a kind of file."""
        self._chosen = True
        head = bytes(self._head)
        start = head.lstrip()
        kind = plain_output_type(self.declared).partition("/")[0]
        if not detect(head) and kind not in ("model", "image", "video", "audio"):
            if start[:1] == b"{":
                self._json = DataMember()
            elif start[:1] == b'"' or start.startswith((b"http://", b"https://")):
                self._note = bytearray()
                return start
            elif kind == "text":
                self.declared = ""  # an error in words comes under the same
        return head
