"""The journal in SQLite: what is durable of a manifest's progress at one endpoint.

In: `Record`s from the stages. Out: rows. Opened by `open.py`. The loop itself writes the rows,
and a thread waits for the disk: a thread that also wrote them took turns with the loop at the interpreter's lock, and that
cost three times what the rows do. Whatever has gathered while the disk was waited for is committed together, so that
sixteen waiting workers cost one fsync.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from ..core.errors import JournalError, UsageError
from ..core.facts import AddOrphan, Record
from ..host.failpoint import failpoint
from ..host.process import NOT_YOURS
from ..host.system import to_disk, uptime
from .clock import JournalClock, boot_name
from .lock import hold, hold_open, inodes_of, is_in_place, log_of
from .queries import SQL
from .reader import Reader
from .records import write_records
from .recovery import check, recover
from .rows import advice
from .schema import migrate, version_of
from .sent_marks import SentMarks

LINGER_S: Final = 0.05  # what nobody waits for may stay unwritten so long; what somebody waits for, not at all
COMMIT_ROWS: Final = 1024  # enough for one commit: some 15 ms of the loop's time
CHECKPOINT_ROWS: Final = 2000  # between two checkpoints: a log of 16 MB at most, for a row touches two pages
BUSY_MS: Final = 3000  # the loop waits so long where somebody else holds the database

T = TypeVar("T")
_Waiter: TypeAlias = "asyncio.Future[None]"


class SqliteJournal(Reader):
    """The journal of one manifest at one endpoint; `batch` is the manifest's, for the keys of its flows.

    Raises Locked while another process holds it, UsageError where its folder cannot be written, JournalError where it
    cannot be opened or is damaged. Close it when done. `about`: what it says of itself. `wall` and `steady`: seconds since
    1970, and of a clock that never jumps; `boot`: as `boot_name`.
    """

    def __init__(
        self, path: Path, batch: str, settle_s: float,
        *, about: Mapping[str, str] | None = None, wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = uptime, boot: Callable[[], bytes] = boot_name,
    ) -> None:  # fmt: skip
        self._batch = batch
        self._path = path
        boot_of_now = boot()
        lock = hold(path)
        with contextlib.ExitStack() as opened:  # closed again, the latest first, where what follows fails
            opened.callback(os.close, lock)
            try:
                self._open(path, about, opened)
                self._sent_marks = opened.enter_context(contextlib.closing(SentMarks(path.with_suffix(".left"), boot_of_now)))
                self._settle(settle_s, wall(), steady, boot_of_now)
                self._open_disk(path, opened)
            except PermissionError as error:
                what = f"the journal {error.filename or path} may not be written: {error.strerror}"
                raise UsageError(what, NOT_YOURS) from error
            except (OSError, sqlite3.Error, ValueError) as error:
                raise JournalError(f"the journal {path} cannot be opened: {error}", advice(error)) from error
            self._opened = opened.pop_all()
        self._may_have_orphans = bool(self.orphans())
        self._items: deque[tuple[tuple[Record, ...], _Waiter | None]] = deque()  # records, and who waits for them
        self._writing: asyncio.Task[None] | None = None  # the writer, while there is something to write
        self._lingering: _Waiter | None = None  # what it waits for while nobody waits for it
        self._rows = 0  # since the last checkpoint
        self._failed: JournalError | None = None  # from then on nothing is recorded any more, so nothing more is sent

    # ---- opening

    def _open(self, path: Path, about: Mapping[str, str] | None, opened: contextlib.ExitStack) -> None:
        """The writer's connection, which takes the loop's thread only (sqlite3 itself refuses any other), the schema, and
        the reader's, which takes any thread: see `Reader`."""
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self._writer = opened.enter_context(contextlib.closing(_connect(path)))
        # `_sync` sees to the disk: not within COMMIT, where the loop would wait for it. What is committed
        # and not synced yet outlives the process; only a power cut takes it, the latest first.
        self._writer.execute("PRAGMA synchronous=NORMAL")
        self._writer.execute("PRAGMA wal_autocheckpoint=0")
        self._writer.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        version = version_of(self._writer, path)
        self._fresh = version == 0
        migrate(self._writer, version)
        self._log = os.open(log_of(path), os.O_RDWR)
        opened.callback(os.close, self._log)
        hold_open(self._log)
        self._inodes = inodes_of(path)
        super().__init__(_connect(path, any_thread=True))
        opened.callback(self._close_reader)
        self._introduce(path, about)

    def _introduce(self, path: Path, about: Mapping[str, str] | None) -> None:
        """Write what the journal says of itself."""
        self._writer.execute(SQL["put_new_meta"], ("owner", secrets.token_hex(8)))
        if about is None:
            return
        kept = self.about
        was = Path(kept["manifest"]).stem if kept else path.stem.rpartition("-")[0]
        if was != Path(about["manifest"]).stem:
            # Taken over by a manifest of another name, which may have had, and lost, one of its own.
            self._writer.execute(SQL["delete_meta"], ("unknown_flows_checked",))
        self._writer.execute(SQL["put_meta"], ("about", json.dumps(about)))

    def _settle(self, settle_s: float, wall_s: float, steady: Callable[[], float], boot: bytes) -> None:
        """Go on where an earlier process has ended, however it did."""
        self._commits = int(str(self._meta("commits") or 0))
        check(self._writer, self._commits, self._sent_marks, fresh=self._fresh)
        self._commits += 1  # whoever else writes this journal learns of it at the next commit
        self._writer.execute(SQL["put_meta"], ("commits", self._commits))
        self._sent_marks.committed(self._commits)
        to_disk(self._log, data_only=True)  # a run that was killed may have left commits in memory only
        self._sent_marks.synced(self._commits)
        kept = self._meta("time")
        self._clock = JournalClock(None if kept is None else str(kept), boot, wall_s, steady)
        self._writer.execute(SQL["put_meta"], ("time", self._clock.kept))
        recover(self._writer, self._batch, self._sent_marks, self._clock, settle_s)

    def _open_disk(self, path: Path, opened: contextlib.ExitStack) -> None:
        """The thread that waits for the disk, with a connection that only it may use. It is there from now on: later there
        may be none to be had."""
        self._disk = ThreadPoolExecutor(1, "journal")
        opened.callback(self._disk.shutdown)
        self._checkpointer = self._disk.submit(_connect, path).result()
        opened.callback(lambda: self._disk.submit(self._checkpointer.close).result())

    @property
    def held(self) -> bool:
        return True

    def now(self) -> float:
        return self._clock.now()

    async def take_turn(self, what: str) -> bool:
        return True  # nobody else holds it

    async def give_turn(self, what: str) -> None:
        pass

    # ---- writing

    async def record(self, *records: Record) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._items.append((records, waiter))
        self._hurry()
        self._write_soon()
        await waiter
        if self._failed is not None:
            raise JournalError(self._failed.message, self._failed.hint)

    def post(self, *records: Record) -> None:
        self._items.append((records, None))
        self._write_soon()

    def mark_sent(self, key: bytes) -> None:
        self._sent_marks.mark(key)

    def _write_soon(self) -> None:
        """Not now: others who are about to wait come along."""
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())
            self._writing.add_done_callback(self._written)

    def _written(self, writing: asyncio.Task[None]) -> None:
        self._writing = None
        if self._items:  # they came at its end, or it was cancelled before it began
            self._write_soon()

    async def _write(self) -> None:
        """The writer: commit what has gathered, as long as there is something; where somebody waits for it, the disk's thread
        then sees that it is there, and meanwhile nothing is committed. A loop that is ended cancels its tasks: this one only
        hurries then, for what was handed over is written all the same."""
        loop = asyncio.get_running_loop()
        while self._items:
            if all(waiter is None for _, waiter in self._items):
                await self._linger(loop)
                if not self._items:
                    return  # it was closed meanwhile
            waiters = self._commit_some()
            if waiters and self._failed is None:
                try:
                    await loop.run_in_executor(self._disk, self._sync)
                except asyncio.CancelledError:  # it may not have begun: sync now
                    self._disk.submit(self._sync).result()
            _wake(waiters)
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)  # who was woken comes along with the next commit

    async def _linger(self, loop: asyncio.AbstractEventLoop) -> None:
        """Nobody waits: let some more gather, for a commit costs as much as thirty rows. Until somebody does wait."""
        self._lingering = loop.create_future()
        timer = loop.call_later(LINGER_S, self._hurry)
        with contextlib.suppress(asyncio.CancelledError):
            await self._lingering
        timer.cancel()
        self._lingering = None

    def _hurry(self) -> None:
        if self._lingering is not None and not self._lingering.done():
            self._lingering.set_result(None)

    def _commit_some(self) -> list[_Waiter]:
        """Write what has gathered, or enough of it. Who waits for it."""
        records: list[Record] = []
        waiters: list[_Waiter] = []
        while self._items and len(records) < COMMIT_ROWS:
            more, waiter = self._items.popleft()
            records += more
            if waiter is not None:
                waiters.append(waiter)
        if self._failed is None:
            try:
                self._commit(records)
            except Exception as error:  # whatever it is: who waits must not wait for ever
                self._fail(error)
                with contextlib.suppress(sqlite3.Error):
                    self._writer.execute("ROLLBACK")
        return waiters

    def _commit(self, records: Sequence[Record]) -> None:
        self._may_have_orphans = self._may_have_orphans or any(isinstance(record, AddOrphan) for record in records)
        self._writer.execute("BEGIN IMMEDIATE")
        settled = write_records(self._writer, self._batch, records)
        if self._writer.execute(SQL["count_commit"], (self._commits + 1, self._commits)).rowcount != 1:
            raise JournalError(f"another run writes the journal {self._path}", "let the other run end, then run again")
        failpoint("before commit")
        self._writer.execute("COMMIT")
        self._rows += len(records)
        self._commits += 1
        failpoint("after commit")
        self._sent_marks.committed(self._commits)
        for key in settled:  # only now: a kill before the commit must find the mark
            self._sent_marks.clear(key)
        failpoint("after sent marks")

    def _sync(self) -> None:
        """In the disk's thread; the loop commits nothing meanwhile."""
        try:
            commits = self._commits
            failpoint("before sync")
            if not is_in_place(self._inodes):
                message = f"the journal {self._path} was removed or moved while this run was writing it"
                raise JournalError(message, "put it back, or take over what is on the service with --adopt")
            to_disk(self._log, data_only=True)
            self._sent_marks.synced(commits)
            if self._rows >= CHECKPOINT_ROWS:
                self._rows = 0
                self._checkpointer.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except Exception as error:  # whatever it is: who waits must not take it for durable
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        message = f"the journal {self._path} cannot be written: {error}"
        self._failed = error if isinstance(error, JournalError) else JournalError(message, "free some space, then run again")

    def close(self) -> None:
        """Write what was posted, and let go of the lock."""
        with self._opened:
            self._disk.submit(int).result()  # wait until the thread is idle: it and the loop write by turns
            waiters: list[_Waiter] = []
            while self._items:
                waiters += self._commit_some()
            if self._failed is None:  # after a sync that failed, one that works says nothing of what was lost
                self._disk.submit(self._sync).result()
            _wake(waiters)
            if self._writing is not None and not self._writing.get_loop().is_closed():
                self._hurry()  # it finds nothing left


def _wake(waiters: Sequence[_Waiter]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)


def _connect(path: Path, *, any_thread: bool = False) -> sqlite3.Connection:
    """A connection for this thread alone, as sqlite3 sees to; `any_thread`: for whoever holds its lock."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=not any_thread, timeout=30)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA fullfsync=1")  # of SQLite's own syncs, as `to_disk`: it counts on macOS only
    except BaseException:
        connection.close()
        raise
    return connection
