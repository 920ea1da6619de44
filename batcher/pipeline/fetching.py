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
from itertools import islice, repeat
from typing import Final, TypeAlias

import anyio

from ..core.collecting import CollectWishes, End, Ids, Lack, Step, Unplaceable, cannot_write, end_of, step
from ..core.errors import Stop
from ..core.facts import (
    EndFacts,
    FileStat,
    FlowFacts,
    OutputFacts,
    OutputState,
    PutEnd,
    PutOutput,
    Record,
    Remote,
    SeeOutput,
)
from ..core.model import Flow, Input, Problem, ProblemKind
from ..core.output_check import OUTPUT_TYPES, Landed, Spoiled, content_of, not_made_by
from ..core.output_names import FAILED, Places, candidates, part_path, path_digest, place_of, values_of
from ..core.remote import Arrived, Listing, RemoteOutput
from ..core.report import EndCounts, OutputCounts
from ..core.retry import Call, Fault, Kind, Reply, Verdict, backoff_s
from ..core.tags import InputKeys, read_input_tag
from .context import Context
from .ports import Folder, Sink

FLOWS: Final = 32  # flows whose outputs are listed and brought at a time
PAUSING: Final = 500  # flows that wait for their list to grow, and let others list theirs meanwhile
STEP: Final = 500  # inputs looked up in one query
DOWNLOAD_BYTES: Final = 2 << 20  # what one download holds at most: pieces read, decoded and being written
# While a flow at its end still shows outputs as being processed, or fewer than it has inputs: a list may lag behind.
RELIST_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)


Sourced: TypeAlias = tuple[bytes, int, Input, list[OutputFacts]]  # an input: its key, its number from 0, its outputs


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
    part: str = ""  # why the list of its outputs is not whole
    finished: bool = False  # an end time is set
    since: float = 0.0  # when (steady seconds) it was last seen to change
    template: str = ""  # as the service names it
    missing: set[str] = field(default_factory=set)  # asset ids of outputs that are not on disk

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def listed(self) -> bool:
        """Whether the journal has it as ended, and has all of its outputs."""
        return self.end is not None and self.end.listed

    def as_ended(self) -> EndFacts:
        """Its end: the journal's, unless it is to be listed anew, for it had not ended then, or was completed later."""
        old = self.end
        why = self.reason if step(self.state) is Step.FETCH_APART else ""
        if old is None:
            return EndFacts(self.flow_id, self.name, self.state, reason=why)
        completed_later = end_of(self.state) is End.COMPLETED and end_of(old.state) is not End.COMPLETED
        return old if old.listed and not completed_later else replace(old, state=self.state, listed=False, reason=why)

    @property
    def makes(self) -> str | None:
        """The template, where it is known what that makes."""
        names = (self.flow.template if self.flow is not None else None, self.template)
        return next((name for name in names if name in OUTPUT_TYPES), None)


