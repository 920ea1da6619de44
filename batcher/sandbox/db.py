"""The database of the sandbox: one writer thread with group commit, readers beside it, streams of rows.

In: functions that take a connection. Out: what they return, durable where they wrote. The event loop never waits on
SQLite: the sandbox may live in its client's loop. Called by `service`; what is written and read is in `store` and
`listings`.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from .refusals import Refusal

with contextlib.suppress(ImportError):  # Windows: see `serve`
    import fcntl

T = TypeVar("T")
Op = Callable[[sqlite3.Connection], Any]

# Writes in one transaction at most: what 16 to 512 concurrent uploads leave waiting, and no more than some ms of work.
GROUP_MAX = 256
# A reply is handed to the loop in pieces of about this size: 50 µs of hop for 64 KiB of text.
STREAM_CHUNK_BYTES = 64 * 1024
READERS = 4

SCHEMA = """
CREATE TABLE IF NOT EXISTS flows (
  seq INTEGER PRIMARY KEY,
  flow_id TEXT NOT NULL UNIQUE,
  template TEXT NOT NULL,
  parameters TEXT NOT NULL,              -- JSON, as it was sent
  additional TEXT NOT NULL,              -- JSON, as it was sent
  created_at REAL NOT NULL,              -- times are seconds of the wall clock: a restart does not stop a flow
  start_requests INTEGER NOT NULL DEFAULT 0,
  starts INTEGER NOT NULL DEFAULT 0,     -- transitions created -> starting
  started_at REAL,
  processing_s REAL NOT NULL DEFAULT 0,
  fails INTEGER NOT NULL DEFAULT 0,
  aborted_at REAL,
  deleted_at REAL                        -- gone for the API, kept for the record
);
CREATE INDEX IF NOT EXISTS flows_by_time ON flows (created_at, seq) WHERE deleted_at IS NULL;
CREATE TABLE IF NOT EXISTS inputs (
  seq INTEGER PRIMARY KEY,
  flow INTEGER NOT NULL REFERENCES flows (seq),
  asset_id TEXT NOT NULL,                -- ascending within a flow
  kind TEXT NOT NULL,                    -- file or text
  mime TEXT NOT NULL,                    -- as it was sent
  sha256 TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  additional TEXT NOT NULL,
  received_at REAL NOT NULL,
  fails INTEGER NOT NULL,
  broken INTEGER NOT NULL,
  data BLOB                              -- the content where it is small; else the file assets/<asset_id>
);
CREATE UNIQUE INDEX IF NOT EXISTS inputs_of_flow ON inputs (flow, asset_id);
-- For the sweep on start: which files are named by a row. Small inputs do not pay for it.
CREATE INDEX IF NOT EXISTS inputs_in_files ON inputs (asset_id) WHERE data IS NULL;
"""
SCHEMA_VERSION = 1


class Database:
    """The open database in `folder`. Raises BlockingIOError if another sandbox serves the folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "sandbox.sqlite"
        self._lock = (folder / "lock").open("w")
        try:
            # A kernel lock dies with its process: nothing to clean up after kill -9.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise
        self._idle: list[sqlite3.Connection] = []
        self._made: list[sqlite3.Connection] = []  # all of them, also one whose reader was cut off
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="sandbox-read")
        self._writer = self._connect()
        version = self._writer.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, SCHEMA_VERSION):
            self._writer.close()
            self._lock.close()
            raise ValueError(f"{self._path} was written by another version of the sandbox (schema {version})")
        self._writer.executescript(SCHEMA)
        self._writer.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self._queue: queue.SimpleQueue[tuple[Op, asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._write_groups, name="sandbox-write", daemon=True)
        self._thread.start()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=30)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA journal_mode = WAL")
        # NORMAL: a commit is in the page cache when it returns, which survives kill -9 of this process. Only a
        # crash of the machine can lose the last commits, and it still leaves no half one. FULL would cost an fsync.
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA cache_size = -2048")  # KiB; the sandbox shares a 120 MiB bound with its client
        self._made.append(db)
        return db

    # ---- writing

    def write(self, op: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Runs `op` in a transaction; its result comes when that is committed. A Refusal is a result, too."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put((op, future))
        return future

    def _write_groups(self) -> None:
        while (first := self._queue.get()) is not None:
            group = [first]
            while len(group) < GROUP_MAX and not self._queue.empty():
                entry = self._queue.get()
                if entry is None:
                    self._queue.put(None)
                    break
                group.append(entry)
            self._settle(group, self._commit(group))

    def _commit(self, group: list[tuple[Op, asyncio.Future[Any]]]) -> list[object]:
        """One result per entry. An error that is no Refusal fails the group: better a 500 than half a write."""
        results: list[object] = []
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            for op, _ in group:
                try:
                    results.append(op(self._writer))
                except Refusal as refusal:
                    results.append(refusal)
            self._writer.execute("COMMIT")
        except Exception as error:  # handed to every waiting call, which fails with it
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            return [error] * len(group)
        return results

    def _settle(self, group: list[tuple[Op, asyncio.Future[Any]]], results: list[object]) -> None:
        def settle() -> None:
            for (_, future), result in zip(group, results, strict=True):
                if future.done():  # its call was cancelled; the write stands
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(settle)

    # ---- reading

    async def read(self, op: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `op` on a reader's thread; it sees every write that was acknowledged."""
        return await self.work(self._with_reader, op)

    async def work(self, do: Callable[..., T], *args: Any) -> T:
        """Runs blocking work (files, decoding) on a reader's thread."""
        return await self._loop.run_in_executor(self._readers, do, *args)

    def _with_reader(self, op: Callable[[sqlite3.Connection], T]) -> T:
        db = self._take_reader()
        try:
            return op(db)
        finally:
            self._idle.append(db)

    def _take_reader(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()

    async def stream(self, rows: Callable[[sqlite3.Connection], Iterator[bytes]]) -> AsyncGenerator[bytes, None]:
        """The pieces that `rows` yields, made on a reader's thread, a chunk at a time, in one snapshot."""
        db = await self.work(self._take_reader)
        pieces = rows(db)
        try:
            while chunk := await self.work(_next_chunk, pieces):
                yield chunk
        finally:
            # Also when the client left half-way: closing the generator ends its cursor and so its snapshot.
            await asyncio.shield(self.work(self._end_stream, pieces, db))

    def _end_stream(self, pieces: Iterator[bytes], db: sqlite3.Connection) -> None:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()
        self._idle.append(db)

    async def close(self) -> None:
        """Ends the threads; what was handed to `write` before is committed."""
        self._queue.put(None)
        await self.work(self._thread.join)
        await asyncio.to_thread(self._readers.shutdown)
        for db in self._made:
            db.close()
        self._lock.close()


def _next_chunk(pieces: Iterator[bytes]) -> bytes:
    chunk: list[bytes] = []
    size_bytes = 0
    for piece in pieces:
        chunk.append(piece)
        size_bytes += len(piece)
        if size_bytes >= STREAM_CHUNK_BYTES:
            break
    return b"".join(chunk)
