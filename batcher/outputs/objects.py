"""The prefix in an object store that outputs are collected into: each object whole or not at all.

In: paths that `core.collecting` made, bytes as they arrive. Out: objects with their SHA-256 beside them, and the lists of
results. A download is held until it has been checked, in memory or in a file without a name, and only then sent under its own
key: nothing else is ever written, so that nothing can be left. Called by `pipeline.collect`, as `folder` is.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import IO, Final, NoReturn

from ..core.collecting import cannot_write
from ..core.errors import Reason, Stop, UsageError
from ..core.facts import FileStat
from ..core.model import JSON
from ..core.objects import Address, NoAddress, bucket_and_rest
from ..core.output_check import HEAD_BYTES, Landed, Spoiled, bytes_after, content_of
from ..core.output_names import RESULTS
from ..objects import writing
from ..objects.client import objects
from ..objects.faults import StoreFault, What
from ..objects.listing import ObjectListing, listing
from ..objects.reading import digest_of, reader_of, stat_of
from .folder import HELD_BYTES, THREADS
from .results import rows_of_others, write_rows

PIECE_BYTES: Final = 1 << 20
PROBE: Final = ".batcher.probe"


class ObjectFolder:
    """The prefix at `to`, like `s3://bucket/prefix`. Raises UsageError where it cannot be listed or written. Close it."""

    def __init__(self, to: str) -> None:
        try:
            root = bucket_and_rest(to, "where outputs go")
        except NoAddress as error:
            raise UsageError(str(error), error.hint) from error
        prefix = root.key.strip("/")
        if any(name in ("", ".", "..") for name in prefix.split("/")) and prefix:
            raise UsageError(f"{to} has an empty, `.` or `..` name between its slashes", "write it like s3://bucket/prefix")
        self._root = Address(root.scheme, root.bucket, prefix)
        self._parts: dict[str, ObjectPart] = {}
        self._closed = False
        self._threads = ThreadPoolExecutor(THREADS, "outputs")
        try:
            begins = f"{prefix}/" if prefix else ""
            self._there: ObjectListing = listing(Address(root.scheme, root.bucket, ""), prefix, begins, lambda key: True)
            writing.write(self._at(PROBE), io.BytesIO(b""), 0, {})
            with contextlib.suppress(StoreFault):  # some may write and not delete; it is always the same one
                writing.delete(self._at(PROBE))
        except StoreFault as fault:
            raise UsageError(fault.about(to), fault.hint) from fault

    def _at(self, path: str) -> Address:
        prefix = self._root.key
        return Address(self._root.scheme, self._root.bucket, f"{prefix}/{path}" if prefix else path)

    def close(self) -> None:
        self._closed = True  # what is still being sent is given up
        self._threads.shutdown(wait=True, cancel_futures=True)
        for part in list(self._parts.values()):
            part.drop()

    def open(self, part: str) -> ObjectPart:
        return ObjectPart(part, self._parts, self._threads)

    def look(self, path: str) -> FileStat | None:
        found = self._there.get(self._at(path).key)
        return None if found is None else stat_of(found.size, found.mtime_ns, found.inode)

    def taken(self, path: str) -> bool:
        """By the store's own word: somebody else may have written there meanwhile."""
        try:
            found = writing.look(self._at(path))
        except StoreFault as fault:
            _stop(self._at(path), fault)
        if found is not None:
            self._there.put(self._at(path).key, found)
        return found is not None

    def digest(self, path: str, *, read: bool = False) -> bytes:
        try:
            beside = "" if read else writing.digest_beside(self._at(path))
            with contextlib.suppress(ValueError):
                if len(beside) == 2 * hashlib.sha256().digest_size:
                    return bytes.fromhex(beside)
            return objects().wait(digest_of(str(self._at(path))))
        except StoreFault as fault:
            if fault.what is What.MISSING:
                return b""
            _stop(self._at(path), fault)

    def rename(self, part: str, path: str) -> FileStat | None:
        held = self._parts[part]
        address = self._at(path)
        about = {"Content-Type": held.mime, writing.SHA256: held.sha256.hex()}
        try:
            with held.content() as file:
                written = writing.write(address, file, held.size, about, self._go_on)
        except StoreFault as fault:
            _stop(address, fault)
        held.drop()
        self._there.put(address.key, written)
        return written

    def _go_on(self) -> None:
        if self._closed:
            raise Stop(Reason.UNSETTLED, "the collecting has ended", "collect again")

    def sync(self, paths: Sequence[str]) -> None:
        """A store's reply says that it is kept."""

    def head(self, path: str) -> bytes:
        try:
            return objects().wait(reader_of(str(self._at(path))).look(inside=True))[3][:HEAD_BYTES]
        except StoreFault as fault:
            _stop(self._at(path), fault)

    def write_results(self, rows: Iterator[Mapping[str, JSON]], ours: Callable[[Mapping[str, JSON]], bool]) -> None:
        with tempfile.TemporaryFile() as table, tempfile.TemporaryFile() as lines:
            texts = [io.TextIOWrapper(file, "utf-8", newline="") for file in (table, lines)]
            write_rows(chain(rows, self._others(ours)), *texts)
            for kind, mime, file in (("csv", "text/csv", table), ("jsonl", "application/jsonl", lines)):
                address = self._at(f"{RESULTS}.{kind}")
                size = file.tell()
                file.seek(0)
                try:
                    writing.write(address, file, size, {"Content-Type": mime})
                except StoreFault as fault:
                    _stop(address, fault)

    def _others(self, ours: Callable[[Mapping[str, JSON]], bool]) -> Iterator[Mapping[str, JSON]]:
        """The rows of other manifests that were collected under this prefix."""
        address = self._at(f"{RESULTS}.jsonl")
        with tempfile.TemporaryFile() as copy:
            try:
                objects().wait(_into(address, copy))
            except StoreFault as fault:
                if fault.what is What.MISSING:
                    return
                _stop(address, fault)
            copy.seek(0)
            yield from rows_of_others(io.TextIOWrapper(copy, encoding="utf-8", errors="replace"), ours)


