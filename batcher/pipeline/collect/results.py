"""results.csv and results.jsonl: which output came from which source.

In: the rows of all started flows. Out: both lists, each replaced as a whole. Made once for each collecting; called by
`collector`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from itertools import takewhile

from ...core.collecting import UNDER_WAY, Step, step
from ...core.facts import EndFacts, OutputFacts, OutputState, Remote
from ...core.model import JSON, Manifest
from ...journal.ports import Journal
from ..ports import Folder
from ..shutdown import Shutdown
from .naming import Naming, pages
from .started_flows import StartedFlows


class Results:
    def __init__(
        self, manifest: Manifest, journal: Journal, folder: Folder, naming: Naming, started: StartedFlows,
        shutdown: Shutdown,
    ) -> None:  # fmt: skip
        self._manifest = manifest
        self._journal = journal
        self._folder = folder
        self._naming = naming
        self._started = started
        self._shutdown = shutdown

    async def write(self) -> None:
        """From what is durable. Raises OSError."""
        await self._journal.record()
        await asyncio.to_thread(self._folder.write_results, self._rows(), self._is_ours)

    def _rows(self) -> Iterator[Mapping[str, JSON]]:
        """A row per output of every started flow, and one for a flow that has none; in the journal's order. Then one for
        each input that an output is missing of."""
        lacks = False
        for facts, end in self._journal.flows_and_ends():
            if not self._started.is_started(facts) or facts.flow_id is None:
                continue
            lacks = lacks or (end is not None and end.missing > 0)
            bare = True
            for page in pages(self._journal, facts.flow_id):
                for row in page:
                    bare = False
                    yield self._row(facts.name, facts.flow_id, end, self._state_of(row, end), row)
            if bare and (end is None or not end.missing):
                going = end is None or end.state in UNDER_WAY
                yield self._row(facts.name, facts.flow_id, end, "running" if going or end is None else end.state)
        if lacks:
            yield from self._missing()

    def _missing(self) -> Iterator[Mapping[str, JSON]]:
        # Until the run is to end: a large manifest takes its time.
        flows = takewhile(lambda _: self._shutdown.stop is None, self._started.named())
        for watched in self._started.watched(flows):
            end, flow_id = watched.end, watched.flow_id
            if self._shutdown.stop is not None:
                return
            if end is not None and end.missing:
                for source in self._naming.lacking(end, watched.flow):
                    row = OutputFacts(flow_id, "", source=source)
                    yield self._row(watched.name, flow_id, end, "missing", row)

    def _row(
        self, name: str, flow_id: str, end: EndFacts | None, state: str, output: OutputFacts | None = None
    ) -> dict[str, JSON]:
        row = output or OutputFacts(flow_id, "")
        there = state in ("collected", "partial")
        return {"source": row.source, "flow": name, "flow_id": flow_id, "asset_id": row.asset_id,
                "output": row.path if there else "", "state": state, "bytes": row.stat.size if there else 0,
                "sha256": row.sha256.hex() if there and row.sha256 else "",
                "batch": self._manifest.batch, "reason": end.reason if end is not None else ""}  # fmt: skip

    def _is_ours(self, row: Mapping[str, JSON]) -> bool:
        """Whether a row of the lists that are there is of this manifest, and thus written anew: its flow is, or was, known
        to the journal. One that names no file may also be of a flow that was paid for again before it had ended."""
        flow_id, journal = str(row.get("flow_id")), self._journal
        facts = journal.flow(str(row.get("flow")))
        if facts is None:
            return journal.end(flow_id) is not None
        same = row.get("batch") == self._manifest.batch and not row.get("output")
        return facts.flow_id == flow_id or same or journal.end(flow_id) is not None

    def _state_of(self, row: OutputFacts, end: EndFacts | None) -> str:
        if row.state is OutputState.COLLECTED and self._folder.look(row.path) is not None:
            return "partial" if end is not None and step(end.state) is Step.FETCH_APART else "collected"
        if row.state is OutputState.REFUSED:
            return "refused"
        return "gone" if end is not None and end.remote is Remote.DELETED else "missing"
