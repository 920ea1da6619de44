"""The outputs of one flow: what is missing in the folder is downloaded.

In: a flow whose outputs have rows and places. Out: files, and whether all is there now. Made once for each collecting; called
by `bringing`. Every row is held against the disk before it counts, so that only what is not there is downloaded.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import anyio

from ...core.collecting import Unplaceable, cannot_write
from ...core.errors import Stop
from ...core.facts import EndFacts, OutputFacts, OutputState, PutEnd, PutOutput, Remote
from ...journal.ports import Journal
from ..shutdown import Shutdown
from .landing import Landing
from .naming import pages
from .on_disk import OnDisk
from .output_download import OutputDownload
from .watched import CollectReporter, Watched


class Fetching:
    """`checksum`: every file is read, though its stat has not changed. `concurrency`: downloads at a time."""

    def __init__(
        self, on_disk: OnDisk, download: OutputDownload, landing: Landing, journal: Journal, reporter: CollectReporter,
        shutdown: Shutdown, *, checksum: bool, concurrency: int,
    ) -> None:  # fmt: skip
        self._on_disk = on_disk
        self._output = download
        self._landing = landing
        self._journal = journal
        self._reporter = reporter
        self._shutdown = shutdown
        self._checksum = checksum
        self._slots = asyncio.Semaphore(concurrency)

    async def fetch(self, watched: Watched, end: EndFacts) -> bool:
        """Hold every row against the disk, and bring what is missing. Whether all is there now."""
        counts, missing = self._reporter.outputs, watched.missing
        gone = refused = 0
        async with anyio.create_task_group() as group:
            for page in pages(self._journal, watched.flow_id):
                counts.total += len(page)
                counts.without_source += sum(not row.source for row in page)
                for row, found in await self._on_disk.held_against(page, read=self._checksum):
                    if found is not None:
                        counts.collected += 1
                        counts.bytes += found.size
                        if found != row.stat:
                            self._journal.post(PutOutput(replace(row, stat=found)))
                    elif row.state is OutputState.REFUSED:
                        refused += 1
                        hint = f"--redo {watched.name}"
                        self._reporter.output_failed(watched, row, "refused", "the service shows it in error", hint)
                    elif end.remote is Remote.DELETED:
                        gone += 1
                    elif self._shutdown.stop is None:
                        missing.add(row.asset_id)
                        await self._slots.acquire()
                        group.start_soon(self._download, watched, row)
        if gone:
            message = f"{gone} output(s) are no longer in the folder, and the flow was deleted from the service after they were"
            self._reporter.problem(watched, "changed", message, "put them back where they are wanted")
        if refused:  # the next run asks for the list again
            await self._journal.record(PutEnd(replace(end, listed=False)))
        return not gone and not refused and not missing and self._shutdown.stop is None

    async def _download(self, watched: Watched, row: OutputFacts) -> None:
        try:
            await self._output.room()
            try:
                landed = await self._output.bring(watched, row)
                if landed is not None:
                    await self._landing.land(watched, row, landed)
            finally:
                self._output.end()
        except Stop as stop:
            if self._shutdown.stop is None:
                self._shutdown.halt(stop)
        except Unplaceable as error:
            hint = "choose another --name, or move what is in the way"
            self._reporter.output_failed(watched, row, "unsettled", str(error), hint)
        except OSError as error:
            self._shutdown.halt(cannot_write(error))
        finally:
            self._slots.release()
