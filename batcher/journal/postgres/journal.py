"""The journal in PostgreSQL: what is durable of a batch's progress at one endpoint, shared by any number of runs.

In: `Record`s from the stages; which flows this run takes up. Out: rows, as soon as the database has committed them. Opened by
`open.py`. The loop only gathers; a thread of its own writes, and whoever asks reads in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, TypeVar

import psycopg

from ...core.errors import Locked, Stop, UsageError
from ...core.facts import Record
from ...host.system import uptime
from ..ports import JournalView
from .address import DatabaseAddress
from .fence import Fence
from .line import AWAY_S, Line, Patience, user_error
from .reader import SESSION, LineReader
from .schema import lock_key, migrate
from .statements import SQL, Connection, ask
from .writer import Writer

T = TypeVar("T")

CLOSE_S: Final = 5.0  # for what was posted last
OLDEST: Final = 120000  # PostgreSQL 12
CLOCK_TRIES: Final = 3
CLOCK_S: Final = 0.5  # a longer round trip says little of the time
_LOCK_PAUSES_S: Final = (0.05, 0.1, 0.2, 0.4, 0.0)  # a run that has just died may still have it
# Plans are made once and by index only: one that was made while the tables were empty would read all of them, later.
_SESSION: Final = {
    "plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off",
}  # fmt: skip


class PostgresJournal(LineReader):
    """The journal of one batch at one endpoint, at `address`, which has its schema; that is made where it is not there.

    `run`: the name of this run, as others see it on its flows. `exclusive`: no other run is at it, and this one may change
    every flow; else it changes those that it claims, and with the lead those that nobody has claimed. Raises Locked where
    others are at it, UsageError where the database refuses, Stop(UNAVAILABLE) where it is away, JournalError where it holds
    something else. `about`: what it says of itself. Close it when done.

    It reads where it writes: a hot standby that lags would tell of a flow that is started as one that is not."""

    def __init__(
        self,
        address: DatabaseAddress,
        batch: str,
        settle_s: float,
        *,
        about: Mapping[str, str] | None = None,
        run: str,
        exclusive: bool,
    ) -> None:
        address = address.at_primary()
        self._patience = Patience(AWAY_S)
        self._batch = batch
        self._exclusive = exclusive
        self._locked = False
        self.stopping: Callable[[Stop], object] = lambda stop: None  # called in the loop where the database stays away
        super().__init__(address, Line(address, self._patience, session=SESSION))
        self._writing_line = Line(address, self._patience, session=_SESSION, writes=True, begun=self._begun)
        self._fence = Fence(run, self.now, settle_s)
        self._writer = Writer(self._writing_line, self._fence, partial(user_error, address, doing="written"))
        with contextlib.ExitStack() as opened:
            opened.callback(self._writing_line.close)
            opened.callback(self._line.close)
            try:
                self._open(about)
            except psycopg.Error as error:
                raise user_error(address, error, "opened") from error
            opened.pop_all()
        self._writer.start()

    # ---- opening

    def _open(self, about: Mapping[str, str] | None) -> None:
        self._writing_line.open()
        self._writing_line.do(self._fits)
        self._hold()
        self._writing_line.do(lambda connection: migrate(connection, self._address))
        self._writing_line.do(lambda connection: self._introduce(connection, about))
        self._line.open()
        self._set_clock()
        self._owner = super().owner  # asked for once: it never changes, and the loop tags each create with it
        if self._exclusive:
            taken: list[bool] = []
            self._writing_line.do(lambda connection: taken.append(self._fence.take_all(connection)))
            if not taken[-1]:
                raise Locked("another run holds this manifest", "wait for it to end")

    def _fits(self, connection: Connection) -> None:
        if connection.info.server_version < OLDEST:
            raise UsageError(f"the database {self._address} is too old", f"PostgreSQL {OLDEST // 10000} or later")
        if connection.info.parameter_status("server_encoding") != "UTF8":
            raise UsageError(f"the database {self._address} does not keep UTF-8", "make one with ENCODING 'UTF8'")

    def _begun(self, connection: Connection) -> None:
        """With each connection. The lock tells who is alive; once it was had, what counts are the claims and the lead."""
        asked = "lock_journal" if self._exclusive else "share_journal"
        ((self._locked,),) = ask(connection, asked, lock_key(self._address.schema, "journal"))
        connection.execute(SQL["sync_commits"])

    def _hold(self) -> None:
        for pause_s in _LOCK_PAUSES_S:
            if self._locked:
                return
            time.sleep(pause_s)
            self._writing_line.do(self._begun)
        raise Locked("another run holds this manifest", "wait for it to end")

    def _introduce(self, connection: Connection, about: Mapping[str, str] | None) -> None:
        """Write what the journal says of itself. Raises UsageError where it is another batch's."""
        with connection.transaction():
            connection.execute(SQL["put_new_meta"], ("owner", secrets.token_hex(8)))
            if about is None:
                return
            rows = ask(connection, "meta", "about")
            kept = json.loads(rows[0][0]) if rows else about
            if (kept["batch"], kept["endpoint"]) != (about["batch"], about["endpoint"]):
                raise UsageError(f"the journal {self._address} is that of the batch “{kept['batch']}” at {kept['endpoint']}",
                                 "give each batch a ?schema= of its own, or none")  # fmt: skip
            if not rows or kept != about:
                connection.execute(SQL["put_meta"], ("about", json.dumps(dict(about))))

    # ---- time

    def now(self) -> float:
        at, steady = self._clock
        return at + uptime() - steady

    async def resync(self) -> None:
        """Take the database's time anew. Raises as a read does."""
        await asyncio.to_thread(self._set_clock)

    def _set_clock(self) -> None:
        """In the middle of the round trip, as far as can be known; a long one is made again."""
        for _ in range(CLOCK_TRIES):
            before = uptime()
            at = float(self._ask("time")[0][0])
            after = uptime()
            self._clock = at, (before + after) / 2
            if after - before < CLOCK_S:
                break

    # ---- reading and writing

    @property
    def held(self) -> bool | None:
        return True

    @property
    def owner(self) -> str:
        return self._owner

    async def look(self, read: Callable[[JournalView], T]) -> T:
        with self._telling():
            return await super().look(read)

    async def record(self, *records: Record) -> None:
        with self._telling():
            await self._writer.record(records)

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """A database that stays away ends the run: whoever it was that asked for it."""
        try:
            yield
        except Stop as stop:
            self.stopping(stop)
            raise

    def post(self, *records: Record) -> None:
        self._writer.post(records)

    def mark_sent(self, key: bytes) -> None:
        """Nothing: no other host could tell that a request never left, so what was announced counts as sent."""

    async def take_turn(self, what: str) -> bool:
        """By a lock that its connection has: whoever dies gives it back."""
        key = lock_key(self._address.schema, what)
        return bool(await self.look(lambda journal: self._ask("try_turn", key)[0][0]))

    async def give_turn(self, what: str) -> None:
        await self.record()  # whoever has it next finds what was done
        key = lock_key(self._address.schema, what)
        await self.look(lambda journal: self._ask("give_turn", key))

    # ---- claims, in order with what is posted

    async def claim(self, names: Sequence[str]) -> None:
        """These flows are this run's from now on, whoever had them; they need no row yet. What an earlier owner left open
        is settled, durably: what was announced is unknown, and no time lies further ahead than the settling time. Raises
        ClaimLost where this run has lost others."""
        with self._telling():
            await self._writer.work(lambda connection: self._fence.claim(connection, names))

    async def release(self, names: Sequence[str]) -> None:
        """Nobody has them from now on, but those that were taken over. After what was posted before."""
        with self._telling():
            await self._writer.work(lambda connection: self._fence.release(connection, names), gives_back=True)

    async def take_lead(self) -> None:
        """This run may write flows that nobody has claimed, whoever led before."""
        with self._telling():
            await self._writer.work(self._fence.take_lead)

    async def drop_lead(self) -> None:
        with self._telling():
            await self._writer.work(self._fence.drop_lead, gives_back=True)

    async def rejoin(self) -> None:
        """After ClaimLost: this run holds nothing, and nothing that was posted is left. Its tasks have ended."""
        await self._writer.rejoin()

    # ---- waiting, ending

    @property
    def away_s(self) -> float:
        """How long a database that is away is waited for."""
        return self._patience.away_s

    @away_s.setter
    def away_s(self, seconds: float) -> None:
        self._patience.away_s = seconds

    @property
    def stopped(self) -> Stop | None:
        """Why nothing is recorded any more, where the database has stayed away."""
        return self._writer.stopped

    def halt(self) -> None:
        """A database that is away is not waited for any more: whoever does, and whoever would, gets Stop(UNAVAILABLE). While it
        answers all goes on. Any thread."""
        self._patience.end()
        for line in (self._writing_line, self._line):
            line.halt()

    def close(self) -> None:
        """Write what was posted, give back claims and the lead. Of a database that is away it is over after some seconds."""
        self.halt()
        if self._writer.close(CLOSE_S):
            self._writing_line.close()
        self._looks.shutdown(wait=False)
        self._line.close()
