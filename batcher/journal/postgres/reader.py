"""Reading the database: all that `JournalView` asks for.

In: an address, or a line that another module has opened. Out: facts. `LineReader` is what the held journal reads with, too;
`PostgresReader` only looks, for `plan`, `status` and `report`, and writes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import psycopg

from ...core.errors import JournalError
from ..ports import JournalView
from ..queries import parts
from ..row_reader import RowReader
from ..rows import Row
from .address import DatabaseAddress
from .line import OPEN_S, Line, Patience, user_error
from .schema import SCHEMA, lock_key, version_of
from .statements import ask
from .texts import original_all, stored_all

T = TypeVar("T")

LOOKS: Final = 4  # at a time; they take turns at one connection, but not at what they make of the rows
# A plan that was made once, for tables that were empty then, would be kept while they grow.
SESSION: Final = {"plan_cache_mode": "force_custom_plan"}


class LineReader(RowReader):
    """Any thread may ask, any number at a time: they take turns at one connection, a statement each."""

    def __init__(self, address: DatabaseAddress, line: Line) -> None:
        self._address = address
        self._line = line
        # Not the loop's own threads, which others need: one that asks may have to wait long.
        self._looks = ThreadPoolExecutor(LOOKS, "look")

    def _ask(self, name: str, *values: object) -> list[Row]:
        """Raises Stop, too, where the database is away for too long."""
        values = stored_all(values)
        try:
            return [original_all(row) for row in self._line.do(lambda connection: ask(connection, name, *values))]
        except psycopg.Error as error:
            raise user_error(self._address, error, "read") from error

    def _ask_each(self, name: str, values: Sequence[str] | Sequence[bytes], *before: object) -> Iterator[Row]:
        for part in parts(values):
            yield from self._ask(name, *before, list(stored_all(tuple(part))))

    async def look(self, read: Callable[[JournalView], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._looks, read, self)  # type: ignore[arg-type]  # its heirs add `held` and `close`

    @property
    def held(self) -> bool | None:
        key = lock_key(self._address.schema, "journal")
        return bool(self._ask("held", key, key)[0][0])

    def at_work(self) -> Mapping[str, str]:
        return dict(self._ask("at_work"))


class NoJournal(JournalError):
    """There is none at that address."""


class PostgresReader(LineReader):
    """A journal that is only looked at. `address` has its schema. Raises UsageError where the database refuses,
    Stop(UNAVAILABLE) where it is away, NoJournal where it has no such schema, JournalError where it is of another version."""

    def __init__(self, address: DatabaseAddress) -> None:
        line = Line(address, Patience(OPEN_S), session=SESSION)
        super().__init__(address, line)
        try:
            line.open()
            version = line.do(lambda connection: version_of(connection, address))
        except psycopg.Error as error:
            line.close()
            raise user_error(address, error, "read") from error
        except BaseException:
            line.close()
            raise
        if version == SCHEMA:
            return
        line.close()
        if version == 0:
            raise NoJournal(f"there is no journal at {address}", "nothing has been run here yet")
        raise JournalError(f"the journal {address} was written by an older batcher (schema {version})",
                           "batcher run brings it up to date")  # fmt: skip

    def close(self) -> None:
        self._looks.shutdown(wait=False)
        self._line.close()