class ObjectPart:
    """One download, held until it is checked: what is small in memory, what is large in a file that has no name. Raises Stop
    where the disk takes no more."""

    def __init__(self, part: str, parts: dict[str, ObjectPart], threads: ThreadPoolExecutor) -> None:
        self._part = part
        self._parts = parts
        self._threads = threads
        self._held = bytearray()
        self._file: IO[bytes] | None = None
        self._turn = threading.Lock()  # a thread may still write when its request was given up
        self._hashed = hashlib.sha256()
        self._head = b""
        self.size = 0
        self.mime = ""
        self.sha256 = b""

    async def write(self, data: bytes) -> None:
        self._head = (self._head + data[:HEAD_BYTES])[:HEAD_BYTES]
        self._held += data
        self.size += len(data)
        if len(self._held) >= HELD_BYTES:
            held, self._held = self._held, bytearray()
            try:
                await asyncio.get_running_loop().run_in_executor(self._threads, self._write, held)
            except OSError as error:
                raise cannot_write(error) from error

    def _write(self, data: bytearray) -> None:
        with self._turn:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed in drop
            self._hashed.update(data)
            self._file.write(data)

    async def close(self, declared: str) -> Landed | Spoiled:
        mime = content_of(self._head, self.size, declared)
        if isinstance(mime, Spoiled):
            return mime
        self._hashed.update(self._held)
        self.mime, self.sha256 = mime, self._hashed.digest()
        self._parts[self._part] = self
        return Landed(mime, self.sha256, FileStat(self.size), bytes_after(self._head, self.size))

    @contextlib.contextmanager
    def content(self) -> Iterator[IO[bytes]]:
        """All of it, from its beginning."""
        if self._file is None:
            yield io.BytesIO(self._held)
            return
        self._file.seek(0, io.SEEK_END)
        self._file.write(self._held)
        self._held = bytearray()
        self._file.seek(0)
        yield self._file

    def drop(self) -> None:
        if self._parts.get(self._part) is self:
            del self._parts[self._part]
        with self._turn:
            if self._file is not None:
                self._file.close()


async def _into(address: Address, file: IO[bytes]) -> None:
    opened = await reader_of(str(address)).open(PIECE_BYTES)
    async for piece in opened.pieces:
        file.write(piece)


def _stop(address: Address, fault: StoreFault) -> NoReturn:
    """Nothing more could be collected there."""
    reason = Reason.UNAVAILABLE if fault.what is What.UNAVAILABLE else Reason.UNSETTLED
    raise Stop(reason, fault.about(str(address)), fault.hint or "collect again later") from fault


