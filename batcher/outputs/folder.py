"""The folder that outputs are collected into: parts, checks, renames, and the lists of results.

In: paths that `core.collecting` made (relative, safe), bytes as they arrive. Out: files that are whole or not there.
A download is written beside its place, hashed on the way, flushed to the disk, checked, and only then renamed. Called by
`pipeline.collect`; what blocks runs on threads of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import io
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeVar

from ..core.collecting import Unplaceable, cannot_write
from ..core.errors import UsageError
from ..core.facts import FileStat
from ..core.model import JSON
from ..core.output_check import HEAD_BYTES, Landed, Spoiled, bytes_after, content_of
from ..core.output_names import RESULTS
from ..host.process import patiently
from ..host.system import folder_to_disk, lock, stat_of, to_disk
from .results import rows_of_others, write_rows

THREADS: Final = 4  # more wait for the same disk
HELD_BYTES: Final = 256 << 10  # of a download, before they are written
IN_THE_WAY: Final = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)  # of one path, not of the whole disk

T = TypeVar("T")


class OutputFolder:
    """The folder at `root`, made where it is missing. Raises UsageError where it cannot be written. Close it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        try:
            root.mkdir(parents=True, exist_ok=True)
            probe = root / ".batcher.probe"  # one name, so that the next run takes away what a kill left
            os.close(os.open(probe, os.O_CREAT | os.O_WRONLY, 0o600))
            probe.unlink()
        except OSError as error:
            raise UsageError(f"{root} cannot be written: {error.strerror}", "name a folder with --to") from error
        self._threads = ThreadPoolExecutor(THREADS, "outputs")

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    def open(self, part: str) -> PartFile:
        return PartFile(self._root / part, self._threads)

    def look(self, path: str) -> FileStat | None:
        try:
            found = os.lstat(self._root / path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return stat_of(found) if stat.S_ISREG(found.st_mode) else None

    def taken(self, path: str) -> bool:
        return os.path.lexists(self._root / path)

    def digest(self, path: str, *, read: bool = False) -> bytes:
        with patiently(partial(io.FileIO, self._root / path)) as file:
            return hashlib.file_digest(file, "sha256").digest()

    def rename(self, part: str, path: str) -> FileStat | None:
        os.replace(self._root / part, self._root / path)
        return None

    def sync(self, paths: Sequence[str]) -> None:
        folders = {self._root, *(above for path in paths for above in (self._root / path).parents)}
        for folder in folders:
            if folder == self._root or self._root in folder.parents:
                patiently(partial(folder_to_disk, folder))

    def head(self, path: str) -> bytes:
        with open(self._root / path, "rb") as file:
            return file.read(HEAD_BYTES)

    def write_results(self, rows: Iterator[Mapping[str, JSON]], ours: Callable[[Mapping[str, JSON]], bool]) -> None:
        folder = os.open(self._root, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # a file system without locks: as it was before there were any
                lock(folder, wait=True)  # another manifest's collect may be at it
            self._write_results(chain(rows, self._others(ours)))
        finally:
            os.close(folder)

    def _others(self, ours: Callable[[Mapping[str, JSON]], bool]) -> Iterator[Mapping[str, JSON]]:
        """The rows of other manifests that were collected into this folder."""
        try:
            with open(self._root / f"{RESULTS}.jsonl", encoding="utf-8", errors="replace") as lines:
                yield from rows_of_others(lines, ours)
        except FileNotFoundError:
            return

    def _write_results(self, rows: Iterator[Mapping[str, JSON]]) -> None:
        parts = [self._root / f".{RESULTS}.{kind}.part" for kind in ("csv", "jsonl")]  # the next run's, too, after a kill
        try:
            with open(parts[0], "w", encoding="utf-8", newline="") as table, open(parts[1], "w", encoding="utf-8") as lines:
                write_rows(rows, table, lines)
                for file in (table, lines):
                    to_disk(file.fileno())
            for part, kind in zip(parts, ("csv", "jsonl"), strict=True):
                os.replace(part, self._root / f"{RESULTS}.{kind}")
            patiently(partial(folder_to_disk, self._root))
        finally:
            for part in parts:
                part.unlink(missing_ok=True)


class PartFile:
    """One download on its way; nothing is made before there is something to write. Raises Stop where the disk takes no
    more, for nothing could be collected from then on, and Unplaceable where only this path cannot be."""

    def __init__(self, path: Path, threads: ThreadPoolExecutor) -> None:
        self._path = path
        self._threads = threads
        self._file: io.FileIO | None = None
        self._lock = threading.Lock()  # a thread may still write when its request was given up, and the file is dropped
        self._dropped = False
        self._held = bytearray()  # a small output is opened, written, flushed and checked in one call to the thread
        self._hashed = hashlib.sha256()
        self._head = b""
        self._size = 0

    async def _batch(self, function: Callable[..., T], *values: Any) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, patiently, partial(function, *values))
        except OSError as error:  # not as OSError: the client would take it for the network's
            if error.errno in IN_THE_WAY:
                raise Unplaceable(f"{error.filename}: {error.strerror}") from error
            error.filename = error.filename or str(self._path)  # a write does not say it
            raise cannot_write(error) from error

    async def write(self, data: bytes) -> None:
        self._held += data
        if len(self._held) >= HELD_BYTES:
            held, self._held = self._held, bytearray()
            await self._batch(self._locked, self._write, held)

    def _locked(self, function: Callable[..., T], *values: Any) -> T:
        with self._lock:
            if self._dropped:
                raise ValueError("nobody waits for this any more")
            return function(*values)

    def _write(self, data: bytearray) -> io.FileIO:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)  # of an attempt before
            # Exclusive, and so through no link: what somebody put there meanwhile is not written to.
            self._file = io.FileIO(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb")
        self._hashed.update(data)
        if len(self._head) < HEAD_BYTES:
            self._head = (self._head + data[:HEAD_BYTES])[:HEAD_BYTES]
        self._size += len(data)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        return self._file

    async def close(self, declared: str) -> Landed | Spoiled:
        return await self._batch(self._locked, self._close, declared)

    def _close(self, declared: str) -> Landed | Spoiled:
        file = self._write(self._held)
        mime = content_of(self._head, self._size, declared)
        if isinstance(mime, Spoiled):
            return mime
        to_disk(file.fileno())
        found = os.fstat(file.fileno())
        file.close()
        return Landed(mime, self._hashed.digest(), stat_of(found), bytes_after(self._head, self._size))

    def drop(self) -> None:
        with self._lock:
            self._dropped = True
            if self._file is not None:
                self._file.close()
                with contextlib.suppress(OSError):
                    self._path.unlink()
