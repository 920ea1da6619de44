"""What each output is called: its place in the folder, from the manifest's inputs in their order.

In: rows of outputs, the manifest. Out: rows with places, and which inputs have no output. Made once for each collecting;
called by `bringing` and `results`. The manifest is walked in a thread of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice, repeat
from typing import Final, TypeAlias

from ...core.collecting import Lack, Step, step
from ...core.facts import EndFacts, FileStat, OutputFacts, OutputState, PutOutput, Record
from ...core.model import Flow, Input
from ...core.output_names import FAILED, NamePattern, Places, place_of, values_of
from ...core.tags import InputKeys
from ...journal.ports import Journal, JournalView
from .watched import Watched

STEP: Final = 500  # inputs looked up in one query

Sourced: TypeAlias = tuple[bytes, int, Input, list[OutputFacts]]  # an input: its key, its number from 0, its outputs


class Naming:
    """`batch`: the batch's name. `places`: what its inputs ask for, `pattern`: how. `thread`: where the manifest is walked."""

    def __init__(
        self, journal: Journal, places: Places, pattern: NamePattern, thread: ThreadPoolExecutor, batch: str
    ) -> None:
        self._journal = journal
        self._places = places
        self._pattern = pattern
        self._thread = thread
        self._batch = batch

    async def give(self, watched: Watched, end: EndFacts) -> Lack:
        """Give every output its place, from the manifest's inputs in their order; then those from nobody knows where.
        Returns what they leave open."""
        apart = f"{FAILED}/" if step(end.state) is Step.FETCH_APART else ""
        lack = Lack(watched.facts.inputs)
        await self._journal.record()  # all that the list showed are rows now
        batches = self._given(watched, apart, lack)
        while (records := await asyncio.get_running_loop().run_in_executor(self._thread, next, batches, None)) is not None:
            if records:
                await self._journal.record(*records)
        return lack

    def _given(self, watched: Watched, apart: str, lack: Lack) -> Iterator[list[Record]]:
        """In the thread. Each batch is to be recorded before the next is asked for."""
        pattern, places = self._pattern, self._places
        for part in self._sourced(watched.flow_id, watched.name, watched.flow):
            records: list[Record] = []
            for key, index, item, rows in part:
                for number, row in enumerate(rows, 1):
                    if _unplaced(row, apart):
                        values = values_of(watched.name, item, index, row.asset_id)
                        place = apart + place_of(pattern, places, values, key, number)
                        records.append(_placed(row, place, item.label))
            for label, tagged in self._lacking(watched.name, part):
                lack.add(label, tagged)
            yield records
        for page in pages(self._journal, watched.flow_id):
            records = []
            lack.outputs += len(page)
            lack.unsourced += sum(not row.source for row in page)
            for row in page:
                if _unplaced(row, apart):
                    values = values_of(watched.name, None, 0, row.asset_id)
                    place = apart + place_of(pattern, places, values, None, 1)
                    records.append(_placed(row, place, row.source))
            yield records

    def lacking(self, end: EndFacts, flow: Flow | None) -> Iterator[str]:
        """The labels of the inputs of a completed flow that have no output; "" where that cannot be told. In a thread."""
        named = 0
        parts = self._sourced(end.flow_id, end.flow, flow)
        if sum(tagged for part in parts for _, tagged in self._lacking(end.flow, part)) <= end.missing:
            for part in self._sourced(end.flow_id, end.flow, flow):
                for label, tagged in self._lacking(end.flow, part):
                    if tagged:
                        named += 1
                        yield label
        yield from repeat("", end.missing - named)

    def _sourced(self, flow_id: str, name: str, flow: Flow | None) -> Iterator[list[Sourced]]:
        """The flow's inputs in their order, some at a time, each with the outputs that were made from it."""
        keys = InputKeys(self._batch, name)
        items = enumerate(flow.inputs()) if flow is not None else iter(())
        while part := list(islice(items, STEP)):
            known = [(keys.next(item), index, item) for index, item in part if isinstance(item, Input)]
            rows: dict[bytes | None, list[OutputFacts]] = {}
            for row in self._journal.outputs_of(flow_id, [key for key, _, _ in known]):
                rows.setdefault(row.key, []).append(row)
            yield [(key, index, item, rows.get(key, [])) for key, index, item in known]

    def _lacking(self, name: str, part: Sequence[Sourced]) -> Iterator[tuple[str, bool]]:
        """Of these inputs those that were sent and have no output: (label, whether an output would tell of it)."""
        bare = [(key, item) for key, _, item, rows in part if not rows]
        sent = self._journal.inputs(name, [key for key, _ in bare])
        for key, item in bare:
            if key in sent and sent[key].may_be_there:
                yield item.label, sent[key].tagged


def pages(journal: JournalView, flow_id: str) -> Iterator[Sequence[OutputFacts]]:
    """The rows of the flow's outputs, some at a time."""
    after = ""
    while page := journal.outputs(flow_id, after):
        after = page[-1].asset_id
        yield page


def unlisted(row: OutputFacts) -> OutputFacts:
    """As if it had never been collected."""
    state = OutputState.LISTED if row.state is OutputState.COLLECTED else row.state
    return replace(row, state=state, path="", sha256=None, stat=FileStat(0))


def _unplaced(row: OutputFacts, apart: str) -> bool:
    """Whether it has no place yet, or one among what failed flows left, and its flow was completed later."""
    return not row.place or (not apart and row.place.startswith(f"{FAILED}/"))


def _placed(row: OutputFacts, place: str, source: str) -> PutOutput:
    return PutOutput(replace(unlisted(row) if row.place else row, source=source, place=place))
