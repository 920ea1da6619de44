"""Collecting: started flows are waited for, and each that has ended is handed to `fetching`.

In: the journal's started flows, the manifest for their names, a `Folder`. Out: the report, the lists of results, and what
`fetching` brings. Called by the public API. No more than a window of flows is held, however many there are.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain, islice, takewhile
from typing import Final, TypeVar

import anyio
from anyio.abc import TaskGroup

from ..core.collecting import CREATED_POLLS, UNDER_WAY, CollectWishes, Step, cannot_write, poll_delay_s, stands_still, step
from ..core.errors import JournalError, Reason, Stop
from ..core.facts import EndFacts, OutputFacts, OutputState, PutEnd, Remote
from ..core.lifecycle import FlowState
from ..core.model import JSON, Flow, Input, Problem
from ..core.output_names import Places, values_of
from ..core.remote import Listing, RemoteFlow
from ..core.report import EndCounts, OutputCounts
from ..core.retry import Call, Fault, Kind, Reply, Verdict
from .context import Context, drain, of_group, of_journal
from .fetching import Fetching, Watched
from .ports import Folder

WINDOW: Final = 500  # flows that are waited for at a time; the others are not held
LIST_FROM: Final = 64  # from so many waiting flows on, one list is asked for instead of each flow,
LIST_PAYS: Final = 20  # as long as it is not so many times longer than what is waited for

T = TypeVar("T")


async def collect(context: Context, folder: Folder, options: CollectWishes) -> None:
    """Bring what there is, and wait for what there will be; the outcome is in `context.report`."""
    report = context.report
    report.outputs, report.ends = OutputCounts(), EndCounts()
    began = context.clock.steady()
    collector = _Collector(context, folder, options, report.outputs, report.ends)
    try:
        await collector.run()
    except Stop as stop:
        if report.stop is None:
            report.stop = stop
            context.emit_stop(stop)
    except BaseExceptionGroup as group:
        of_group(context, group)
    except JournalError as error:
        of_journal(context, error)
    finally:
        collector.close()
    report.elapsed_s += context.clock.steady() - began


class _Collector:
    def __init__(
        self, context: Context, folder: Folder, options: CollectWishes, outputs: OutputCounts, ends: EndCounts
    ) -> None:
        self._context = context
        self._folder = folder
        self._options = options
        self._outputs = outputs
        self._ends = ends
        self._names = Places()
        self._manifest_thread = ThreadPoolExecutor(1, "names")
        self._fetching = Fetching(context, folder, options, outputs, ends, self._names, self._manifest_thread)
        self._gone: list[str] = []  # started flows that the manifest no longer has
        self._list_pays = True
        self._started = 0
        self._ended = 0
        self._late = 0  # still running when the waiting was over

    def close(self) -> None:
        self._manifest_thread.shutdown(wait=False, cancel_futures=True)

    async def run(self) -> None:
        if not await self._batch(self._survey):
            return  # names are given once: better none than others than were meant
        async with anyio.create_task_group() as outer:
            watcher = asyncio.ensure_future(drain(self._context, outer.cancel_scope))
            try:
                async with anyio.create_task_group() as group:
                    with contextlib.suppress(Stop):  # said in the report; what is under way comes to its end
                        await self._loop(group)
            finally:
                watcher.cancel()
        await self._context.journal.record()
        try:
            await asyncio.to_thread(self._folder.write_results, self._results(), self._is_ours)
        except OSError as error:
            raise cannot_write(error) from error
        if self._late and self._context.report.stop is None:
            message = f"the waiting is over, and {self._late} flow(s) still run"
            self._context.report.stop = Stop(Reason.DEADLINE, message, "collect again later")
            self._context.emit_stop(self._context.report.stop)

    async def _batch(self, function: Callable[..., T], *values: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._manifest_thread, function, *values)

    # ---- which flows

    def _survey(self) -> bool:
        """Walk the manifest once: which places its inputs ask for, and what was started; False, with what is wrong said,
        where it cannot tell all of its flows. In the thread."""
        context, options = self._context, self._context.options
        counts = context.report.flows
        started = {f.name for f in context.journal.flows() if f.state is FlowState.STARTED}
        total = wrong = 0
        for item in context.manifest.flows():
            if context.stop is not None:
                raise context.stop
            if isinstance(item, Problem):
                context.problem(None, item)
                # One file that makes no flow hides none that was started; a folder or a table out of reach may.
                wrong += not (item.kind == "source" and item.input)
                continue
            total += options.only(item.name)
            self._started += item.name in started and options.only(item.name)
            started.discard(item.name)
            if not self._options.name.uses("asset_id"):
                for index, source in enumerate(item.inputs()):
                    if isinstance(source, Input):
                        self._names.add(self._options.name.place(values_of(item.name, source, index, "")))
        self._outputs.shared_names = self._names.freeze()
        self._gone = sorted(name for name in started if options.only(name))
        self._started += len(self._gone)
        counts.total, counts.started = total + len(self._gone), self._started
        counts.pending = max(0, counts.total - counts.started - counts.failed)
        self._ends.running = self._started
        for problem in () if wrong else options.missed():
            context.report.add(problem)
            wrong += 1
        return not wrong

    def _feed(self) -> Iterator[Watched]:
        """The started flows, in the manifest's order; in the thread."""
        only = self._context.options.only
        return self._watched((name, flow) for name, flow in self._named() if flow is None or only(name))

    def _named(self) -> Iterator[tuple[str, Flow | None]]:
        """The manifest's flows by name, then those that it no longer has."""
        there = ((flow.name, flow) for flow in self._context.manifest.flows() if not isinstance(flow, Problem))
        return chain(there, ((name, None) for name in self._gone))

    def _watched(self, flows: Iterator[tuple[str, Flow | None]]) -> Iterator[Watched]:
        """The started ones among these flows; the journal is asked for many of them at once."""
        journal = self._context.journal
        while some := list(islice(flows, WINDOW)):
            rows = journal.flows_named([name for name, _ in some])
            ends = journal.ends([facts.flow_id for facts in rows.values() if facts.flow_id is not None])
            for name, flow in some:
                facts = rows.get(name)
                if facts is not None and facts.state is FlowState.STARTED and facts.flow_id is not None:
                    yield Watched(facts, facts.flow_id, flow, ends.get(facts.flow_id))

    # ---- waiting

    async def _loop(self, group: TaskGroup) -> None:
        context, feed = self._context, self._feed()
        waiting: dict[str, Watched] = {}
        more, quiet = True, 0
        until = None if self._options.wait_s is None else context.clock.steady() + self._options.wait_s
        self._fetching.until = until
        while True:
            while more and len(waiting) < WINDOW:
                found = await self._batch(lambda: list(islice(feed, WINDOW)))
                more = len(found) == WINDOW
                for watched in found:
                    if watched.end is not None and watched.end.listed and step(watched.end.state) is Step.FETCH:
                        await self._begin(group, watched)  # of the others, the service may have completed one since
                    else:
                        waiting[watched.flow_id] = watched
            if not waiting:
                return
            ended, moved = await self._poll(waiting)
            for watched in ended:
                await self._begin(group, watched)
            quiet = 0 if moved else quiet + 1
            left = None if until is None else until - context.clock.steady()
            if waiting and left is not None and left <= 0:
                for watched in waiting.values():
                    if not self._stands_still(watched, over=True):
                        self._late += 1
                waiting.clear()
            elif waiting and not (more and ended):
                delay_s = poll_delay_s(quiet, context.rng)
                await context.sleep(delay_s if left is None else min(delay_s, left))

    async def _poll(self, waiting: dict[str, Watched]) -> tuple[list[Watched], bool]:
        """Ask for the states once. Those at their end, and whether anything has moved; both are taken out of `waiting`."""
        ended: list[Watched] = []
        moved = False
        for flow_id, found in (await self._shown(waiting)).items():
            watched = waiting[flow_id]
            if isinstance(found, Verdict) and not watched.listed:
                del waiting[flow_id]
                self._unknown(watched, found)
                continue
            if isinstance(found, Verdict):  # how it ended is known
                ended.append(waiting.pop(flow_id))
                continue
            if (found.state, found.progress) != (watched.state, watched.progress):
                moved, watched.since = True, self._context.clock.steady()
            watched.state, watched.progress, watched.finished = found.state, found.progress, found.finished
            watched.template, watched.reason = found.template, found.reason
            watched.created = watched.created + 1 if found.state == "created" else 0
            if step(found.state) is not Step.WAIT or (watched.listed and found.state not in UNDER_WAY):
                ended.append(waiting.pop(flow_id))
            elif self._stands_still(watched):
                del waiting[flow_id]
            elif watched.created >= CREATED_POLLS:
                del waiting[flow_id]
                self._no_end()
                message = f"the journal says that it was started, and the service that the flow {flow_id} is `created`"
                self._fetching.problem(watched, "unsettled", message, "look at it on the service; --redo NAME builds it anew")
        self._progress(len(ended) + sum(watched.progress for watched in waiting.values()))
        return ended, moved

    def _progress(self, under_way: float) -> None:
        self._ends.progress = round(min(1.0, (self._ended + under_way) / max(1, self._started)), 3)

    async def _shown(self, waiting: Mapping[str, Watched]) -> dict[str, RemoteFlow | Verdict]:
        """Every flow as the service shows it: by one list where many are waited for, else each for itself."""
        context = self._context
        shown: dict[str, RemoteFlow | Verdict] = {}
        if len(waiting) >= LIST_FROM and self._list_pays:
            seen = 0

            def take(flow: RemoteFlow) -> None:
                nonlocal seen
                seen += 1
                if flow.flow_id in waiting:
                    shown[flow.flow_id] = flow

            async def listing() -> Listing | Reply | Fault:
                nonlocal seen
                seen = 0
                return await context.client.flows(take)

            listed = await context.ask(Call.FLOWS, listing)  # what it does not show is asked for below
            self._list_pays = not isinstance(listed, Verdict) and seen <= LIST_PAYS * len(waiting)
        # Why a flow failed may stand in its own reply only.
        mute = {flow_id for flow_id, flow in shown.items() if isinstance(flow, RemoteFlow) and _is_mute(flow)}
        rest = [flow_id for flow_id in waiting if flow_id not in shown or flow_id in mute]
        asked = (context.ask(Call.FLOW, partial(context.client.flow, flow_id)) for flow_id in rest)
        for flow_id, found in zip(rest, await asyncio.gather(*asked, return_exceptions=True), strict=True):
            if isinstance(found, BaseException):
                raise found
            if flow_id not in mute or not isinstance(found, Verdict):
                shown[flow_id] = found
        return shown

    def _no_end(self) -> None:
        self._ends.running -= 1
        self._ends.unknown += 1

    def _stands_still(self, watched: Watched, over: bool = False) -> bool:
        """Whether a flow in a state that nobody knows is waited for no longer; it is said then."""
        unchanged_s = self._context.clock.steady() - watched.since
        if not stands_still(watched.state, watched.finished, watched.progress, unchanged_s, over):
            return False
        self._no_end()
        end = EndFacts(watched.flow_id, watched.name, watched.state)
        self._context.journal.post(PutEnd(end if watched.end is None else replace(watched.end, state=watched.state)))
        why = "its end time is set" if watched.finished else "its progress is 1"
        message = f"the flow {watched.flow_id} has been “{watched.state}” for {unchanged_s:.0f} s, and {why}"
        hint = "batcher does not know this state: look at the flow on the service, then collect again"
        self._fetching.problem(watched, "unsettled", message, hint)
        return True

    def _unknown(self, watched: Watched, verdict: Verdict) -> None:
        self._no_end()
        if verdict.kind is Kind.GONE:
            message = f"the service does not know the flow {watched.flow_id}, which was started"
            self._fetching.problem(watched, "unsettled", message, "another account's key? was it deleted there?", 404)
        else:
            self._fetching.problem_from_verdict(watched, verdict, "its state cannot be asked for")

    # ---- one flow

    async def _begin(self, group: TaskGroup, watched: Watched) -> None:
        await self._fetching.flows.acquire()
        if self._context.stop is not None:
            self._fetching.flows.release()
            raise self._context.stop
        self._ended += 1
        self._progress(0.0)
        group.start_soon(self._flow, watched)

    async def _flow(self, watched: Watched) -> None:
        try:
            await self._fetching.bring(watched)
        except Stop as stop:
            if self._context.stop is None:  # the disk takes no more
                self._context.halt(stop)
        except OSError as error:
            self._context.halt(cannot_write(error))
        finally:
            self._fetching.flows.release()

    def _results(self) -> Iterator[Mapping[str, JSON]]:
        """A row per output of every started flow, and one for a flow that has none; in the journal's order. Then one for
        each input that an output is missing of."""
        lacks = False
        for facts, end in self._context.journal.flows_and_ends():
            if facts.state is not FlowState.STARTED or facts.flow_id is None:
                continue
            lacks = lacks or (end is not None and end.missing > 0)
            bare = True
            for page in self._fetching.pages(facts.flow_id):
                for row in page:
                    bare = False
                    yield self._row(facts.name, facts.flow_id, end, self._state_of(row, end), row)
            if bare and (end is None or not end.missing):
                yield self._row(facts.name, facts.flow_id, end, end.state if end is not None else "running")
        if lacks:
            yield from self._missing()

    def _missing(self) -> Iterator[Mapping[str, JSON]]:
        for watched in self._watched(takewhile(lambda _: self._context.stop is None, self._named())):
            if self._context.stop is not None:
                return  # the run is to end, and a large manifest takes its time
            end, flow_id = watched.end, watched.flow_id
            if end is not None and end.missing:
                for source in self._fetching.lacking(end, watched.flow):
                    row = OutputFacts(flow_id, "", source=source)
                    yield self._row(watched.facts.name, flow_id, end, "missing", row)

    def _row(
        self, name: str, flow_id: str, end: EndFacts | None, state: str, output: OutputFacts | None = None
    ) -> dict[str, JSON]:
        row = output or OutputFacts(flow_id, "")
        there = state in ("collected", "partial")
        return {"source": row.source, "flow": name, "flow_id": flow_id, "asset_id": row.asset_id,
                "output": row.path if there else "", "state": state, "bytes": row.stat.size if there else 0,
                "sha256": row.sha256.hex() if there and row.sha256 else "",
                "batch": self._context.manifest.batch, "reason": end.reason if end is not None else ""}  # fmt: skip

    def _is_ours(self, row: Mapping[str, JSON]) -> bool:
        """Whether a row of the lists that are there is of this manifest, and thus written anew: its flow is, or was, known
        to the journal. One that names no file may also be of a flow that was paid for again before it had ended."""
        flow_id, journal = str(row.get("flow_id")), self._context.journal
        facts = journal.flow(str(row.get("flow")))
        if facts is None:
            return journal.end(flow_id) is not None
        same = row.get("batch") == self._context.manifest.batch and not row.get("output")
        return facts.flow_id == flow_id or same or journal.end(flow_id) is not None

    def _state_of(self, row: OutputFacts, end: EndFacts | None) -> str:
        if row.state is OutputState.COLLECTED and self._folder.look(row.path) is not None:
            return "partial" if end is not None and step(end.state) is Step.FETCH_APART else "collected"
        if row.state is OutputState.REFUSED:
            return "refused"
        return "gone" if end is not None and end.remote is Remote.DELETED else "missing"


def _is_mute(flow: RemoteFlow) -> bool:
    """Whether it failed or was aborted, and does not say why."""
    return not flow.reason and step(flow.state) is Step.FETCH_APART
