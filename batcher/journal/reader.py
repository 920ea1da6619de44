"""Reading the database: all that `JournalView` asks for.

In: a path, or a connection that another module has opened. Out: facts. `Reader` is what the held journal reads with, too;
`JournalReader` only looks, for `plan`, `status` and `report`, and neither locks nor writes.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from ..core.collecting import Step, step
from ..core.errors import JournalError
from ..core.facts import AttemptFacts, EndFacts, FileStat, FlowFacts, InputFacts, OutputFacts, OutputState
from ..core.lifecycle import InputState
from ..core.measuring import FlowTimes
from ..core.model import JSON
from ..core.output_names import path_digest
from ..host.process import is_journal
from .clock import boot_name
from .lock import is_held
from .ports import JournalView
from .queries import SQL, of_many, parts
from .recovery import as_it_left
from .rows import Row, advice, attempt_facts, damaged, end_facts, flow_facts, input_facts, output_facts
from .schema import readable
from .sent_marks import read_sent_marks

T = TypeVar("T")

PAGE: Final = 500  # rows that one statement reads of a long table


class Reader:
    """Any thread may ask, any number at a time.

    There is one connection for all of them, and one place that uses it: `_ask`. It holds a lock from the statement to its
    last row, so no cursor is open when it returns, and nobody can step through rows that another thread's statement has
    replaced. (Two threads on one connection get each other's rows: CPython 3.12 and 3.13 keep a statement for both.)
    Long tables are walked a page at a time, so that nothing is held but the page, and other threads get their turn."""

    _may_have_orphans = True  # False: there is surely none, and each flow that is opened asks

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.__connection = connection
        self.__turn = threading.Lock()

    def _ask(self, sql: str, *values: object) -> list[Row]:
        """All rows of one statement. Raises JournalError."""
        try:
            with self.__turn:
                return self.__connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise JournalError(f"the journal cannot be read: {error}", advice(error)) from error

    def _ask_each(self, name: str, values: Sequence[object], *before: object) -> Iterator[Row]:
        """The rows of a statement with a list, for all of these values."""
        for part in parts(values):
            yield from self._ask(of_many(name, len(part)), *before, *part)

    def _close_reader(self) -> None:
        with self.__turn:
            self.__connection.close()

    # ---- asking

    async def look(self, read: Callable[[JournalView], T]) -> T:
        return read(self)  # type: ignore[arg-type]  # its heirs add `held` and `close`

    # ---- of itself

    def _meta(self, name: str) -> object:
        rows = self._ask(SQL["meta"], name)
        return rows[0][0] if rows else None

    @property
    def owner(self) -> str:
        return str(self._meta("owner"))

    @property
    def about(self) -> Mapping[str, str]:
        return dict(json.loads(str(self._meta("about") or "{}")))

    @property
    def watch_until(self) -> float:
        try:
            return float(str(self._meta("watch_until") or 0))
        except ValueError:
            raise damaged("a time in it is none") from None

    @property
    def unknown_flows_checked(self) -> bool:
        return self._meta("unknown_flows_checked") is not None

    # ---- flows

    def flow(self, name: str) -> FlowFacts | None:
        return self.flows_named([name]).get(name)

    def flows_named(self, names: Sequence[str]) -> Mapping[str, FlowFacts]:
        return {row[0]: flow_facts(row) for row in self._ask_each("flows_named", names)}

    def flows(self) -> Iterator[FlowFacts]:
        for page in self._flow_pages():
            yield from page

    def flows_and_ends(self) -> Iterator[tuple[FlowFacts, EndFacts | None]]:
        for page in self._flow_pages():
            ends = self.ends([facts.flow_id for facts in page if facts.flow_id is not None])
            for facts in page:
                yield facts, ends.get(facts.flow_id or "")

    def _flow_pages(self) -> Iterator[list[FlowFacts]]:
        last = 0
        while page := self._ask(SQL["flows_after"], last, PAGE):
            last = page[-1][-1]
            yield [flow_facts(row[:-1]) for row in page]

    def count_flows(self) -> int:
        return int(self._ask(SQL["count_flows"])[0][0])

    def name_of(self, flow_id: str) -> str | None:
        rows = self._ask(SQL["flow_name_of"], flow_id)
        return str(rows[0][0]) if rows else None

    def some_flow_ids(self, count: int) -> Sequence[str]:
        rows = [*self._ask(SQL["first_flow_ids"], count), *self._ask(SQL["last_flow_ids"], count)]
        return list(dict.fromkeys(str(row[0]) for row in rows))

    def was_released(self, flow_id: str) -> bool:
        return bool(self._ask(SQL["released"], flow_id))

    def orphans(self, flow: str | None = None) -> Sequence[tuple[str, str]]:
        if not self._may_have_orphans:
            return []
        rows = self._ask(SQL["orphans"]) if flow is None else self._ask(SQL["orphans_of"], flow)
        return [(row[0], row[1]) for row in rows]

    # ---- inputs

    def inputs(self, flow: str, keys: Sequence[bytes]) -> Mapping[bytes, InputFacts]:
        return {row[0]: input_facts(row) for row in self._ask_each("inputs", keys, flow)}

    def input_rows(self, flow: str) -> Iterator[InputFacts]:
        last: object = -math.inf  # comes before every key, also before one that damage has made a number or a text
        more = True
        while more:
            page = self._ask(SQL["inputs_after"], flow, last, PAGE)
            yield from map(input_facts, page)
            more = len(page) == PAGE
            last = page[-1][0] if page else last

    def count_inputs(self, flow: str) -> int:
        return self.counts([flow]).get(flow, 0)

    def counts(self, flows: Sequence[str]) -> Mapping[str, int]:
        return {row[0]: row[1] for row in self._ask_each("count_inputs", flows)}

    def tallies(self, flows: Sequence[str]) -> Mapping[str, Mapping[InputState, tuple[int, int]]]:
        found: dict[str, dict[InputState, tuple[int, int]]] = {}
        for name, state, count, size in self._ask_each("tallies", flows):
            found.setdefault(name, {})[InputState(state)] = (count, size)
        return found

    # ---- ends and outputs

    def end(self, flow_id: str) -> EndFacts | None:
        return self.ends([flow_id]).get(flow_id)

    def ends(self, flow_ids: Sequence[str]) -> Mapping[str, EndFacts]:
        return {row[0]: end_facts(row) for row in self._ask_each("ends", flow_ids)}

    def bad_ends(self) -> Mapping[str, EndFacts]:
        found: dict[str, EndFacts] = {}
        last = ""
        while page := self._ask(SQL["ends_not_completed"], last, PAGE):
            last = page[-1][0]
            found |= {end.flow_id: end for end in map(end_facts, page) if step(end.state) is Step.FETCH_APART}
        return found

    def attempts(self, flows: Sequence[str]) -> Mapping[str, Sequence[AttemptFacts]]:
        found: dict[str, list[AttemptFacts]] = {}
        for facts in map(attempt_facts, self._ask_each("attempts", flows)):
            found.setdefault(facts.flow, []).append(facts)
        return found

    def count_starts(self) -> int:
        return int(self._ask(SQL["count_starts"])[0][0])

    def outputs(self, flow_id: str, after: str = "", limit: int = 500) -> Sequence[OutputFacts]:
        return [output_facts(row) for row in self._ask(SQL["outputs_after"], flow_id, after, limit)]

    def outputs_of(self, flow_id: str, keys: Sequence[bytes]) -> Sequence[OutputFacts]:
        return [output_facts(row) for row in self._ask_each("outputs_of", keys, flow_id)]

    def output_tallies(self, flow_ids: Sequence[str]) -> Mapping[str, Mapping[OutputState, tuple[int, int]]]:
        found: dict[str, dict[OutputState, tuple[int, int]]] = {}
        for flow_id, state, count, size in self._ask_each("output_tallies", flow_ids):
            found.setdefault(flow_id, {})[OutputState(state)] = (count, size)
        return found

    def output_at(self, path: str) -> OutputFacts | None:
        rows = self._ask(SQL["output_at"], path_digest(path))
        return output_facts(rows[0]) if rows else None

    def collected(self) -> Iterator[FileStat]:
        last = "", ""
        while page := self._ask(SQL["collected_after"], *last, PAGE):
            last = page[-1][3], page[-1][4]
            yield from (FileStat(*row[:3]) for row in page)

    # ---- runs

    def at_work(self) -> Mapping[str, str]:
        return {}  # nobody shares it

    def flow_times(self, flows: Sequence[str]) -> Mapping[str, FlowTimes]:
        return {row[0]: FlowTimes(*row[1:]) for row in self._ask_each("flow_times", flows)}

    def runs(self) -> Sequence[tuple[float, Mapping[str, JSON]]]:
        return [(row[0], json.loads(row[1])) for row in self._ask(SQL["runs"])]


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
        left = self._left
        if left is None:
            return found
        never_left = Counter(name for name, key in self._ask_each("inputs_in_flight", flows) if key not in left)
        return {name: count - never_left[name] for name, count in found.items()}

    def close(self) -> None:
        self._close_reader()
