"""The content of one input: decoded, measured, digested and kept, while it arrives.

In: the text of `data`, in pieces. Out: an `Asset`: its kind, type, size and SHA-256, with its bytes in memory where
they are few, else in a spool file. Whatever is wrong is kept as the asset's `problem`, to be said when the body has
been read to its end: a service behind a framework reads the body first, and then looks at it.
Called by `uploads`, on a worker thread for large bodies.
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pybase64 import b64decode

from .refusals import Refusal, invalid
from .templates import TEXT

# Rows up to this size hold their bytes themselves: one commit instead of a file of its own.
INLINE_MAX_BYTES = 64 * 1024
# `data:` + a type + `;base64,`: types are short, so a header that does not end here is none.
HEADER_MAX_BYTES = 256

_HEADER = re.compile(r"data:([A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*);base64\Z")
_CONTROL = re.compile(rb"[\x00-\x1f]")


@dataclass(slots=True)
class Asset:
    """What came with one upload. `path` is a spool file that its owner moves or discards."""

    kind: str = "file"  # file or text
    mime: str = ""
    size_bytes: int = 0
    sha256: str = ""
    blob: bytes | None = None
    path: Path | None = None
    additional: str = "null"  # JSON, as it was sent
    fails: bool = False  # the flow fails when it has run
    broken: bool = False  # the input's status becomes `error`
    problem: Refusal | None = None

    def discard(self) -> None:
        """Forgets the spool file."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            self.path = None


class Intake:
    """Takes the pieces of one `data`. `prompts_only`: `data:` begins a prompt like any other text."""

    def __init__(self, spool: Path, *, max_bytes: int | None = None, prompts_only: bool = False) -> None:
        self._spool = spool
        self._max_bytes = max_bytes
        self._prompts_only = prompts_only
        self._asset = Asset()
        self._digest = hashlib.sha256()
        self._held: list[bytes] = []
        self._file: BinaryIO | None = None
        self._begun = False
        self._carry = b""
        self._padded = False
        self._utf8 = codecs.getincrementaldecoder("utf-8")()

    def feed(self, piece: bytes, raw: bool) -> None:
        """Takes a piece of `data`; `raw`: no JSON escape was in it, so that a control character is a fault."""
        if self._asset.problem is not None or not piece:
            return
        try:
            self._feed(piece, raw)
        except Refusal as refusal:
            self.refuse(refusal)

    def refuse(self, refusal: Refusal) -> None:
        """Keeps the first thing that is wrong, and drops what was kept of the content."""
        self._asset.problem = self._asset.problem or refusal
        self.abandon()

    def abandon(self) -> None:
        """Removes what was spooled: the body did not come to its end, or is refused."""
        self._held, self._carry = [], b""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._spool.unlink(missing_ok=True)

    def close(self) -> Asset:
        """The asset, complete or with its problem."""
        if self._asset.problem is None:
            try:
                self._finish()
            except Refusal as refusal:
                self.refuse(refusal)
        return self._asset

    def _feed(self, piece: bytes, raw: bool) -> None:
        if not self._begun:
            piece = self._carry + piece
            if not self._begin(piece, raw):
                self._carry = piece
                return
            piece = self._carry if self._asset.kind == "file" else piece
            self._carry = b""
        if self._asset.kind == "text":
            self._feed_text(piece, raw)
        else:
            self._feed_base64(piece)

    def _begin(self, piece: bytes, raw: bool) -> bool:
        """Tells a data URI from a prompt; False while too little has arrived. Leaves a URI's first data in `_carry`."""
        if self._prompts_only or not b"data:".startswith(piece[:5]):
            self._asset.kind, self._asset.mime, self._begun = "text", TEXT, True
            return True
        comma = piece.find(b",", 0, HEADER_MAX_BYTES)
        if comma < 0:
            if len(piece) >= HEADER_MAX_BYTES:
                raise _bad_uri()
            return False
        header = _HEADER.match(piece[:comma].decode("ascii", "replace"))
        if header is None:
            raise _bad_uri()
        self._asset.mime, self._begun = header[1], True
        self._carry = piece[comma + 1 :]
        return True

    def _feed_text(self, piece: bytes, raw: bool) -> None:
        if raw and _CONTROL.search(piece):
            raise invalid(["data"], "Invalid control character in a string", "json_invalid")
        with _refusing(UnicodeDecodeError, "Input should be UTF-8 text"):
            self._utf8.decode(piece)
        self._take(piece)

    def _feed_base64(self, piece: bytes) -> None:
        text = self._carry + piece if self._carry else piece
        # Groups of four decode alone; a rest waits for its group.
        whole = len(text) - len(text) % 4
        self._carry = text[whole:]
        if not whole:
            return
        if self._padded:
            raise _bad_base64()
        with _refusing(ValueError, "Invalid base64: wrong alphabet or padding"):
            decoded = b64decode(text[:whole] if self._carry else text, validate=True)
        self._padded = text[whole - 1] == 0x3D  # =
        self._take(decoded)

    def _take(self, content: bytes) -> None:
        self._asset.size_bytes += len(content)
        if self._max_bytes is not None and self._asset.size_bytes > self._max_bytes:
            raise Refusal(413, f"Asset exceeds {self._max_bytes} bytes")
        self._digest.update(content)
        if self._file is None and self._asset.size_bytes > INLINE_MAX_BYTES:
            self._file = self._spool.open("wb", buffering=0)
            held, self._held = self._held, []
            for earlier in held:
                _write_all(self._file, earlier)
        if self._file is None:
            self._held.append(content)
        else:
            _write_all(self._file, content)

    def _finish(self) -> None:
        if not self._begun:
            if self._carry.startswith(b"data:"):
                raise _bad_uri()
            self._asset.kind, self._asset.mime = "text", TEXT  # a prompt such as "dat"
            self._feed_text(self._carry, raw=False)
            self._carry = b""
        if self._carry:
            raise _bad_base64()
        with _refusing(UnicodeDecodeError, "Input should be UTF-8 text"):
            self._utf8.decode(b"", final=True)
        if self._asset.size_bytes == 0:
            raise invalid(["data"], "Data should not be empty", "string_too_short")
        self._asset.sha256 = self._digest.hexdigest()
        if self._file is None:
            self._asset.blob, self._held = b"".join(self._held), []
        else:
            self._file.close()
            self._file, self._asset.path = None, self._spool


def _write_all(file: BinaryIO, content: bytes) -> None:
    """An unbuffered write may be short (a nearly full disk)."""
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]


@contextlib.contextmanager
def _refusing(kind: type[Exception], message: str) -> Iterator[None]:
    try:
        yield
    except kind as error:
        raise invalid(["data"], message) from error


def _bad_uri() -> Refusal:
    return invalid(["data"], "Data should be a data URI: data:<MIME>;base64,<data>")


def _bad_base64() -> Refusal:
    return invalid(["data"], "Invalid base64: wrong alphabet or padding")
