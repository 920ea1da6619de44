"""Which flows are collected: those that were started, in the manifest's order, and then those that it no longer has.

In: the manifest, the journal. Out: `Watched` flows, and which places their inputs ask for. Made once for each collecting.
The manifest is walked in a thread of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import Final

from ...core.facts import FlowFacts
from ...core.model import Flow, Input, Manifest, Problem
from ...core.output_names import NamePattern, Places, values_of
from ...core.planning import Options
from ...journal.ports import JournalView
from ..reporter import Reporter
from ..shutdown import Shutdown
from .watched import CollectReporter, Watched

STEP: Final = 500  # flows whose rows are asked for at once


class StartedFlows:
    """`places`: filled while the manifest is walked. `pattern`: how outputs are called. `gone`: names of started flows that the
    manifest no longer has, once it was walked. `begun`: ids of flows whose start is not settled, and that the service shows as
    started; they are collected like the others."""

    def __init__(
        self, manifest: Manifest, journal: JournalView, options: Options, places: Places, pattern: NamePattern,
        reporter: Reporter, collected: CollectReporter, shutdown: Shutdown, thread: ThreadPoolExecutor,
    ) -> None:  # fmt: skip
        self._manifest = manifest
        self._journal = journal
        self._options = options
        self._places = places
        self._pattern = pattern
        self._reporter = reporter
        self._collected = collected
        self._shutdown = shutdown
        self._thread = thread
        self._all: Iterator[Watched] | None = None  # walked from where it was left
        self.gone: list[str] = []
        self.begun: Set[str] = frozenset()

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def is_started(self, facts: FlowFacts) -> bool:
        return facts.is_started or (facts.is_starting and facts.flow_id in self.begun)

    async def survey(self) -> bool:
        """Walk the manifest once: which places its inputs ask for, and what was started; False, with what is wrong said,
        where it cannot tell all of its flows. Raises Stop."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._survey)

    async def next(self, count: int) -> list[Watched]:
        """So many more of them; fewer at the end. Once `survey` has told which are gone."""
        all_of_them = self._all = self._all or self._walk()
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: list(islice(all_of_them, count)))

    def _survey(self) -> bool:
        """In the thread."""
        only = self._options.only
        report = self._reporter.report
        started = {facts.name for facts in self._journal.flows() if self.is_started(facts)}
        total = count = wrong = 0
        for item in self._manifest.flows():
            self._shutdown.check()
            if isinstance(item, Problem):
                self._reporter.problem(item)
                # One file that makes no flow hides none that was started; a folder or a table out of reach may.
                wrong += not (item.kind == "source" and item.input)
                continue
            total += only(item.name)
            count += item.name in started and only(item.name)
            started.discard(item.name)
            self._add_places(item)
        self._collected.outputs.shared_names = self._places.freeze()
        self.gone = sorted(name for name in started if only(name))
        count += len(self.gone)
        report.flows.total, report.flows.started = total + len(self.gone), count
        report.flows.pending = max(0, report.flows.total - report.flows.started - report.flows.failed)
        self._collected.started(count)
        for problem in () if wrong else self._options.missed():
            report.add(problem)
            wrong += 1
        return not wrong

    def _add_places(self, flow: Flow) -> None:
        if not self._pattern.uses("asset_id"):
            for index, source in enumerate(flow.inputs()):
                if isinstance(source, Input):
                    self._places.add(self._pattern.place(values_of(flow.name, source, index, "")))

    def _walk(self) -> Iterator[Watched]:
        """In the thread."""
        only = self._options.only
        return self.watched((name, flow) for name, flow in self.named() if flow is None or only(name))

    def named(self) -> Iterator[tuple[str, Flow | None]]:
        """The manifest's flows by name, then those that it no longer has."""
        there = ((flow.name, flow) for flow in self._manifest.flows() if not isinstance(flow, Problem))
        return chain(there, ((name, None) for name in self.gone))

    def watched(self, flows: Iterator[tuple[str, Flow | None]]) -> Iterator[Watched]:
        """The started ones among these flows; the journal is asked for many of them at once."""
        while some := list(islice(flows, STEP)):
            rows = self._journal.flows_named([name for name, _ in some])
            ends = self._journal.ends([facts.flow_id for facts in rows.values() if facts.flow_id is not None])
            for name, flow in some:
                facts = rows.get(name)
                if facts is not None and self.is_started(facts) and facts.flow_id is not None:
                    yield Watched(facts, facts.flow_id, flow, ends.get(facts.flow_id))
