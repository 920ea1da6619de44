"""Reading the database: all that `JournalView` asks for.

In: a path, or a connection that another module has opened. Out: facts. `Reader` is what the held journal reads with, too;
`JournalReader` only looks, for `plan`, `status` and `report`, and neither locks nor writes.
"""

from __future__ import annotations

import math
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ..core.errors import JournalError
from ..core.facts import FlowFacts, InputFacts
from ..core.lifecycle import InputState
from ..host.process import is_journal
from .clock import boot_name
from .lock import is_held
from .ports import JournalView
from .queries import SQL, of_many, parts
from .recovery import as_it_left
from .row_reader import RowReader
from .rows import Row, advice
from .schema import readable
from .sent_marks import read_sent_marks

T = TypeVar("T")


class Reader(RowReader):
    """Any thread may ask, any number at a time.

    There is one connection for all of them, and one place that uses it: `__rows`. It holds a lock from the statement to its
    last row, so no cursor is open when it returns, and nobody can step through rows that another thread's statement has
    replaced. (Two threads on one connection get each other's rows: CPython 3.12 and 3.13 keep a statement for both.)"""

    _before_every_key = -math.inf  # also before one that damage has made a number or a text
    _may_have_orphans = True  # False: there is surely none, and each flow that is opened asks

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.__connection = connection
        self.__turn = threading.Lock()

    def _ask(self, name: str, *values: object) -> list[Row]:
        return self.__rows(SQL[name], *values)

    def _ask_each(self, name: str, values: Sequence[str] | Sequence[bytes], *before: object) -> Iterator[Row]:
        for part in parts(values):
            yield from self.__rows(of_many(name, len(part)), *before, *part)

    def __rows(self, sql: str, *values: object) -> list[Row]:
        try:
            with self.__turn:
                return self.__connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise JournalError(f"the journal cannot be read: {error}", advice(error)) from error

    def _close_reader(self) -> None:
        with self.__turn:
            self.__connection.close()

    async def look(self, read: Callable[[JournalView], T]) -> T:
        return read(self)  # type: ignore[arg-type]  # its heirs add `held` and `close`

    def orphans(self, flow: str | None = None) -> Sequence[tuple[str, str]]:
        return super().orphans(flow) if self._may_have_orphans else []

    def at_work(self) -> Mapping[str, str]:
        return {}  # nobody shares it


class JournalReader(Reader):
    """A journal that is only looked at. Raises JournalError where there is none.

    With the manifest's `batch` it says what the next run will find: what was announced and never left is as if never
    announced. One that an older batcher wrote is read as a copy in today's schema, which is not brought up to date again."""

    def __init__(self, path: Path, batch: str | None = None) -> None:
        self._path = path
        self._batch = batch
        self._left = read_sent_marks(path.with_suffix(".left"), boot_name()) if batch is not None else None
        if not is_journal(path):
            raise JournalError(f"there is no journal at {path}", "nothing has been run here yet")
        # On a file system that cannot be written SQLite reads a log only if it is told that nobody else writes.
        still = not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists()
        uri = f"{path.absolute().as_uri()}?{'immutable=1' if still else 'mode=ro'}"
        try:
            connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
        except sqlite3.Error as error:
            raise JournalError(f"the journal {path} cannot be opened: {error}", "check its permissions, and --state") from error
        try:
            super().__init__(readable(connection, path))
        except BaseException:
            connection.close()
            raise

    @property
    def held(self) -> bool | None:
        return is_held(self._path)

    def _flow_pages(self) -> Iterator[list[FlowFacts]]:
        if self._batch is None:
            yield from super()._flow_pages()
            return
        for page in super()._flow_pages():
            yield [as_it_left(facts, self._batch, self._left) for facts in page]

    def starting(self) -> Sequence[FlowFacts]:
        found = super().starting()
        if self._batch is None:
            return found
        rows = (as_it_left(facts, self._batch, self._left) for facts in found)
        return [facts for facts in rows if facts.is_starting]

    def flows_named(self, names: Sequence[str]) -> Mapping[str, FlowFacts]:
        found = super().flows_named(names)
        if self._batch is None:
            return found
        return {name: as_it_left(facts, self._batch, self._left) for name, facts in found.items()}

    def inputs(self, flow: str, keys: Sequence[bytes]) -> Mapping[bytes, InputFacts]:
        found = super().inputs(flow, keys)
        left = self._left
        if left is None:
            return found
        return {
            key: replace(row, state=InputState.PENDING) if row.state is InputState.SENDING and key not in left else row
            for key, row in found.items()
        }

    def counts(self, flows: Sequence[str]) -> Mapping[str, int]:
        found = super().counts(flows)
        never_left = Counter(name for name, _, resent in self._never_left(flows) if not resent)
        return {name: max(0, count - never_left[name]) for name, count in found.items()}

    def tallies(self, flows: Sequence[str]) -> Mapping[str, Mapping[InputState, tuple[int, int]]]:
        found = {name: dict(tally) for name, tally in super().tallies(flows).items()}
        for name, size, _ in self._never_left(flows):
            tally = found.get(name, {})  # a run may have written between the two reads
            count, total = tally.get(InputState.SENDING, (0, 0))
            if count:
                tally[InputState.SENDING] = count - 1, total - size
                pending, waiting = tally.get(InputState.PENDING, (0, 0))
                tally[InputState.PENDING] = pending + 1, waiting + size
        return found

    def _never_left(self, flows: Sequence[str]) -> Iterator[tuple[str, int, bool]]:
        """Of these flows, each input that was announced, and surely never left: its flow, size, and whether it was resent."""
        if self._left is not None:
            for name, key, size, resent in self._ask_each("inputs_in_flight", flows):
                if key not in self._left:
                    yield name, size, bool(resent)

    def close(self) -> None:
        self._close_reader()
