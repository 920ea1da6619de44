"""A large file as the body of a request: read, hashed and encoded chunk by chunk while it is sent.

In: a planned input, its path, threads. Out: a `StreamBody`. Made by `local`; the client writes its chunks. A chunk is read,
hashed and encoded in one call through aiofiles, on two reader threads: the hashing, half of the work, is done outside of the
interpreter's lock; a third thread gained nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import pybase64
from aiofiles.threadpool import wrap

from ..core.planning import InputPlan
from ..host.process import patiently
from .bodies import StreamBody
from .encode_worker import read, stat_fields
from .problems import changed, unreadable

CHUNK_BYTES: Final = 384 << 10  # a multiple of 3, so that each chunk encodes alone: 512 KiB of base64
WHOLE_BYTES: Final = 3 * CHUNK_BYTES  # up to here it is read in one go: two calls to a thread fewer, no session


class _EncodingReader(io.BufferedReader):
    """Reads a chunk, hashes it and encodes it: one call to a thread instead of three. The last chunk's call also
    finds out whether the file is still what it was when it was planned."""

    def __init__(self, raw: io.RawIOBase, planned: tuple[int, int, int]) -> None:
        super().__init__(raw, 1)
        self._planned = planned
        self._hashed = hashlib.sha256()
        # One room for all chunks: fresh pages for each cost as much as the hash.
        self._room = memoryview(bytearray(min(CHUNK_BYTES, planned[0])))
        self._raw_bytes = 0
        self.sha256: bytes | None = None  # once all of it has been read, and it was what was planned

    def same(self) -> bool:
        found = os.fstat(self.fileno())
        return stat_fields(found) == self._planned

    def read(self, size: int | None = -1, /) -> bytes:
        """The next chunk, encoded; empty where the file is another one now."""
        if not self._raw_bytes and not self.same():
            return b""
        wanted = min(size or 0, self._planned[0] - self._raw_bytes)
        got = 0
        while got < wanted:  # a short read in the middle would break the 3-byte groups
            count = self.raw.readinto(self._room[got:wanted])
            if not count:
                return b""
            got += count
        data = self._room[:got]
        self._hashed.update(data)
        self._raw_bytes += got
        if self._raw_bytes == self._planned[0]:
            if self.raw.read(1) or not self.same():
                return b""
            self.sha256 = self._hashed.digest()
        return pybase64.b64encode(data)


class FileBody(StreamBody):
    """Read anew for each attempt, in threads of `reader`."""

    def __init__(self, plan: InputPlan, path: str, reader: ThreadPoolExecutor) -> None:
        super().__init__(plan)
        self._path = path
        self._reader = reader
        self._planned = (plan.stat.size, plan.stat.mtime_ns, plan.stat.inode)
        self.short = plan.stat.size <= WHOLE_BYTES

    async def whole(self) -> list[bytes] | None:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._reader, patiently, partial(read, self._path, self._planned))
        except OSError as error:
            self.fault = unreadable(self._plan.input, self._path, error)
            return None
        if found is None:
            self.fault = changed(self._plan.input)
            return None
        data, self.sha256 = found
        return [self._head, data, self._tail(self.sha256)]

    async def chunks(self) -> AsyncIterator[bytes]:
        """While a chunk is being written, the next one is read."""
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(self._reader, self._open)
        try:
            file, chunk = await asyncio.shield(opening)
        except OSError as error:
            self.fault = unreadable(self._plan.input, self._path, error)
            return
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unused)
            raise
        ahead: asyncio.Future[bytes] | None = None
        try:
            reader: Any = wrap(file, loop=loop, executor=self._reader)
            yield self._head
            while chunk:
                ahead = None if file.sha256 is not None else asyncio.ensure_future(reader.read(CHUNK_BYTES))
                yield chunk
                chunk = await ahead if ahead is not None else b""
        except OSError as error:
            self.fault = unreadable(self._plan.input, self._path, error)
            return
        finally:
            if ahead is not None and not ahead.done():
                await asyncio.wait([ahead])  # the thread has the file
            file.close()
        self.sha256 = file.sha256
        if self.sha256 is None:
            self.fault = changed(self._plan.input)
            return
        tail = self._tail(self.sha256)
        assert len(tail) == self._tail_bytes
        yield tail

    def _open(self) -> tuple[_EncodingReader, bytes]:
        """In the thread: the file, and its first chunk."""
        file = _EncodingReader(patiently(partial(io.FileIO, self._path)), self._planned)
        try:
            return file, file.read(CHUNK_BYTES)
        except OSError:
            file.close()
            raise


def _close_unused(opening: asyncio.Future[tuple[_EncodingReader, bytes]]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[0].close()
