"""A connection that is made again when it is lost.

In: an address, work for a connection. Out: what the work found, once it was done; it is repeated from its beginning where the
database went away meanwhile, so it is one transaction that may be repeated. Called by the reader, in whatever thread asks, and
by the writer, in its own.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeVar

import psycopg
from psycopg import sql

from ...core.errors import JournalError, Reason, Stop, UsageError
from .address import DatabaseAddress
from .statements import SQL, Connection

T = TypeVar("T")

AWAY_S: Final = 600.0  # how long a run waits for its database
OPEN_S: Final = 10.0  # and whoever opens it
FIRST_S: Final = 0.1  # between two attempts, doubled each time
LONGEST_S: Final = 5.0
GRACE_S: Final = 2.0  # of what is under way when all waits are to end

# A cable that was cut is noticed within some 10 s, and by the server within half a minute: then its locks are gone, too. A run
# that is frozen within a transaction is thrown out of it, whatever TCP says of its machine: others wait for its row locks.
# Nothing else ends a statement.
_TCP: Final = {
    "connect_timeout": "10", "keepalives": "1", "keepalives_idle": "4", "keepalives_interval": "2", "keepalives_count": "3",
    "tcp_user_timeout": "10000", "application_name": "batcher", "client_encoding": "utf8",
}  # fmt: skip
_SESSION: Final = {
    "idle_in_transaction_session_timeout": "10s", "statement_timeout": "0", "lock_timeout": "0",
    "default_transaction_isolation": "read committed", "tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    # All statements here are short. The writer does without sequential scans, and a table of one row has no other: the server
    # counts that as very expensive, and would compile the statement anew, for 80 ms each time.
    "jit": "off",
}  # fmt: skip
# What passes by itself, beside a connection that is gone: out of memory or connections, a server that became a standby, a
# statement that was cancelled, a lock that was not to be had, a deadlock.
_PASSING: Final = frozenset({"53200", "53300", "25006", "55P03", "40001", "40P01"})
_OUR_TURN: Final = ("55P03", "40001", "40P01")  # of them: what the same connection may try again
_PASSING_CLASSES: Final = ("08", "57")
_UP_SOON: Final = ("starting up", "shutting down", "recovery", "not yet accepting", "too many", "connection slots")
_OURS: Final = ("invalid", "bad value", "no password supplied", "certificate", "not support SSL", "service file", "of service")


class Patience:
    """How long a database that is away is waited for; shared by the connections of one journal. Any thread."""

    def __init__(self, away_s: float) -> None:
        self.away_s = away_s
        self._ended = threading.Event()

    def end(self) -> None:
        self._ended.set()

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def pause(self, seconds: float) -> None:
        self._ended.wait(seconds)


class Line:
    """`session`: settings of its connections; `writes`: with plans of its own for what it writes. `begun` is called with each
    new one. Raises Stop(UNAVAILABLE) where the database is away for too long, and psycopg's own errors where it says no, which
    `user_error` makes ours."""

    def __init__(
        self, address: DatabaseAddress, patience: Patience, *, steady: Callable[[], float] = time.monotonic,
        session: Mapping[str, str] = MappingProxyType({}), writes: bool = False,
        begun: Callable[[Connection], None] = lambda connection: None,
    ) -> None:  # fmt: skip
        self._address = address
        self._patience = patience
        self._steady = steady
        self._session = {**_SESSION, **session, "search_path": sql.Identifier(address.schema).as_string()}
        self._writes = writes
        self._begun = begun
        self._turn = threading.Lock()
        self._connection: Connection | None = None
        self._since: float | None = None  # the work under way began then

    def open(self) -> None:
        """The first connection. Raises UsageError where the address is at fault, Stop where the database is away."""
        self._until(self._connect, min(OPEN_S, self._patience.away_s), opening=True)

    def do(self, work: Callable[[Connection], T]) -> T:
        """What the work found, in a transaction of its own where it makes one; one piece of work at a time."""
        with self._turn:
            self._since = self._steady()
            try:
                return self._until(lambda: self._tried(work), self._patience.away_s)
            finally:
                self._since = None

    def _until(self, attempt: Callable[[], T], away_s: float, *, opening: bool = False) -> T:
        pause_s, first = FIRST_S, self._steady()
        while True:
            try:
                return attempt()
            except psycopg.Error as error:
                if opening and _at_fault(error):
                    raise UsageError(f"the database refuses: {self._address.hidden(str(error))}",
                                     f"{self._address}; a password is read from ~/.pgpass or PGPASSFILE") from None  # fmt: skip
                if self._connection is not None and not _passes(error):
                    raise
                if self._patience.ended or self._steady() - first + pause_s > away_s:
                    raise Stop(Reason.UNAVAILABLE, f"the database is away: {self._address.hidden(str(error))}",
                               f"{self._address}; run again once it is back: it resumes") from None  # fmt: skip
            self._patience.pause(pause_s)
            pause_s = min(2 * pause_s, LONGEST_S)

    def _tried(self, work: Callable[[Connection], T]) -> T:
        connection = self._connection or self._connect()
        try:
            return work(connection)
        except psycopg.Error as error:
            if (
                connection.closed
                or isinstance(error, psycopg.InterfaceError)
                or (_passes(error) and error.sqlstate not in _OUR_TURN)
            ):
                self._drop()
            raise
        finally:
            self._roll_back()

    def _roll_back(self) -> None:
        """What is left of work that failed."""
        connection = self._connection
        if connection is None or connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE:
            return
        try:
            connection.rollback()
        except psycopg.Error:
            self._drop()

    def _connect(self) -> Connection:
        given = self._address.connecting(_TCP)
        connection = psycopg.connect(**given, autocommit=True)  # type: ignore[arg-type]  # libpq's, as text
        if self._writes:  # with plans of ours (`statements`): where psycopg has some too, it throws all away at a rollback
            connection.prepare_threshold = None
        try:
            names, values = list(self._session), list(self._session.values())
            connection.execute(SQL["set_session"], (names, values))
            self._begun(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()

    def halt(self) -> None:
        """After `Patience.end`, from any thread: what is under way has `GRACE_S` to end, and then its connection is cut."""
        if self._since is not None:
            timer = threading.Timer(GRACE_S, self._cut, (self._since,))
            timer.daemon = True
            timer.start()

    def _cut(self, since: float | None) -> None:
        """The work that began then loses its connection, if it is still under way."""
        connection = self._connection
        if connection is None or self._since != since:
            return
        with contextlib.suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as ours:
            ours.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Waits a while for the work under way, which `halt` ends."""
        if self._turn.acquire(timeout=GRACE_S + 1):
            self._drop()
            self._turn.release()


def _at_fault(error: psycopg.Error) -> bool:
    """Whether a connection was refused for good: the server's FATAL, but for one that passes, or what libpq misses here. (Of
    a connection that is not made psycopg knows no SQLSTATE.)"""
    if error.sqlstate is not None:
        return not _passes(error)
    message = str(error)
    if any(word in message for word in _OURS):
        return True
    return "FATAL:" in message and not any(word in message for word in _UP_SOON)


def _passes(error: psycopg.Error) -> bool:
    state = error.sqlstate or ""
    return state[:2] in _PASSING_CLASSES or state in _PASSING


def user_error(address: DatabaseAddress, error: psycopg.Error, doing: str) -> JournalError | UsageError:
    """As a user is told: `doing` is read or written."""
    message = f"the journal {address} cannot be {doing}: {address.hidden(str(error))}"
    state = error.sqlstate or ""
    if state == "42501":  # insufficient privilege
        return UsageError(message, "ask for the rights on that database, or on that schema")
    if state.startswith("53"):
        return JournalError(message, "free some space for the database, then run again")
    return JournalError(message, "look at the server's log")
