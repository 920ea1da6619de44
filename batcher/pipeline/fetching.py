"""One flow that has ended: its outputs are listed, named, brought to the folder and checked, and then, if asked, deleted.

In: `Watched` flows at their end. Out: files, rows in the journal, counts and problems in the report. Called by `collect`.
A row is durable before its file is renamed to its path, and every row is held against the disk before it counts: whatever
was killed in between, the next run finds what is there and downloads only what is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

import anyio

from ..core.collecting import (
    FAILED,
    CollectWishes,
    Landed,
    Names,
    Spoiled,
    Step,
    Unplaceable,
    candidates,
    cannot_write,
    part_path,
    place_of,
    spot,
    step,
    values_of,
)
from ..core.errors import Stop
from ..core.facts import (
    EndFacts,
    FlowFacts,
    OutputFacts,
    OutputState,
    Print,
    PutEnd,
    PutOutput,
    Record,
    Remote,
    SeeOutput,
)
from ..core.model import Flow, Input, Problem, ProblemKind
from ..core.remote import Arrived, RemoteOutput
from ..core.report import EndCounts, OutputCounts
from ..core.retry import Call, Fault, Kind, Reply, Verdict, backoff_s
from ..core.tags import InputKeys, Multiset, read_input_tag
from .context import Context
from .ports import Folder, Sink

STEP: Final = 500  # inputs looked up in one query
DOWNLOAD_BYTES: Final = 2 << 20  # what one download holds at most: pieces read, decoded and being written
RELIST_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)  # while a flow at its end still shows outputs as being processed


@dataclass(slots=True, eq=False)
class Watched:
    """One started flow. `flow` is None where the manifest no longer has it."""

    facts: FlowFacts
    flow_id: str
    flow: Flow | None
    end: EndFacts | None
    state: str = ""
    progress: float = 0.0
    reason: str = ""
    created: int = 0  # polls in a row that showed it as not started
    missing: set[str] = field(default_factory=set)  # asset ids of outputs that are not on disk

    @property
    def name(self) -> str:
        return self.facts.name


class Fetching:
    """What all flows of one collecting share. `thread` is where the manifest is walked."""

    def __init__(
        self, context: Context, folder: Folder, wishes: CollectWishes, outputs: OutputCounts, ends: EndCounts, names: Names,
        thread: ThreadPoolExecutor,
    ) -> None:  # fmt: skip
        self._context = context
        self._folder = folder
        self._wishes = wishes
        self._outputs = outputs
        self._ends = ends
        self._names = names
        self._thread = thread
        self._slots = asyncio.Semaphore(context.limits.concurrency)
        self._claimed: set[bytes] = set()  # spots that are being landed on

    async def bring(self, watched: Watched) -> None:
        """List, name, fetch; then, where that was asked for, delete."""
        listed = watched.end is not None and watched.end.listed
        end = EndFacts(watched.flow_id, watched.name, watched.state)
        if watched.end is not None and listed:
            end = watched.end
        elif step(end.state) is Step.FETCH_APART:
            end = replace(end, reason=watched.reason)
        self._count(end)
        apart = step(end.state) is Step.FETCH_APART
        if apart:
            what = "failed" if end.state == "failed" else "was aborted"
            why = f": {end.reason}" if end.reason else ""
            message = f"the flow {end.flow_id} {what} on the service{why}; what it left is in {FAILED}/"
            self.problem(watched, "failed", message, f"--redo {watched.name} pays for it again")
        if not listed:
            if not await self._list(watched, end):
                return
            await self._name(watched, end)
            end = replace(end, listed=True)
            await self._context.journal.record(PutEnd(end))
        whole = await self._fetch(watched, end)
        if whole and not apart and self._wishes.delete_remote and end.remote is not Remote.DELETED:
            await self._delete(watched, end)

    def _count(self, end: EndFacts) -> None:
        self._ends.running -= 1
        self._ends.completed += end.state == "completed"
        self._ends.failed += end.state == "failed"
        self._ends.aborted += end.state == "aborted"
        self._ends.deleted += end.remote is Remote.DELETED

    async def _list(self, watched: Watched, end: EndFacts) -> bool:
        """Rows for all that the flow lists; False, with a problem said, where that cannot be had."""
        context = self._context
        count = busy = 0

        def take(output: RemoteOutput) -> None:
            nonlocal count, busy
            count += 1
            busy += output.status in ("processing", "pending", "created")
            tag = read_input_tag(output.additional)
            state = OutputState.REFUSED if output.status in ("error", "failed") else OutputState.LISTED
            context.journal.post(SeeOutput(OutputFacts(watched.flow_id, output.asset_id, tag and tag[0], state)))

        async def listing() -> Reply | Fault | None:
            nonlocal count, busy
            count = busy = 0
            return await context.client.outputs(watched.flow_id, take)

        for number, pause_s in enumerate(RELIST_S):
            verdict = await context.ask(Call.OUTPUTS, listing)
            if verdict is not None:
                self.of_verdict(watched, verdict, "its outputs cannot be listed")
                return False
            # A list may lag behind the state; one that is shorter than the inputs is asked for once more.
            short = end.state == "completed" and count < watched.facts.inputs
            if not busy and not (short and number == 0):
                break
            await context.sleep(pause_s)
        if not count and end.state == "completed":
            message = f"the flow {end.flow_id} is completed, and lists no outputs"
            self.problem(watched, "unsettled", message, "collect again; look at it on the service")
            return False
        return True

    async def _name(self, watched: Watched, end: EndFacts) -> None:
        """Give every output its place, from the manifest's inputs in their order; then those from nobody knows where."""
        apart = f"{FAILED}/" if step(end.state) is Step.FETCH_APART else ""
        await self._context.journal.record()  # all that the list showed are rows now
        batches = self._named(watched, apart)
        while records := await asyncio.get_running_loop().run_in_executor(self._thread, next, batches, None):
            await self._context.journal.record(*records)

    def _named(self, watched: Watched, apart: str) -> Iterator[list[Record]]:
        """In the thread. Each batch is to be recorded before the next is asked for; none is empty."""
        journal, pattern, names = self._context.journal, self._wishes.name, self._names
        keys = InputKeys(self._context.manifest.batch, watched.name)
        items = enumerate(watched.flow.inputs()) if watched.flow is not None else iter(())
        while part := list(islice(items, STEP)):
            known = [(keys.next(item), index, item) for index, item in part if isinstance(item, Input)]
            rows: dict[bytes | None, list[OutputFacts]] = {}
            for row in journal.outputs_of(watched.flow_id, [key for key, _, _ in known]):
                rows.setdefault(row.key, []).append(row)
            records: list[Record] = []
            for key, index, item in known:
                for number, row in enumerate(rows.get(key, ()), 1):
                    if not row.place:
                        values = values_of(watched.name, item, index, row.asset_id)
                        place = apart + place_of(pattern, names, values, key, number)
                        records.append(PutOutput(replace(row, source=item.label, place=place)))
            if records:
                yield records
        for page in self.pages(watched.flow_id):
            records = []
            for row in page:
                if not row.place:
                    values = values_of(watched.name, None, 0, row.asset_id)
                    place = apart + place_of(pattern, names, values, None, 1)
                    records.append(PutOutput(replace(row, place=place)))
            if records:
                yield records

    def pages(self, flow_id: str) -> Iterator[Sequence[OutputFacts]]:
        after = ""
        while page := self._context.journal.outputs(flow_id, after):
            after = page[-1].asset_id
            yield page

    # ---- outputs

    async def _fetch(self, watched: Watched, end: EndFacts) -> bool:
        """Hold every row against the disk, and bring what is missing. Whether all is there now."""
        counts, missing, context = self._outputs, watched.missing, self._context
        gone = refused = 0
        async with anyio.create_task_group() as group:
            for page in self.pages(watched.flow_id):
                counts.total += len(page)
                counts.without_source += sum(not row.source for row in page)
                for row, found in await self._held_against_disk(page, context.wishes.checksum):
                    if found is not None:
                        counts.collected += 1
                        counts.bytes += found.size
                        if found != row.print:
                            context.journal.post(PutOutput(replace(row, print=found)))
                    elif row.state is OutputState.REFUSED:
                        refused += 1
                        self._fail(watched, row, "refused", "the service shows it in error", f"--redo {watched.name}")
                    elif end.remote is Remote.DELETED:
                        gone += 1
                    elif context.stop is None:
                        missing.add(row.asset_id)
                        await self._slots.acquire()
                        group.start_soon(self._download, watched, row)
        if gone:
            message = f"{gone} output(s) are no longer in the folder, and the flow was deleted from the service after they were"
            self.problem(watched, "changed", message, "put them back where they are wanted")
        if refused:  # the next run asks for the list again
            await context.journal.record(PutEnd(replace(end, listed=False)))
        return not gone and not refused and not missing and context.stop is None

    async def _held_against_disk(self, page: Sequence[OutputFacts], read: bool) -> list[tuple[OutputFacts, Print | None]]:
        """Each row with what is there of it; nothing is where the disk cannot be asked, and the run is to end."""
        try:
            return await asyncio.to_thread(lambda: [(row, self._present(row, read)) for row in page])
        except OSError as error:
            self._context.halt(cannot_write(error))
            return []

    def _present(self, row: OutputFacts, read: bool) -> Print | None:
        """The outside of the output's file where it is what was verified; unread where its outside has not changed."""
        if row.state is not OutputState.COLLECTED:
            return None
        found = self._folder.look(row.path)
        if found is not None and ((found == row.print and not read) or self._is(row.path, found, row)):
            return found
        part = part_path(row.place, row.flow_id, row.asset_id)
        found = self._folder.look(part)  # a process died between the record and the rename
        if found is not None and self._is(part, found, row) and not self._folder.taken(row.path):
            self._folder.rename(part, row.path)
            return found
        return None

    def _is(self, path: str, found: Print, row: OutputFacts) -> bool:
        return found.size == row.print.size and self._folder.digest(path) == row.sha256

    async def _download(self, watched: Watched, row: OutputFacts) -> None:
        context = self._context
        try:
            await context.budget.take(DOWNLOAD_BYTES)
            try:
                landed = await self._landed(watched, row)
                if landed is not None:
                    await self._land(watched, row, landed)
            finally:
                context.budget.give(DOWNLOAD_BYTES)
        except Stop as stop:
            if context.stop is None:
                context.halt(stop)
        except Unplaceable as error:
            self._fail(watched, row, "unsettled", str(error), "choose another --name, or move what is in the way")
        except OSError as error:
            context.halt(cannot_write(error))
        finally:
            self._slots.release()

    async def _landed(self, watched: Watched, row: OutputFacts) -> Landed | None:
        """Download it, as often as it takes; None, with a problem said, where it cannot be had."""
        context = self._context
        attempt = 1
        while True:
            result = await self._attempt(row)
            match result:
                case Landed():
                    return result
                case Spoiled() if attempt <= context.limits.retries:
                    context.report.requests.retried += 1
                    await context.sleep(backoff_s(attempt, context.chance))
                    attempt += 1
                case Spoiled():
                    self._fail(watched, row, "unsettled", f"{result.message}, {attempt} times", "collect again later")
                    return None
                case Verdict():
                    kind, hint = _kind_of(result)
                    self._fail(watched, row, kind, result.message, hint, result.status)
                    return None

    async def _attempt(self, row: OutputFacts) -> Landed | Spoiled | Verdict:
        """One download to its end; a bad one leaves nothing behind."""
        context = self._context
        part = part_path(row.place, row.flow_id, row.asset_id)
        sinks: list[Sink] = []

        async def request() -> Landed | Spoiled | Reply | Fault:
            while sinks:
                sinks.pop().drop()
            sinks.append(self._folder.open(part))
            found = await context.client.output(row.flow_id, row.asset_id, sinks[0])
            return await sinks[0].close(found.declared) if isinstance(found, Arrived) else found

        try:
            result: Landed | Spoiled | Verdict = await context.ask(Call.OUTPUT, request)
            if isinstance(result, Landed):
                sinks.clear()
            return result
        finally:
            while sinks:
                sinks.pop().drop()

    async def _land(self, watched: Watched, row: OutputFacts, landed: Landed) -> None:
        """Record it, then rename it to the first path that is free, or its own."""
        ending = self._wishes.name.ends_in(landed.mime)
        for path in candidates(row.place, ending, row.flow_id, row.asset_id):
            if spot(path) in self._claimed:
                continue
            self._claimed.add(spot(path))
            try:
                former = await asyncio.to_thread(self._in_the_way, watched, row, path, landed)
                if former is not None:
                    done = replace(row, state=OutputState.COLLECTED, path=path, sha256=landed.sha256, print=landed.print)
                    # Durable before the rename: whichever of the two a kill leaves undone, the next run can tell.
                    await self._context.journal.record(*former, PutOutput(done))
                    part = part_path(row.place, row.flow_id, row.asset_id)
                    await asyncio.to_thread(self._folder.rename, part, path)
                    self._arrived(watched, done)
                    return
            finally:
                self._claimed.discard(spot(path))
        self._fail(watched, row, "unsettled", f"{row.place} is taken by something else", "collect into another folder")

    def _in_the_way(self, watched: Watched, row: OutputFacts, path: str, landed: Landed) -> list[Record] | None:
        """None where something that must stay is at this path; else the records that make way. In a thread."""
        other = self._context.journal.output_at(path)
        found = self._folder.look(path)
        if other is None or (other.flow_id, other.asset_id) == (row.flow_id, row.asset_id):
            same = found is not None and found.size == landed.print.size and self._folder.digest(path) == landed.sha256
            return [] if same or not self._folder.taken(path) else None
        end = self._context.journal.end(other.flow_id)
        if end is None or end.flow != watched.name or end.flow_id == row.flow_id:
            return None
        # The flow was paid for again: its new output takes the old one's place, unless somebody has changed that.
        own = found is not None and self._is(path, found, other)
        replaced = PutOutput(replace(other, state=OutputState.LISTED, path="", sha256=None, print=Print(0)))
        return [replaced] if own or not self._folder.taken(path) else None

    def _arrived(self, watched: Watched, row: OutputFacts) -> None:
        counts = self._outputs
        watched.missing.discard(row.asset_id)
        self._context.tell("output_collected", watched.name, path=row.path, bytes=row.print.size)
        counts.collected += 1
        counts.collected_now += 1
        counts.bytes += row.print.size
        counts.bytes_now += row.print.size

    # ---- the service's copy

    async def _delete(self, watched: Watched, end: EndFacts) -> None:
        """Delete the flow from the service, once its list is what was collected, and every byte of it is on the disk."""
        context = self._context
        if watched.facts.given:
            message = f"the flow {end.flow_id} was given by its id, and batcher does not delete it"
            self.problem(watched, "changed", message, "")
            return
        listed, rows = Multiset(), Multiset()

        async def listing() -> Reply | Fault | None:
            listed.count = listed.value = 0
            return await context.client.outputs(end.flow_id, lambda output: listed.add(output.asset_id.encode()))

        if end.remote is Remote.KEPT:
            verdict = await context.ask(Call.OUTPUTS, listing)
            if verdict is not None:
                self.of_verdict(watched, verdict, "its outputs cannot be listed before it is deleted")
                return
            paths: list[str] = []
            for page in self.pages(end.flow_id):
                found = await self._held_against_disk(page, True)
                if self._context.stop is not None:
                    return
                for row, outside in found:
                    rows.add(row.asset_id.encode())
                    paths.append(row.path)
                    if outside is None:
                        message = f"{row.path} is not what was collected, so the flow {end.flow_id} was not deleted"
                        self.problem(watched, "unsettled", message, "collect again")
                        return
                await asyncio.to_thread(self._folder.sync, paths)
                paths.clear()
            if listed != rows:
                message = f"the flow {end.flow_id} lists {listed.count} output(s), not the {rows.count} that were collected"
                await context.journal.record(PutEnd(replace(end, listed=False)))
                self.problem(watched, "unsettled", f"{message}; it was not deleted", "collect again")
                return
            if rows.count < watched.facts.inputs:
                message = f"the flow {end.flow_id} lists {rows.count} output(s) for {watched.facts.inputs} inputs"
                await context.journal.record(PutEnd(replace(end, listed=False)))
                self.problem(watched, "changed", f"{message}; it was not deleted", "delete it yourself if that is right")
                return
            end = replace(end, remote=Remote.DELETING)
            await context.journal.record(PutEnd(end))
        deleted = await context.ask(Call.DELETE, lambda: context.client.delete(end.flow_id))
        if deleted.kind not in (Kind.DONE, Kind.GONE):
            self.of_verdict(watched, deleted, "it was not deleted")
            return
        if deleted.status == 404:  # after a reply that was lost, it is gone; a gateway in trouble says the same
            shown = await context.ask(Call.FLOW, lambda: context.client.flow(end.flow_id))
            if not isinstance(shown, Verdict):
                message = f"the service shows the flow {end.flow_id}, and does not find it to delete it"
                self.problem(watched, "unsettled", message, "collect again", 404)
                return
            if shown.kind is not Kind.GONE:
                self.of_verdict(watched, shown, "whether it was deleted cannot be asked for")
                return
        await context.journal.record(PutEnd(replace(end, remote=Remote.DELETED)))
        self._ends.deleted += 1

    # ---- what is said

    def problem(self, watched: Watched, kind: ProblemKind, message: str, hint: str, status: int | None = None) -> None:
        place = watched.flow.place if watched.flow is not None else None
        self._context.problem(None, Problem(kind, message, hint, place, watched.name, status=status))

    def of_verdict(self, watched: Watched, verdict: Verdict, what: str) -> None:
        kind, hint = _kind_of(verdict)
        self.problem(watched, kind, f"{what}: {verdict.message}", hint, verdict.status)

    def _fail(
        self, watched: Watched, row: OutputFacts, kind: ProblemKind, message: str, hint: str, status: int | None = None
    ) -> None:
        self._outputs.failed += 1
        place = watched.flow.place if watched.flow is not None else None
        message = f"the output {row.asset_id} could not be collected: {message}"
        self._context.problem(None, Problem(kind, message, hint, place, watched.name, row.source or None, status))


def _kind_of(verdict: Verdict) -> tuple[ProblemKind, str]:
    match verdict.kind:
        case Kind.REFUSED:
            return "refused", "the service refuses it; look at the flow there"
        case Kind.THROTTLED | Kind.UNAVAILABLE:
            return "unavailable", "collect again later"
        case _:
            return "unsettled", "look at the flow on the service, then collect again"
