"""Reading the database: all that `JournalView` asks for.

In: an address, or a line that another module has opened. Out: facts. `Reader` is what the held journal reads with, too;
`PostgresReader` only looks, for `plan`, `status` and `report`, and writes nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import psycopg

from ...core.collecting import Step, step
from ...core.errors import JournalError
from ...core.facts import AttemptFacts, EndFacts, FileStat, FlowFacts, InputFacts, OutputFacts, OutputState
from ...core.lifecycle import InputState
from ...core.measuring import FlowTimes
from ...core.model import JSON
from ...core.output_names import path_digest
from ..ports import JournalView
from ..queries import parts
from ..rows import attempt_facts, damaged, end_facts, flow_facts, input_facts, output_facts
from .address import Address
from .line import OPEN_S, Line, Patience, told
from .schema import SCHEMA, lock_key, version_of
from .statements import ask
from .texts import original_all, stored, stored_all

T = TypeVar("T")

LOOKS: Final = 4  # at a time; they take turns at one connection, but not at what they make of the rows
PAGE: Final = 500  # rows that one statement reads of a long table
# A plan that was made once, for tables that were empty then, would be kept while they grow.
SESSION: Final = {"plan_cache_mode": "force_custom_plan"}


class Reader:
    """Any thread may ask, any number at a time: they take turns at one connection, a statement each."""

    def __init__(self, address: Address, line: Line) -> None:
        self._address = address
        self._line = line
        # Not the loop's own threads, which others need: one that asks may have to wait long.
        self._looks = ThreadPoolExecutor(LOOKS, "look")

    def _ask(self, name: str, *values: object) -> list[tuple[Any, ...]]:
        """All rows of one statement. Raises JournalError, and Stop where the database is away for too long."""
        values = stored_all(values)
        try:
            return [original_all(row) for row in self._line.do(lambda connection: ask(connection, name, *values))]
        except psycopg.Error as error:
            raise told(self._address, error, "read") from error

    def _ask_each(self, name: str, values: Sequence[str], *before: object) -> Iterator[tuple[Any, ...]]:
        """The rows of a statement with an array, for all of these texts."""
        for part in parts(values):
            yield from self._ask(name, *before, [stored(value) for value in part])

    async def look(self, read: Callable[[JournalView], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._looks, read, self)  # type: ignore[arg-type]  # its heirs add `held` and `close`

    # ---- of itself

    def _meta(self, name: str) -> str | None:
        rows = self._ask("meta", name)
        return str(rows[0][0]) if rows else None

    @property
    def owner(self) -> str:
        return str(self._meta("owner"))

    @property
    def about(self) -> Mapping[str, str]:
        return dict(json.loads(self._meta("about") or "{}"))

    @property
    def held(self) -> bool | None:
        key = lock_key(self._address.schema, "journal")
        return bool(self._ask("held", key, key)[0][0])

    @property
    def watch_until(self) -> float:
        try:
            return float(self._meta("watch_until") or 0)
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
                yield facts, ends.get(facts.flow_id) if facts.flow_id is not None else None

    def _flow_pages(self) -> Iterator[list[FlowFacts]]:
        last = 0
        while page := self._ask("flows_after", last, PAGE):
            last = page[-1][-1]
            yield [flow_facts(row[:-1]) for row in page]

    def count_flows(self) -> int:
        return int(self._ask("count_flows")[0][0])

    def name_of(self, flow_id: str) -> str | None:
        rows = self._ask("flow_name_of", flow_id)
        return str(rows[0][0]) if rows else None

    def some_flow_ids(self, count: int) -> Sequence[str]:
        rows = [*self._ask("first_flow_ids", count), *self._ask("last_flow_ids", count)]
        return list(dict.fromkeys(str(row[0]) for row in rows))

    def was_released(self, flow_id: str) -> bool:
        return bool(self._ask("released", flow_id))

    def orphans(self, flow: str | None = None) -> Sequence[tuple[str, str]]:
        rows = self._ask("orphans") if flow is None else self._ask("orphans_of", flow)
        return [(row[0], row[1]) for row in rows]

    # ---- inputs

    def inputs(self, flow: str, keys: Sequence[bytes]) -> Mapping[bytes, InputFacts]:
        return {row[0]: input_facts(row) for part in parts(keys) for row in self._ask("inputs", flow, list(part))}

    def input_rows(self, flow: str) -> Iterator[InputFacts]:
        last, more = b"", True
        while more:
            page = self._ask("inputs_after", flow, last, PAGE)
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
        while page := self._ask("ends_not_completed", last, PAGE):
            last = page[-1][0]
            found |= {end.flow_id: end for end in map(end_facts, page) if step(end.state) is Step.FETCH_APART}
        return found

    def attempts(self, flows: Sequence[str]) -> Mapping[str, Sequence[AttemptFacts]]:
        found: dict[str, list[AttemptFacts]] = {}
        for facts in map(attempt_facts, self._ask_each("attempts", flows)):
            found.setdefault(facts.flow, []).append(facts)
        return found

    def count_starts(self) -> int:
        return int(self._ask("count_starts")[0][0])

    def outputs(self, flow_id: str, after: str = "", limit: int = 500) -> Sequence[OutputFacts]:
        return [output_facts(row) for row in self._ask("outputs_after", flow_id, after, limit)]

    def output_tallies(self, flow_ids: Sequence[str]) -> Mapping[str, Mapping[OutputState, tuple[int, int]]]:
        found: dict[str, dict[OutputState, tuple[int, int]]] = {}
        for flow_id, state, count, size in self._ask_each("output_tallies", flow_ids):
            found.setdefault(flow_id, {})[OutputState(state)] = (count, size)
        return found

    def outputs_of(self, flow_id: str, keys: Sequence[bytes]) -> Sequence[OutputFacts]:
        return [output_facts(row) for part in parts(keys) for row in self._ask("outputs_of", flow_id, list(part))]

    def output_at(self, path: str) -> OutputFacts | None:
        rows = self._ask("output_at", path_digest(path))
        return output_facts(rows[0]) if rows else None

    def collected(self) -> Iterator[FileStat]:
        last = "", ""
        while page := self._ask("collected_after", *last, PAGE):
            last = page[-1][3], page[-1][4]
            yield from (FileStat(*row[:3]) for row in page)

    # ---- runs

    def at_work(self) -> Mapping[str, str]:
        return dict(self._ask("at_work"))

    def flow_times(self, flows: Sequence[str]) -> Mapping[str, FlowTimes]:
        return {row[0]: FlowTimes(*row[1:]) for row in self._ask_each("flow_times", flows)}

    def runs(self) -> Sequence[tuple[float, Mapping[str, JSON]]]:
        return [(row[0], json.loads(row[1])) for row in self._ask("runs")]


class NoJournal(JournalError):
    """There is none at that address."""


class PostgresReader(Reader):
    """A journal that is only looked at. `address` has its schema. Raises UsageError where the database refuses,
    Stop(UNAVAILABLE) where it is away, NoJournal where it has no such schema, JournalError where it is of another version."""

    def __init__(self, address: Address) -> None:
        line = Line(address, Patience(OPEN_S), session=SESSION)
        super().__init__(address, line)
        try:
            line.open()
            version = line.do(lambda connection: version_of(connection, address))
        except psycopg.Error as error:
            line.close()
            raise told(address, error, "read") from error
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
