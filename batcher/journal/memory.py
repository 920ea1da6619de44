"""A journal that forgets: the same port without a disk.

In: `Record`s. Out: the rows, as long as the process lives. For tests, for users of the Python API who keep no state, and for
whoever asks for a journal where nothing was run yet. Plain dictionaries, not SQLite's `:memory:`, which took
11 µs for a record where they take 2, and 85 µs to read a flow where they take 10. And a second engine, so that what
`test_conformance.py` asks for is what the port says, and not what SQLite does.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from ..core.collecting import Step, step
from ..core.facts import (
    RUNS_KEPT,
    AddOrphan,
    AttemptFacts,
    ClearOrphan,
    EndFacts,
    FileStat,
    FlowFacts,
    ForgetInputs,
    InputFacts,
    OutputFacts,
    OutputState,
    PutAttempt,
    PutEnd,
    PutFlow,
    PutInput,
    PutOutput,
    PutRun,
    PutTimes,
    Record,
    ReleaseFlow,
    Remote,
    SeeOutput,
    UnknownFlowsChecked,
    Watch,
)
from ..core.lifecycle import InputState
from ..core.measuring import FlowTimes
from ..core.model import JSON
from ..core.output_names import path_digest
from ..host.system import uptime
from .ports import JournalView

T = TypeVar("T")


class MemoryJournal:
    """A journal that forgets: for tests and for users of the Python API who keep no state. One for each run that may be cut
    off: it settles nothing of what was in flight then. Same behaviour otherwise. Any thread may read, one writes; whoever
    looks at more than one row holds the lock."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self.about: Mapping[str, str] = {}
        self.held: bool | None = None
        self._began = time.time() - uptime()
        self.owner = secrets.token_hex(8)
        self.watch_until = 0.0
        self.unknown_flows_checked = False
        self._flows: dict[str, FlowFacts] = {}
        self._inputs: dict[str, dict[bytes, InputFacts]] = {}
        self._orphans: dict[str, str] = {}
        self._times: dict[str, FlowTimes] = {}
        self._released: set[str] = set()
        self._runs: dict[float, PutRun] = {}
        self._ends: dict[str, EndFacts] = {}
        self._attempts: dict[str, dict[str, AttemptFacts]] = {}
        self._outputs: dict[str, dict[str, OutputFacts]] = {}

    def now(self) -> float:
        return self._began + uptime()

    async def look(self, read: Callable[[JournalView], T]) -> T:
        return read(self)

    async def take_turn(self, what: str) -> bool:
        return True

    async def give_turn(self, what: str) -> None:
        pass

    async def record(self, *records: Record) -> None:
        self.post(*records)

    def post(self, *records: Record) -> None:
        with self._turn:
            self._put(records)

    def _put(self, records: Sequence[Record]) -> None:
        for record in records:
            match record:
                case PutFlow(facts):
                    self._flows[facts.name] = facts
                case PutInput(flow, row):
                    self._inputs.setdefault(flow, {})[row.key] = row
                case ForgetInputs(flow):
                    self._inputs.pop(flow, None)
                case AddOrphan(flow_id, flow):
                    self._orphans[flow_id] = flow
                case ClearOrphan(flow_id):
                    self._orphans.pop(flow_id, None)
                case UnknownFlowsChecked():
                    self.unknown_flows_checked = True
                case ReleaseFlow(flow_id):
                    self._released.add(flow_id)
                case Watch(until):
                    self.watch_until = max(self.watch_until, until)
                case PutTimes(flow, times):
                    if flow in self._flows:
                        self._times[flow] = times.after(self._times.get(flow))
                case PutRun(began):
                    self._runs[began] = record
                    last = max(self._runs)
                    kept = [at for at, run in self._runs.items() if run.requests or at == last]
                    self._runs = {at: self._runs[at] for at in sorted(kept)[-RUNS_KEPT:]}
                case PutEnd(end):
                    self._ends[end.flow_id] = end
                case PutAttempt(attempt):
                    self._attempts.setdefault(attempt.flow, {})[attempt.flow_id] = attempt
                case SeeOutput(output):
                    seen = self._outputs.setdefault(output.flow_id, {}).setdefault(output.asset_id, output)
                    if seen.state is not OutputState.COLLECTED:
                        self._outputs[output.flow_id][output.asset_id] = replace(seen, state=output.state)
                case PutOutput(output):
                    self._outputs.setdefault(output.flow_id, {})[output.asset_id] = output

    def mark_sent(self, key: bytes) -> None:
        pass

    def flow(self, name: str) -> FlowFacts | None:
        return self._flows.get(name)

    def flows_named(self, names: Sequence[str]) -> Mapping[str, FlowFacts]:
        with self._turn:
            return {name: self._flows[name] for name in names if name in self._flows}

    def was_released(self, flow_id: str) -> bool:
        return flow_id in self._released

    def name_of(self, flow_id: str) -> str | None:
        return next((facts.name for facts in self.flows() if facts.flow_id == flow_id), None)

    def some_flow_ids(self, count: int) -> Sequence[str]:
        with self._turn:
            gone = {end.flow_id for end in self._ends.values() if end.remote is not Remote.KEPT}
            known = [f.flow_id for f in self._flows.values() if f.flow_id is not None and f.flow_id not in gone]
        return list(dict.fromkeys(known[:count] + known[-count:]))

    def flows(self) -> Iterator[FlowFacts]:
        with self._turn:
            return iter(list(self._flows.values()))

    def starting(self) -> Sequence[FlowFacts]:
        return sorted((facts for facts in self.flows() if facts.is_starting), key=lambda facts: facts.name)

    def flows_and_ends(self) -> Iterator[tuple[FlowFacts, EndFacts | None]]:
        return ((facts, None if facts.flow_id is None else self.end(facts.flow_id)) for facts in self.flows())

    def inputs(self, flow: str, keys: Sequence[bytes]) -> Mapping[bytes, InputFacts]:
        with self._turn:
            rows = self._inputs.get(flow, {})
            return {key: rows[key] for key in keys if key in rows}

    def input_rows(self, flow: str) -> Iterator[InputFacts]:
        with self._turn:
            return iter([row for _, row in sorted(self._inputs.get(flow, {}).items())])

    def orphans(self, flow: str | None = None) -> Sequence[tuple[str, str]]:
        with self._turn:
            return sorted((flow_id, name) for flow_id, name in self._orphans.items() if flow is None or name == flow)

    def end(self, flow_id: str) -> EndFacts | None:
        return self._ends.get(flow_id)

    def ends(self, flow_ids: Sequence[str]) -> Mapping[str, EndFacts]:
        with self._turn:
            return {flow_id: self._ends[flow_id] for flow_id in flow_ids if flow_id in self._ends}

    def bad_ends(self) -> Mapping[str, EndFacts]:
        with self._turn:
            return {flow_id: end for flow_id, end in self._ends.items() if step(end.state) is Step.FETCH_APART}

    def attempts(self, flows: Sequence[str]) -> Mapping[str, Sequence[AttemptFacts]]:
        with self._turn:
            return {
                flow: sorted(self._attempts[flow].values(), key=lambda facts: (facts.generation, facts.flow_id))
                for flow in flows
                if flow in self._attempts
            }

    def count_starts(self) -> int:
        with self._turn:
            started = sum(facts.is_started for facts in self._flows.values())
            return started + sum(map(len, self._attempts.values()))

    def outputs(self, flow_id: str, after: str = "", limit: int = 500) -> Sequence[OutputFacts]:
        with self._turn:
            rows = self._outputs.get(flow_id, {})
            return [rows[asset_id] for asset_id in sorted(rows) if asset_id > after][:limit]

    def outputs_of(self, flow_id: str, keys: Sequence[bytes]) -> Sequence[OutputFacts]:
        with self._turn:
            return [row for _, row in sorted(self._outputs.get(flow_id, {}).items()) if row.key in keys]

    def output_tallies(self, flow_ids: Sequence[str]) -> Mapping[str, Mapping[OutputState, tuple[int, int]]]:
        found: dict[str, dict[OutputState, tuple[int, int]]] = {}
        with self._turn:
            for flow_id in flow_ids:
                for row in self._outputs.get(flow_id, {}).values():
                    of_flow = found.setdefault(flow_id, {})
                    count, size = of_flow.get(row.state, (0, 0))
                    of_flow[row.state] = (count + 1, size + row.stat.size)
        return found

    def output_at(self, path: str) -> OutputFacts | None:
        with self._turn:
            rows = (row for rows in self._outputs.values() for row in rows.values())
            return next((row for row in rows if row.path and path_digest(row.path) == path_digest(path)), None)

    def collected(self) -> Iterator[FileStat]:
        with self._turn:
            rows = [row for rows in self._outputs.values() for row in rows.values()]
        return (row.stat for row in rows if row.state is OutputState.COLLECTED)

    def count_flows(self) -> int:
        return len(self._flows)

    def count_inputs(self, flow: str) -> int:
        return sum(row.may_be_there for row in self.input_rows(flow))

    def counts(self, flows: Sequence[str]) -> Mapping[str, int]:
        found = {flow: self.count_inputs(flow) for flow in flows}
        return {flow: count for flow, count in found.items() if count}

    def tallies(self, flows: Sequence[str]) -> Mapping[str, Mapping[InputState, tuple[int, int]]]:
        found: dict[str, dict[InputState, tuple[int, int]]] = {}
        with self._turn:
            for name in flows:
                for row in self._inputs.get(name, {}).values():
                    of_flow = found.setdefault(name, {})
                    count, size = of_flow.get(row.state, (0, 0))
                    of_flow[row.state] = (count + 1, size + row.stat.size)
        return found

    def at_work(self) -> Mapping[str, str]:
        return {}  # nobody shares it

    def flow_times(self, flows: Sequence[str]) -> Mapping[str, FlowTimes]:
        with self._turn:
            return {name: self._times[name] for name in flows if name in self._times}

    def runs(self) -> Sequence[tuple[float, Mapping[str, JSON]]]:
        with self._turn:
            return [(at, self._runs[at].document) for at in sorted(self._runs, reverse=True)]

    def close(self) -> None:
        pass
