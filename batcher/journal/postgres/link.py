"""A run's own connection to the database, in its loop: made again when it is lost.

In: work to be done on it. Out: what that returns. Used by the crew and its queue; the journal has connections of its own, in
threads. One piece of work at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import psycopg
from psycopg.errors import IdleInTransactionSessionTimeout, ReadOnlySqlTransaction
from psycopg.sql import Identifier

from ...core.errors import Reason, Stop
from ...core.pauses import pause_after
from .address import DatabaseAddress
from .statements import SQL

WORK_S: Final = 10.0  # a database that says nothing for so long is away
AWAY_S: Final = 600.0  # so long it is waited for
PAUSES_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
KEPT_ALIVE: Final = {"connect_timeout": "5", "keepalives_idle": "5", "keepalives_interval": "2", "keepalives_count": "3",
                     "tcp_user_timeout": "10000"}  # fmt: skip
# The same in the server: a host that is gone without a word would keep its locks there for two hours.
_SESSION: Final = {"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3",
                   "tcp_user_timeout": "10000"}  # fmt: skip
# A server that takes no writes any more has become a standby: the primary is another one, or will be.
_LOST: Final = (psycopg.OperationalError, psycopg.InterfaceError, IdleInTransactionSessionTimeout, ReadOnlySqlTransaction,
                TimeoutError)  # fmt: skip

T = TypeVar("T")
Connection = psycopg.AsyncConnection[tuple[object, ...]]


class Link:
    """`lost` is called whenever the connection is gone, and with it every lock that it held. `idle_s`: so long a transaction
    may wait for its next statement; then the server ends it, for others wait for its rows."""

    def __init__(self, address: DatabaseAddress, lost: Callable[[], None], *, idle_s: float) -> None:
        self._address = address.at_primary()
        idle = f"{round(1000 * idle_s)}ms"
        self._session = {**_SESSION, "search_path": Identifier(address.schema).as_string(),
                         "idle_in_transaction_session_timeout": idle}  # fmt: skip
        self._lost = lost
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()
        self._halted = asyncio.Event()
        self.backend = 0  # the server's process for it

    def halt(self) -> None:
        """The run is to end: from now on nothing is waited for."""
        self._halted.set()

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def run(self, work: Callable[[Connection], Awaitable[T]], *, away_s: float = AWAY_S) -> T:
        """Do it, and again where the connection is lost in the middle: it must be of the kind that may be done twice. Raises
        Stop where the database stays away."""
        loop = asyncio.get_running_loop()
        until, failed = loop.time() + away_s, 0
        async with self._turn:
            while True:
                try:
                    async with asyncio.timeout(WORK_S):
                        if self._connection is None:
                            self._connection = await self._connect()
                        return await work(self._connection)
                except _LOST as error:
                    await self._drop()
                    if self._halted.is_set() or loop.time() > until:
                        raise Stop(Reason.UNAVAILABLE, f"the database is away: {self._address.hidden(str(error))}",
                                   "run again later") from None  # fmt: skip
                except BaseException:
                    await self._drop()  # in the middle of something: cancelled
                    raise
                await self._pause(failed)
                failed += 1

    async def _pause(self, failed: int) -> None:
        """Ends at once when the run is to end."""
        try:
            async with asyncio.timeout(pause_after(failed, PAUSES_S)):
                await self._halted.wait()
        except TimeoutError:
            pass

    async def _connect(self) -> Connection:
        given = self._address.connecting(KEPT_ALIVE)
        connection = await psycopg.AsyncConnection.connect(autocommit=True, **given)  # type: ignore[arg-type]  # as libpq takes it
        await connection.execute(SQL["set_session"], (list(self._session), list(self._session.values())))
        self.backend = connection.info.backend_pid
        return connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._lost()
            try:
                async with asyncio.timeout(1.0):
                    await connection.close()
            except (psycopg.Error, TimeoutError):
                pass
