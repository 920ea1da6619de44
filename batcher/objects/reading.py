"""One object of a store: looked at, read.

In: an address. Out: what it is now, its bytes. Called by the sources, on the loop of `client`. `web` does the same for https.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from ..core.facts import FileStat
from ..core.objects import WEB, Address, mark_of, split
from .faults import faults_of, of_error
from .stores import store_of

MAGIC_BYTES: Final = 32  # the first bytes, which tell its type; as of files
WHOLE_BYTES: Final = 64 << 10  # up to here all is read where the first bytes are asked for and the store knows no ranges
DIGEST_BYTES: Final = 384 << 10  # of a piece that is only hashed
SECOND_NS: Final = 1_000_000_000

Seen: TypeAlias = tuple[int, int, int, bytes]  # size, time of the last change in ns, mark, the first bytes
_no_ranges: set[str] = set()  # stores that answer a range with all of it


@dataclass(slots=True)
class OpenedObject:
    """An object that is read once. `seen`: what it is; a size below 0 is not known."""

    seen: Seen
    pieces: AsyncIterator[bytes]


class ObjectReader(Protocol):
    """One object. Raises Fault."""

    async def look(self, *, inside: bool) -> Seen:
        """`inside`: with its first bytes."""

    async def open(self, piece_bytes: int) -> OpenedObject:
        """From its beginning, in pieces of so many bytes at least, but for the last one."""


def reader_of(url: str) -> ObjectReader:
    """For the address of an object. Raises Fault."""
    address = split(url)
    if address.scheme in WEB:
        from .web import WebObject  # only where it is asked for

        return WebObject(url)
    return StoredObject(address)


async def digest_of(url: str) -> bytes:
    """The SHA-256 of the object that is there now, which is read to its end. Raises Fault."""
    opened = await reader_of(url).open(DIGEST_BYTES)
    hashed = hashlib.sha256()
    async for piece in opened.pieces:
        hashed.update(piece)
    return hashed.digest()


def stat_of(size: int, mtime_ns: int, mark: int) -> FileStat:
    """What an object is recognised by: its mark, or else the time of its last change."""
    return FileStat(size, 0 if mark else mtime_ns, mark)


def seen_of(meta: Mapping[str, Any], head: bytes = b"") -> Seen:
    """What a store says of an object. (The time in whole seconds: a listing has parts of them where a look has none.)"""
    tag = meta["e_tag"] or meta["version"]
    return meta["size"], int(meta["last_modified"].timestamp()) * SECOND_NS, mark_of(tag) if tag else 0, head


class StoredObject:
    """The ObjectReader for s3, gs and az."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._store = store_of(address)

    async def look(self, *, inside: bool) -> Seen:
        import obstore

        if inside and self._address.root not in _no_ranges:
            try:
                found = await obstore.get_async(self._store, self._address.key, options={"range": (0, MAGIC_BYTES)})
                return seen_of(found.meta, bytes(await found.bytes_async()))
            except obstore.exceptions.BaseError as error:
                if "non-partial" not in str(error) and "416" not in str(error):
                    raise of_error(error, self._address) from None
            except (OSError, ValueError) as error:
                raise of_error(error, self._address) from None
        with faults_of(self._address):
            return await self._plainly(inside)

    async def _plainly(self, inside: bool) -> Seen:
        """Without a range: it is no longer than one, or the store knows none."""
        import obstore

        if not inside:
            return seen_of(await obstore.head_async(self._store, self._address.key))
        found = await obstore.get_async(self._store, self._address.key)
        if found.meta["size"] > MAGIC_BYTES:
            _no_ranges.add(self._address.root)
        if found.meta["size"] <= WHOLE_BYTES:
            return seen_of(found.meta, bytes(await found.bytes_async())[:MAGIC_BYTES])
        async for piece in found.stream(1):
            return seen_of(found.meta, bytes(piece[:MAGIC_BYTES]))
        return seen_of(found.meta)

    async def open(self, piece_bytes: int) -> OpenedObject:
        import obstore

        with faults_of(self._address):
            found = await obstore.get_async(self._store, self._address.key)
        return OpenedObject(seen_of(found.meta), self._pieces(found, piece_bytes))

    async def _pieces(self, found: Any, piece_bytes: int) -> AsyncIterator[bytes]:
        with faults_of(self._address):
            if found.meta["size"] <= piece_bytes:
                yield bytes(await found.bytes_async())
                return
            async for piece in found.stream(piece_bytes):
                yield piece
