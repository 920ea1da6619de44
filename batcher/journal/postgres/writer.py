"""Writing: whatever has gathered is one transaction, in a thread of its own.

In: records, and work on claims, from the loop's thread. Out: committed rows, in the order of their coming, and waiters that are
woken when they are there. Called by `journal.py`. What failed once is not gone on with: who was told so has sent nothing, and
later records may rest on those that are missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

import psycopg

from ...core.errors import BatcherError, ClaimLost, JournalError, Stop
from ...core.facts import Record
from ...host.failpoint import failpoint
from .fence import BEGIN, Fence
from .folding import Folded, fold
from .line import Line
from .records import statements_of
from .statements import SQL, Connection, together

LINGER_S: Final = 0.05  # what nobody waits for may stay unwritten so long; what somebody waits for, not at all
COMMIT_ROWS: Final = 2048  # enough for one transaction

_Waiter: TypeAlias = "asyncio.Future[None]"
_Work: TypeAlias = Callable[[Connection], None]
_Failure: TypeAlias = Callable[[], BatcherError]


@dataclass(frozen=True, slots=True)
class _Item:
    """Records, or `work` instead of them. `gives_back`: it is done, or needs no doing, also after claims were lost."""

    waiter: _Waiter | None
    records: tuple[Record, ...] = ()
    work: _Work | None = None
    gives_back: bool = False


class Writer:
    """One for a journal, from `start` to `close`. `told`: psycopg's errors as ours."""

    def __init__(self, line: Line, fence: Fence, told: Callable[[psycopg.Error], BatcherError]) -> None:
        self._line = line
        self._fence = fence
        self._told = told
        self._changed = threading.Condition()
        self._items: deque[_Item] = deque()
        self._waiting = 0  # of the items: those that somebody waits for
        self._closing = False
        self._failure: _Failure | None = None  # from then on nothing is recorded any more, so nothing more is sent
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)

    @property
    def stopped(self) -> Stop | None:
        """What whoever records is told, where the database has stayed away."""
        failure = self._failure() if self._failure is not None else None
        return failure if isinstance(failure, Stop) else None

    def start(self) -> None:
        self._thread.start()

    # ---- in the loop's thread

    def post(self, records: tuple[Record, ...]) -> None:
        self._add(_Item(None, records))

    async def record(self, records: tuple[Record, ...]) -> None:
        await self._waited(_Item(asyncio.get_running_loop().create_future(), records))

    async def work(self, work: _Work, *, gives_back: bool = False) -> None:
        """In its turn, after what was handed over before."""
        await self._waited(_Item(asyncio.get_running_loop().create_future(), (), work, gives_back))

    async def rejoin(self) -> None:
        """Nothing was posted, and nothing is held; from a ClaimLost it can go on."""
        with self._changed:
            dropped = list(self._items)
            self._items.clear()
            self._waiting = 0
        _wake(dropped, ClaimLost)
        await self.work(self._begin_anew, gives_back=True)

    async def _waited(self, item: _Item) -> None:
        self._add(item)
        if item.waiter is not None:
            await item.waiter

    def _add(self, item: _Item) -> None:
        with self._changed:
            self._items.append(item)
            self._waiting += item.waiter is not None
            self._changed.notify()

    def close(self, seconds: float) -> bool:
        """Write what was posted, and give back what is held; whether that was done in time."""
        with self._changed:
            self._items.append(_Item(None, (), self._begin_anew, gives_back=True))
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    # ---- in the thread

    def _write(self) -> None:
        while items := self._next():
            failure = self._failure
            if failure is None or (failure is ClaimLost and items[0].gives_back):
                failure = self._done(items)
                self._failure = self._failure or failure
            _wake(items, failure)

    def _next(self) -> list[_Item]:
        """What is written together: records that have gathered, or a piece of work alone. Nothing: it was closed."""
        with self._changed:
            self._linger()
            while not self._items and not self._closing:
                self._changed.wait()
                self._linger()
            found: list[_Item] = []
            rows = 0
            while self._items and rows < COMMIT_ROWS and (not found or self._items[0].work is None):
                found.append(self._items.popleft())
                self._waiting -= found[-1].waiter is not None
                rows += len(found[-1].records)
                if found[-1].work is not None:
                    break
        return found

    def _linger(self) -> None:
        """Let some more gather, until somebody waits. Meanwhile `rejoin` may take all of it away."""
        until = time.monotonic() + LINGER_S
        while self._items and not self._waiting and not self._closing and (left_s := until - time.monotonic()) > 0:
            self._changed.wait(left_s)

    def _done(self, items: Sequence[_Item]) -> _Failure | None:
        """Why not; whatever it is: who waits must not wait for ever."""
        try:
            work = items[0].work
            if work is not None:
                self._line.do(work)
            elif any(item.records for item in items):
                self._line.do(partial(self._commit, fold(record for item in items for record in item.records)))
        except ClaimLost:
            return ClaimLost
        except Stop as stop:
            return partial(Stop, stop.reason, stop.message, stop.hint)
        except psycopg.Error as error:
            told = self._told(error)
            return partial(type(told), told.message, told.hint)
        except Exception as error:
            return partial(JournalError, f"the journal cannot be written: {error}", "this is a bug in batcher")
        return None

    def _commit(self, folded: Folded, connection: Connection) -> None:
        """One transaction, two round trips. It may be repeated: its rows are whole, and it locks and checks its claims anew."""
        locks, check = self._fence.locks(folded)
        found = together(connection, BEGIN, *locks, *statements_of(folded))
        check(found[1 : 1 + len(locks)])
        failpoint("before commit")
        connection.execute(SQL["commit"])
        failpoint("after commit")

    def _begin_anew(self, connection: Connection) -> None:
        self._fence.leave(connection)
        if self._failure is ClaimLost:
            self._failure = None


def _wake(items: Sequence[_Item], failure: _Failure | None) -> None:
    """All who wait, in their loop's thread."""
    waiters = [item.waiter for item in items if item.waiter is not None]
    for loop in {waiter.get_loop() for waiter in waiters}:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there any more
            loop.call_soon_threadsafe(_woken, [waiter for waiter in waiters if waiter.get_loop() is loop], failure)


def _woken(waiters: Sequence[_Waiter], failure: _Failure | None) -> None:
    for waiter in waiters:
        if waiter.done():
            continue
        if failure is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(failure())
