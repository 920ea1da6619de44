"""Deleting a collected flow from the service, where `--delete-remote` asks for it.

In: a flow that is completed, listed and collected. Out: it is deleted, or a problem says why not. Made once for each
collecting; called by `bringing`. The service's list must be what was collected, and every byte of it on the disk, before a
request leaves.
"""

from __future__ import annotations

import asyncio
from array import array
from dataclasses import replace

from ...core.collecting import Ids
from ...core.facts import EndFacts, OutputFacts, PutEnd, PutOutput, Remote
from ...core.output_check import Spoiled, content_of, not_made_by
from ...core.remote import RemoteOutput
from ...core.retry import Call, Kind, Verdict
from ...journal.ports import Journal
from ..ports import Folder
from ..requests import Requests
from ..shutdown import Shutdown
from .naming import pages, unlisted
from .on_disk import OnDisk
from .watched import CollectReporter, Watched


class _OutputIds:
    def __init__(self) -> None:
        self.ids = Ids()

    def take(self, output: RemoteOutput) -> None:
        self.ids.add(output.asset_id)


class Deletion:
    """`accept_fewer`: a flow that lists fewer outputs than it has inputs is deleted all the same."""

    def __init__(
        self, requests: Requests, journal: Journal, folder: Folder, on_disk: OnDisk, reporter: CollectReporter,
        shutdown: Shutdown, *, accept_fewer: bool,
    ) -> None:  # fmt: skip
        self._requests = requests
        self._journal = journal
        self._folder = folder
        self._on_disk = on_disk
        self._reporter = reporter
        self._shutdown = shutdown
        self._accept_fewer = accept_fewer

    async def delete(self, watched: Watched, end: EndFacts) -> None:
        """Delete the flow from the service, once its list is what was collected, and every byte of it is on the disk."""
        if watched.facts.external:
            message = f"the flow {end.flow_id} was given by its id, and batcher does not delete it"
            self._reporter.problem(watched, "changed", message, "")
            return
        if watched.facts.is_starting:  # what the journal does not know as started, a run would take for lost
            message = f"the start of the flow {end.flow_id} is not settled in the journal; it was not deleted"
            self._reporter.problem(watched, "unsettled", message, "batcher run settles it; then collect again")
            return
        if end.remote is Remote.KEPT:
            if not await self._may_go(watched, end):
                return
            end = replace(end, remote=Remote.DELETING)
            await self._journal.record(PutEnd(end))
        if await self._send(watched, end):
            await self._journal.record(PutEnd(replace(end, remote=Remote.DELETED)))
            self._reporter.ends.deleted += 1

    async def _may_go(self, watched: Watched, end: EndFacts) -> bool:
        """Whether nothing is lost with it; else it is said what would be."""
        found = await self._requests.ask_list(
            Call.OUTPUTS, _OutputIds, lambda client, taken: client.outputs(end.flow_id, taken.take)
        )
        if isinstance(found, Verdict):
            self._reporter.problem_from_verdict(watched, found, "its outputs cannot be listed before it is deleted")
            return False
        taken, listing = found
        if not listing.whole:
            message = f"the list of the outputs of the flow {end.flow_id} is not whole: {listing.why}; it was not deleted"
            self._reporter.problem(watched, "unsettled", message, "delete it yourself if that is right")
            return False
        there = await self._verified(watched, end)
        return there is not None and await self._is_all(watched, end, taken.ids.distinct(), there)

    async def _verified(self, watched: Watched, end: EndFacts) -> array[int] | None:
        """The ids of the rows, once every file of them was read; None where one is not what was collected."""
        rows = Ids()
        for page in pages(self._journal, end.flow_id):
            held = await self._on_disk.held_against(page, read=True)
            if self._shutdown.stop is not None:
                return None
            for row, file_stat in held:
                rows.add(row.asset_id)
                if file_stat is not None and await asyncio.to_thread(self._is_no_output, watched, row):
                    # A batcher before this one took whatever came; now it is asked for anew.
                    await self._journal.record(PutOutput(unlisted(row)))
                    message = f"{row.path} is not what {watched.makes} makes, so the flow {end.flow_id} was not deleted"
                    self._reporter.problem(watched, "unsettled", message, "collect again")
                    return None
                if file_stat is None:
                    message = f"{row.path} is not what was collected, so the flow {end.flow_id} was not deleted"
                    self._reporter.problem(watched, "unsettled", message, "collect again")
                    return None
            await asyncio.to_thread(self._folder.sync, [row.path for row, _ in held])
        return rows.distinct()

    async def _is_all(self, watched: Watched, end: EndFacts, listed: array[int], there: array[int]) -> bool:
        """Whether the service lists what was collected, and an output for each input."""
        if listed != there:
            message = f"the flow {end.flow_id} lists {len(listed)} output(s), not the {len(there)} that were collected"
            await self._journal.record(PutEnd(replace(end, listed=False)))
            self._reporter.problem(watched, "unsettled", f"{message}; it was not deleted", "collect again")
            return False
        if len(there) < watched.facts.inputs and not (end.accepted and self._accept_fewer):
            message = f"the flow {end.flow_id} lists {len(there)} output(s) for {watched.facts.inputs} inputs"
            await self._journal.record(PutEnd(replace(end, listed=False)))
            hint = "--accept-fewer beside --delete-remote deletes it all the same"
            self._reporter.problem(watched, "changed", f"{message}; it was not deleted", hint)
            return False
        return True

    async def _send(self, watched: Watched, end: EndFacts) -> bool:
        """Whether it is gone."""
        deleted = await self._requests.ask(Call.DELETE, lambda client: client.delete(end.flow_id))
        assert isinstance(deleted, Verdict)  # a deletion's reply has no value
        if deleted.kind not in (Kind.DONE, Kind.GONE):
            self._reporter.problem_from_verdict(watched, deleted, "it was not deleted")
            return False
        if deleted.status == 404:  # after a reply that was lost, it is gone; a gateway in trouble says the same
            still = await self._requests.flow(end.flow_id)
            if not isinstance(still, Verdict):
                message = f"the service shows the flow {end.flow_id}, and does not find it to delete it"
                self._reporter.problem(watched, "unsettled", message, "collect again", 404)
                return False
            if still.kind is not Kind.GONE:
                self._reporter.problem_from_verdict(watched, still, "whether it was deleted cannot be asked for")
                return False
        return True

    def _is_no_output(self, watched: Watched, row: OutputFacts) -> bool:
        """Whether a file is surely no output of its template."""
        if watched.makes is None:
            return False
        mime = content_of(self._folder.head(row.path), row.stat.size, "")
        return isinstance(mime, Spoiled) or not_made_by(watched.makes, mime) is not None
