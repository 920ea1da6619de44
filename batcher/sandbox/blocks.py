"""Contents that are never held whole: the bytes of an input, a file around them, their base64.

In: a BLOB or a file. Out: a `Content` of known size that yields its bytes in blocks, on whatever thread asks.
Called by `glb`, `listings` and `calls`.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pybase64 import b64encode

BLOCK_BYTES = 192 * 1024  # a multiple of 3, so that a block's base64 has no padding


class Content(Protocol):
    """Bytes of a known size, to be read block by block, as often as asked."""

    @property
    def size_bytes(self) -> int: ...

    def blocks(self) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes in memory."""

    data: bytes

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def blocks(self) -> Iterator[bytes]:
        yield self.data


@dataclass(frozen=True, slots=True)
class File:
    """The bytes of a file. Raises OSError when it is gone (its flow was deleted)."""

    path: Path
    size_bytes: int

    def blocks(self) -> Iterator[bytes]:
        with self.path.open("rb", buffering=0) as file:
            while block := file.read(BLOCK_BYTES):
                yield block


@dataclass(frozen=True, slots=True)
class Joined:
    """Several contents as one."""

    parts: Sequence[Content]

    @property
    def size_bytes(self) -> int:
        return sum(part.size_bytes for part in self.parts)

    def blocks(self) -> Iterator[bytes]:
        for part in self.parts:
            yield from part.blocks()


@dataclass(frozen=True, slots=True)
class DataUri:
    """A content as `data:<MIME>;base64,…`, in ASCII: fit to stand in a JSON string as it is."""

    mime: str
    content: Content

    @property
    def _header(self) -> bytes:
        return f"data:{self.mime};base64,".encode()

    @property
    def size_bytes(self) -> int:
        return len(self._header) + 4 * -(-self.content.size_bytes // 3)

    def blocks(self) -> Iterator[bytes]:
        yield self._header
        yield from encode_base64(self.content.blocks())


def json_text(content: Content) -> Iterator[bytes]:
    """UTF-8 text as it stands in a JSON string, without the quotes."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for block in content.blocks():
        yield json.dumps(decoder.decode(block), ensure_ascii=False)[1:-1].encode()


def encode_base64(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Base64 of blocks of any size, padded at the end only."""
    carry = b""
    for block in blocks:
        block = carry + block if carry else block
        whole = len(block) - len(block) % 3
        carry = block[whole:]
        yield b64encode(block[:whole] if carry else block)
    yield b64encode(carry)
