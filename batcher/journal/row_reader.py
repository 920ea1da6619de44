"""What both engines read in the same way: rows by a statement's name, made into the facts that `JournalView` asks for.

In: rows. Out: facts. Each engine's `Reader` says how it asks; the statements have the same names and columns in both.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Final

from ..core.collecting import Step, step
from ..core.facts import AttemptFacts, EndFacts, FileStat, FlowFacts, InputFacts, OutputFacts, OutputState
from ..core.lifecycle import InputState
from ..core.measuring import FlowTimes
from ..core.model import JSON
from ..core.output_names import path_digest
from .rows import Row, attempt_facts, damaged, end_facts, flow_facts, input_facts, output_facts

PAGE: Final = 500  # rows that one statement reads of a long table


class RowReader(ABC):
    """Any thread may ask, any number at a time: `_ask` sees to that. Long tables are walked a page at a time, so that nothing
    is held but the page, and other threads get their turn."""

    _before_every_key: ClassVar[object] = b""  # an input's key is never empty

    @abstractmethod
    def _ask(self, name: str, *values: object) -> list[Row]:
        """All rows of the statement with this name. Raises JournalError."""

    @abstractmethod
    def _ask_each(self, name: str, values: Sequence[str] | Sequence[bytes], *before: object) -> Iterator[Row]:
        """The rows of a statement with a list, for all of these values; `before` stand before the list."""

    # ---- of itself

    def _meta(self, name: str) -> object:
        rows = self._ask("meta", name)
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
                yield facts, ends.get(facts.flow_id) if facts.flow_id is not None else None

    def _flow_pages(self) -> Iterator[list[FlowFacts]]:
        last = 0
        while page := self._ask("flows_after", last, PAGE):
            last = page[-1][-1]
            yield [flow_facts(row[:-1]) for row in page]

    def starting(self) -> Sequence[FlowFacts]:
        return [flow_facts(row) for row in self._ask("starting_flows")]

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
        return {row[0]: input_facts(row) for row in self._ask_each("inputs", keys, flow)}

    def input_rows(self, flow: str) -> Iterator[InputFacts]:
        last, more = self._before_every_key, True
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

    def outputs_of(self, flow_id: str, keys: Sequence[bytes]) -> Sequence[OutputFacts]:
        return [output_facts(row) for row in self._ask_each("outputs_of", keys, flow_id)]

    def output_tallies(self, flow_ids: Sequence[str]) -> Mapping[str, Mapping[OutputState, tuple[int, int]]]:
        found: dict[str, dict[OutputState, tuple[int, int]]] = {}
        for flow_id, state, count, size in self._ask_each("output_tallies", flow_ids):
            found.setdefault(flow_id, {})[OutputState(state)] = (count, size)
        return found

    def output_at(self, path: str) -> OutputFacts | None:
        rows = self._ask("output_at", path_digest(path))
        return output_facts(rows[0]) if rows else None

    def collected(self) -> Iterator[FileStat]:
        last = "", ""
        while page := self._ask("collected_after", *last, PAGE):
            last = page[-1][3], page[-1][4]
            yield from (FileStat(*row[:3]) for row in page)

    # ---- runs

    def flow_times(self, flows: Sequence[str]) -> Mapping[str, FlowTimes]:
        return {row[0]: FlowTimes(*row[1:]) for row in self._ask_each("flow_times", flows)}

    def runs(self) -> Sequence[tuple[float, Mapping[str, JSON]]]:
        return [(row[0], json.loads(row[1])) for row in self._ask("runs")]
