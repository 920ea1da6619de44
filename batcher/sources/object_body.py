"""A large object as the body of a request: read, hashed and encoded piece by piece while it is sent.

In: a planned input, its address. Out: a `StreamBody`. Made by `objects`; the client writes its chunks. What is read is held
against the plan before the first byte leaves, and again at the end: one reply of a store is of one object, and where it is cut
the rest is asked for of the same one only.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Final

import pybase64

from ..core.facts import FileStat
from ..core.model import Problem
from ..core.objects import mark_of, split
from ..core.planning import InputPlan
from ..objects.client import objects
from ..objects.faults import StoreFault
from ..objects.reading import OpenedObject, reader_of, stat_of
from .bodies import StreamBody
from .encode_worker import Seen
from .problems import changed

PIECE_BYTES: Final = 128 << 10  # at least; what a connection gives at once is added to it, up to 400 KiB
CHUNK_BYTES: Final = 288 << 10  # of it that are encoded at a time, a multiple of 3


def same_at_start(planned: FileStat, seen: Seen) -> bool:
    """Whether it is what was planned, as far as its store says so before it is read."""
    size, mtime_ns, mark, _ = seen
    if size >= 0 and size != planned.size:
        return False
    return not (mark or mtime_ns) or stat_of(planned.size, mtime_ns, mark) == planned


def same_at_end(planned: FileStat, seen: Seen, sha256: bytes) -> bool:
    """Whether what was read is it, where its store says nothing of it but its bytes."""
    return bool(seen[1] or seen[2]) or planned.inode == mark_of(sha256.hex())


class ObjectBody(StreamBody):
    """Read anew for each attempt. `problem_of`: what a fault of the store is for people."""

    def __init__(self, plan: InputPlan, url: str, problem_of: Callable[[StoreFault], Problem]) -> None:
        super().__init__(plan)
        self._url = url
        self._problem_of = problem_of

    async def chunks(self) -> AsyncIterator[bytes]:
        """While a chunk is being written, the next one is read."""
        ahead: asyncio.Future[bytes] | None = None
        reading = _Reading(self._url, self._plan.stat)
        try:
            chunk = await objects().call(reading.begin())
            yield self._head
            while chunk:
                ahead = asyncio.ensure_future(objects().call(reading.next()))
                yield chunk
                chunk = await ahead
        except StoreFault as fault:
            self.fault = self._problem_of(fault)
            return
        finally:
            if ahead is not None and not ahead.done():
                ahead.cancel()
            objects().begin(reading.end())
        if reading.sha256 is None:
            self.fault = changed(self._plan.input)
            return
        self.sha256 = reading.sha256
        tail = self._tail(self.sha256)
        assert len(tail) == self._tail_bytes
        yield tail


class _Reading:
    """One reading, on the loop of the objects: each piece hashed and encoded there. `sha256`: once all of it has been read,
    and it was what was planned."""

    def __init__(self, url: str, planned: FileStat) -> None:
        self._url = url
        self._planned = planned
        self._opened: OpenedObject | None = None
        self._hashed = hashlib.sha256()
        self._bytes = 0
        self._piece = b""  # what is left of the one that came last
        self._rest = b""  # of a part of it: what makes no group of three
        self.sha256: bytes | None = None

    async def begin(self) -> bytes:
        """The first chunk; empty where it is another object now."""
        reader = reader_of(self._url)
        opened = await objects().asked(split(self._url).root, lambda: reader.open(PIECE_BYTES))
        self._opened = opened
        return await self.next() if same_at_start(self._planned, opened.seen) else b""

    async def next(self) -> bytes:
        """The next chunk, encoded; empty at the end, and where it turns out to be another object."""
        assert self._opened is not None
        if not self._piece:
            self._piece = await anext(self._opened.pieces, b"")
            self._hashed.update(self._piece)
            self._bytes += len(self._piece)
            if self._bytes > self._planned.size:
                return b""
        if self._piece:
            part, self._piece = self._piece[:CHUNK_BYTES], self._piece[CHUNK_BYTES:]
            return self._encoded(part) or await self.next()
        if self._bytes != self._planned.size or self.sha256 is not None:
            return b""
        sha256 = self._hashed.digest()
        if same_at_end(self._planned, self._opened.seen, sha256):
            self.sha256 = sha256
            return pybase64.b64encode(self._rest)
        return b""

    def _encoded(self, piece: bytes) -> bytes:
        """With what the piece before has left, and without what makes no group of three."""
        begin = -len(self._rest) % 3 if self._rest else 0
        group = self._rest + piece[:begin]
        end = begin + (len(piece) - begin) // 3 * 3
        self._rest = piece[end:] if len(group) % 3 == 0 else group
        if not group:
            return pybase64.b64encode(memoryview(piece)[:end])  # most pieces, and a copy less
        return pybase64.b64encode(group) + pybase64.b64encode(memoryview(piece)[begin:end]) if len(group) % 3 == 0 else b""

    async def end(self) -> None:
        """Whatever is still to come is not wanted."""
        aclose = getattr(self._opened.pieces, "aclose", None) if self._opened is not None else None
        if aclose is not None:
            await aclose()