class Fetching:
    """What all flows of one collecting share. `thread` is where the manifest is walked. Set `until` (steady seconds) to
    bound the waiting for outputs that are not listed yet."""

    def __init__(
        self, context: Context, folder: Folder, options: CollectWishes, outputs: OutputCounts, ends: EndCounts, names: Places,
        thread: ThreadPoolExecutor,
    ) -> None:  # fmt: skip
        self._context = context
        self._folder = folder
        self._options = options
        self._outputs = outputs
        self._ends = ends
        self._names = names
        self._thread = thread
        self._slots = asyncio.Semaphore(context.limits.concurrency)
        self._claimed: set[bytes] = set()  # spots that are being landed on
        self.flows = asyncio.Semaphore(FLOWS)  # whoever brings a flow holds one of these places
        self.until: float | None = None
        self._pausing = 0

    async def bring(self, watched: Watched) -> None:
        """List, name, fetch; then, where that was asked for, delete."""
        end = watched.as_ended()
        self._count(end)
        apart = step(end.state) is Step.FETCH_APART
        if apart:
            said = {"failed": "failed", "aborted": "was aborted"}.get(end.state, f"ended as “{end.state}”")
            why = f": {end.reason}" if end.reason else ""
            message = f"the flow {end.flow_id} {said} on the service{why}; what it left is in {FAILED}/"
            self.problem(watched, "failed", message, f"--redo {watched.name} pays for it again")
        if not end.listed:
            if not await self._list(watched, end):
                return
            end = self._judge(watched, end, await self._name(watched, end))
            await self._context.journal.record(PutEnd(end))
        self._outputs.missing += end.missing
        whole = await self._fetch(watched, end)
        if whole and end.listed and not apart and self._options.delete_remote and end.remote is not Remote.DELETED:
            await self._delete(watched, end)

    def _count(self, end: EndFacts) -> None:
        self._ends.running -= 1
        self._ends.completed += end_of(end.state) is End.COMPLETED
        self._ends.failed += end_of(end.state) is End.FAILED
        self._ends.aborted += end_of(end.state) is End.ABORTED
        self._ends.deleted += end.remote is Remote.DELETED

    async def _list(self, watched: Watched, end: EndFacts) -> bool:
        """Rows for all that the flow lists; False, with a problem said, where that cannot be had."""
        context = self._context
        busy, listed = 0, Ids()

        def take(output: RemoteOutput) -> None:
            nonlocal busy
            listed.add(output.asset_id)
            busy += output.status in ("processing", "pending", "created")
            tag = read_input_tag(output.additional)
            state = OutputState.REFUSED if output.status in ("error", "failed") else OutputState.LISTED
            context.journal.post(SeeOutput(OutputFacts(watched.flow_id, output.asset_id, tag and tag[0], state)))

        async def listing() -> Listing | Reply | Fault:
            nonlocal busy, listed
            busy, listed = 0, Ids()
            return await context.client.outputs(watched.flow_id, take)

        completed = end_of(end.state) is End.COMPLETED
        # Only by the collect that is the first to see its end: later ones look once, and once more.
        patient = watched.end is None or end_of(watched.end.state) is not End.COMPLETED
        for number, pause_s in enumerate((*RELIST_S, 0.0)):
            shown = await context.ask(Call.OUTPUTS, listing)
            if isinstance(shown, Verdict):
                self.problem_from_verdict(watched, shown, "its outputs cannot be listed")
                return False
            watched.part = shown.why
            if number == len(RELIST_S):
                break
            left_s = pause_s if self.until is None else self.until - context.clock.steady()
            # (One that is not whole does not become so by waiting.)
            short = completed and shown.whole and len(listed.distinct()) < max(1, watched.facts.inputs) and not end.accepted
            if not busy and not (short and (patient or number == 0) and left_s > 0):
                break
            await self._pause(pause_s if busy else min(pause_s, left_s))
        if watched.part:
            message = f"the list of the outputs of the flow {end.flow_id} is not whole: {watched.part}"
            self.problem(watched, "unsettled", message, "what it shows is collected; look at it on the service")
        return True

    async def _pause(self, seconds: float) -> None:
        """Wait for a flow's list to grow, and let others have its place meanwhile."""
        if self._pausing >= PAUSING:
            await self._context.sleep(seconds)
            return
        self._pausing += 1
        self.flows.release()
        try:
            await self._context.sleep(seconds)
        finally:
            self._pausing -= 1
            await self.flows.acquire()

    def _judge(self, watched: Watched, end: EndFacts, lack: Lack) -> EndFacts:
        """Its end, now that every output has a row and a place: listed, unless outputs are missing, or may be, since the list
        is not whole; that is said, and the next collect looks again."""
        if watched.part or end_of(end.state) is not End.COMPLETED:
            return replace(end, listed=not watched.part)
        missing = lack.missing
        accepted = bool(missing and lack.outputs and (end.accepted or self._options.accept_fewer))
        if not lack.outputs:
            message = f"the flow {end.flow_id} is completed, and lists no outputs"
            self.problem(watched, "unsettled", message, "collect again; look at it on the service")
        elif missing and not accepted:
            message = f"the flow {end.flow_id} is completed, and lists {lack.outputs:,} output(s) for {lack.inputs:,} inputs"
            hint = "collect again later; with --accept-fewer where its template makes fewer outputs than it takes inputs"
            self.problem(watched, "unsettled", f"{message}; {lack.words}", hint)
        whole = bool(lack.outputs) and (accepted or not missing)
        return replace(end, listed=whole, missing=missing, accepted=accepted)

    async def _name(self, watched: Watched, end: EndFacts) -> Lack:
        """Give every output its place, from the manifest's inputs in their order; then those from nobody knows where.
        Returns what they leave open."""
        apart = f"{FAILED}/" if step(end.state) is Step.FETCH_APART else ""
        lack = Lack(watched.facts.inputs)
        await self._context.journal.record()  # all that the list showed are rows now
        batches = self._named(watched, apart, lack)
        while (records := await asyncio.get_running_loop().run_in_executor(self._thread, next, batches, None)) is not None:
            if records:
                await self._context.journal.record(*records)
        return lack

    def _named(self, watched: Watched, apart: str, lack: Lack) -> Iterator[list[Record]]:
        """In the thread. Each batch is to be recorded before the next is asked for."""
        pattern, names = self._options.name, self._names
        for part in self.sourced(watched.flow_id, watched.name, watched.flow):
            records: list[Record] = []
            for key, index, item, rows in part:
                for number, row in enumerate(rows, 1):
                    if _unplaced(row, apart):
                        values = values_of(watched.name, item, index, row.asset_id)
                        place = apart + place_of(pattern, names, values, key, number)
                        records.append(_placed(row, place, item.label))
            for label, tagged in self._lacking(watched.name, part):
                lack.add(label, tagged)
            yield records
        for page in self.pages(watched.flow_id):
            records = []
            lack.outputs += len(page)
            lack.unsourced += sum(not row.source for row in page)
            for row in page:
                if _unplaced(row, apart):
                    values = values_of(watched.name, None, 0, row.asset_id)
                    place = apart + place_of(pattern, names, values, None, 1)
                    records.append(_placed(row, place, row.source))
            yield records

    def sourced(self, flow_id: str, name: str, flow: Flow | None) -> Iterator[list[Sourced]]:
        """The flow's inputs in their order, some at a time, each with the outputs that were made from it."""
        keys = InputKeys(self._context.manifest.batch, name)
        items = enumerate(flow.inputs()) if flow is not None else iter(())
        while part := list(islice(items, STEP)):
            known = [(keys.next(item), index, item) for index, item in part if isinstance(item, Input)]
            rows: dict[bytes | None, list[OutputFacts]] = {}
            for row in self._context.journal.outputs_of(flow_id, [key for key, _, _ in known]):
                rows.setdefault(row.key, []).append(row)
            yield [(key, index, item, rows.get(key, [])) for key, index, item in known]

    def _lacking(self, name: str, part: Sequence[Sourced]) -> Iterator[tuple[str, bool]]:
        """Of these inputs those that were sent and have no output: (label, whether an output would tell of it)."""
        bare = [(key, item) for key, _, item, rows in part if not rows]
        sent = self._context.journal.inputs(name, [key for key, _ in bare])
        for key, item in bare:
            if key in sent and sent[key].may_be_there:
                yield item.label, sent[key].tagged

    def lacking(self, end: EndFacts, flow: Flow | None) -> Iterator[str]:
        """The labels of the inputs of a completed flow that have no output; "" where that cannot be told. In a thread."""
        told = 0
        parts = self.sourced(end.flow_id, end.flow, flow)
        if sum(tagged for part in parts for _, tagged in self._lacking(end.flow, part)) <= end.missing:
            for part in self.sourced(end.flow_id, end.flow, flow):
                for label, tagged in self._lacking(end.flow, part):
                    if tagged:
                        told += 1
                        yield label
        yield from repeat("", end.missing - told)

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
                for row, found in await self._held_against_disk(page, context.options.checksum):
                    if found is not None:
                        counts.collected += 1
                        counts.bytes += found.size
                        if found != row.stat:
                            context.journal.post(PutOutput(replace(row, stat=found)))
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

    async def _held_against_disk(self, page: Sequence[OutputFacts], read: bool) -> list[tuple[OutputFacts, FileStat | None]]:
        """Each row with what is there of it; nothing is where the disk cannot be asked, and the run is to end."""
        try:
            return await asyncio.to_thread(lambda: [(row, self._present(row, read)) for row in page])
        except OSError as error:
            self._context.halt(cannot_write(error))
            return []

    def _present(self, row: OutputFacts, read: bool) -> FileStat | None:
        """The outside of the output's file where it is what was verified; unread where its outside has not changed."""
        if row.state is not OutputState.COLLECTED:
            return None
        found = self._folder.look(row.path)
        if found is not None and ((found == row.stat and not read) or self._is(row.path, found, row)):
            return found
        part = part_path(row.place, row.flow_id, row.asset_id)
        found = self._folder.look(part)  # a process died between the record and the rename
        if found is not None and self._is(part, found, row) and not self._folder.taken(row.path):
            self._folder.rename(part, row.path)
            return found
        return None

    def _is(self, path: str, found: FileStat, row: OutputFacts) -> bool:
        return found.size == row.stat.size and self._folder.digest(path) == row.sha256

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
            result = await self._attempt(watched, row)
            match result:
                case Landed():
                    return result
                case Spoiled() if attempt <= context.limits.retries:
                    context.report.requests.retried += 1
                    await context.sleep(backoff_s(attempt, context.rng))
                    attempt += 1
                case Spoiled():
                    self._fail(watched, row, "unsettled", f"{result.message}, {attempt} times", "collect again later")
                    return None
                case Verdict():
                    kind, hint = _kind_of(result)
                    self._fail(watched, row, kind, result.message, hint, result.status)
                    return None

    async def _attempt(self, watched: Watched, row: OutputFacts) -> Landed | Spoiled | Verdict:
        """One download to its end; a bad one leaves nothing behind."""
        context = self._context
        part = part_path(row.place, row.flow_id, row.asset_id)
        sinks: list[Sink] = []

        async def request() -> Landed | Spoiled | Reply | Fault:
            while sinks:
                sinks.pop().drop()
            sinks.append(self._folder.open(part))
            found = await context.client.output(row.flow_id, row.asset_id, sinks[0])
            if not isinstance(found, Arrived):
                return found
            landed = await sinks[0].close(found.declared)
            return landed if isinstance(landed, Spoiled) else not_made_by(watched.makes, landed.mime) or landed

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
        ending = self._options.name.ends_in(landed.mime)
        for path in candidates(row.place, ending, row.flow_id, row.asset_id):
            if path_digest(path) in self._claimed:
                continue
            self._claimed.add(path_digest(path))
            try:
                former = await asyncio.to_thread(self._in_the_way, watched, row, path, landed)
                if former is not None:
                    done = replace(row, state=OutputState.COLLECTED, path=path, sha256=landed.sha256, stat=landed.stat)
                    # Durable before the rename: whichever of the two a kill leaves undone, the next run can tell.
                    await self._context.journal.record(*former, PutOutput(done))
                    part = part_path(row.place, row.flow_id, row.asset_id)
                    await asyncio.to_thread(self._folder.rename, part, path)
                    self._arrived(watched, done, landed.more)
                    return
            finally:
                self._claimed.discard(path_digest(path))
        self._fail(watched, row, "unsettled", f"{row.place} is taken by something else", "collect into another folder")

    def _in_the_way(self, watched: Watched, row: OutputFacts, path: str, landed: Landed) -> list[Record] | None:
        """None where something that must stay is at this path; else the records that make way. In a thread."""
        other = self._context.journal.output_at(path)
        found = self._folder.look(path)
        if other is None or (other.flow_id, other.asset_id) == (row.flow_id, row.asset_id):
            same = found is not None and found.size == landed.stat.size and self._folder.digest(path) == landed.sha256
            return [] if same or not self._folder.taken(path) else None
        end = self._context.journal.end(other.flow_id)
        if end is None or end.flow != watched.name or end.flow_id == row.flow_id:
            return None
        # The flow was paid for again: its new output takes the old one's place, unless somebody has changed that.
        own = found is not None and self._is(path, found, other)
        replaced = PutOutput(_unlisted(other))
        return [replaced] if own or not self._folder.taken(path) else None

    def _arrived(self, watched: Watched, row: OutputFacts, more: int) -> None:
        counts = self._outputs
        watched.missing.discard(row.asset_id)
        counts.longer += more > 0
        self._context.emit("output_collected", watched.name, path=row.path, bytes=row.stat.size, bytes_after_end=more)
        counts.collected += 1
        counts.collected_now += 1
        counts.bytes += row.stat.size
        counts.bytes_now += row.stat.size

    # ---- the service's copy

    async def _delete(self, watched: Watched, end: EndFacts) -> None:
        """Delete the flow from the service, once its list is what was collected, and every byte of it is on the disk."""
        context = self._context
        if watched.facts.external:
            message = f"the flow {end.flow_id} was given by its id, and batcher does not delete it"
            self.problem(watched, "changed", message, "")
            return
        listed, rows = Ids(), Ids()

        async def listing() -> Listing | Reply | Fault:
            nonlocal listed
            listed = Ids()
            return await context.client.outputs(end.flow_id, lambda output: listed.add(output.asset_id))

        if end.remote is Remote.KEPT:
            shown = await context.ask(Call.OUTPUTS, listing)
            if isinstance(shown, Verdict):
                self.problem_from_verdict(watched, shown, "its outputs cannot be listed before it is deleted")
                return
            if not shown.whole:
                message = f"the list of the outputs of the flow {end.flow_id} is not whole: {shown.why}; it was not deleted"
                self.problem(watched, "unsettled", message, "delete it yourself if that is right")
                return
            paths: list[str] = []
            for page in self.pages(end.flow_id):
                held = await self._held_against_disk(page, True)
                if self._context.stop is not None:
                    return
                for row, file_stat in held:
                    rows.add(row.asset_id)
                    paths.append(row.path)
                    if file_stat is not None and await asyncio.to_thread(self._is_none, watched, row):
                        # A batcher before this one took whatever came; now it is asked for anew.
                        await context.journal.record(PutOutput(_unlisted(row)))
                        message = f"{row.path} is not what {watched.makes} makes, so the flow {end.flow_id} was not deleted"
                        self.problem(watched, "unsettled", message, "collect again")
                        return
                    if file_stat is None:
                        message = f"{row.path} is not what was collected, so the flow {end.flow_id} was not deleted"
                        self.problem(watched, "unsettled", message, "collect again")
                        return
                await asyncio.to_thread(self._folder.sync, paths)
                paths.clear()
            ids, there = listed.distinct(), rows.distinct()
            if ids != there:
                message = f"the flow {end.flow_id} lists {len(ids)} output(s), not the {len(there)} that were collected"
                await context.journal.record(PutEnd(replace(end, listed=False)))
                self.problem(watched, "unsettled", f"{message}; it was not deleted", "collect again")
                return
            if len(there) < watched.facts.inputs and not (end.accepted and self._options.accept_fewer):
                message = f"the flow {end.flow_id} lists {len(there)} output(s) for {watched.facts.inputs} inputs"
                await context.journal.record(PutEnd(replace(end, listed=False)))
                hint = "--accept-fewer beside --delete-remote deletes it all the same"
                self.problem(watched, "changed", f"{message}; it was not deleted", hint)
                return
            end = replace(end, remote=Remote.DELETING)
            await context.journal.record(PutEnd(end))
        deleted = await context.ask(Call.DELETE, lambda: context.client.delete(end.flow_id))
        if deleted.kind not in (Kind.DONE, Kind.GONE):
            self.problem_from_verdict(watched, deleted, "it was not deleted")
            return
        if deleted.status == 404:  # after a reply that was lost, it is gone; a gateway in trouble says the same
            still = await context.ask(Call.FLOW, lambda: context.client.flow(end.flow_id))
            if not isinstance(still, Verdict):
                message = f"the service shows the flow {end.flow_id}, and does not find it to delete it"
                self.problem(watched, "unsettled", message, "collect again", 404)
                return
            if still.kind is not Kind.GONE:
                self.problem_from_verdict(watched, still, "whether it was deleted cannot be asked for")
                return
        await context.journal.record(PutEnd(replace(end, remote=Remote.DELETED)))
        self._ends.deleted += 1

    def _is_none(self, watched: Watched, row: OutputFacts) -> bool:
        """Whether a file is surely no output of its template."""
        if watched.makes is None:
            return False
        mime = content_of(self._folder.head(row.path), row.stat.size, "")
        return isinstance(mime, Spoiled) or not_made_by(watched.makes, mime) is not None

    # ---- what is said

    def problem(self, watched: Watched, kind: ProblemKind, message: str, hint: str, status: int | None = None) -> None:
        place = watched.flow.place if watched.flow is not None else None
        self._context.problem(None, Problem(kind, message, hint, place, watched.name, status=status))

    def problem_from_verdict(self, watched: Watched, verdict: Verdict, what: str) -> None:
        kind, hint = _kind_of(verdict)
        self.problem(watched, kind, f"{what}: {verdict.message}", hint, verdict.status)

    def _fail(
        self, watched: Watched, row: OutputFacts, kind: ProblemKind, message: str, hint: str, status: int | None = None
    ) -> None:
        self._outputs.failed += 1
        place = watched.flow.place if watched.flow is not None else None
        message = f"the output {row.asset_id} could not be collected: {message}"
        self._context.problem(None, Problem(kind, message, hint, place, watched.name, row.source or None, status))


def _unplaced(row: OutputFacts, apart: str) -> bool:
    """Whether it has no place yet, or one among what failed flows left, and its flow was completed later."""
    return not row.place or (not apart and row.place.startswith(f"{FAILED}/"))


def _placed(row: OutputFacts, place: str, source: str) -> PutOutput:
    return PutOutput(replace(_unlisted(row) if row.place else row, source=source, place=place))


def _unlisted(row: OutputFacts) -> OutputFacts:
    """As if it had never been collected."""
    state = OutputState.LISTED if row.state is OutputState.COLLECTED else row.state
    return replace(row, state=state, path="", sha256=None, stat=FileStat(0))


def _kind_of(verdict: Verdict) -> tuple[ProblemKind, str]:
    match verdict.kind:
        case Kind.REFUSED if verdict.status not in (402, 403):  # those may be given to another key
            return "refused", "the service refuses it; look at the flow there"
        case Kind.THROTTLED | Kind.UNAVAILABLE:
            return "unavailable", "collect again later"
        case _:
            return "unsettled", "look at the flow on the service, then collect again"
