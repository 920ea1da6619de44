"""What is in the folder already, held against the rows of outputs.

In: rows. Out: the stat of each file that is what was collected. Made once for each collecting; called by `fetching`,
`landing` and `deletion`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ...core.collecting import cannot_write
from ...core.errors import Stop
from ...core.facts import FileStat, OutputFacts, OutputState
from ...core.output_names import part_path
from ..ports import Folder
from ..shutdown import Shutdown


class OnDisk:
    def __init__(self, folder: Folder, shutdown: Shutdown) -> None:
        self._folder = folder
        self._shutdown = shutdown

    async def held_against(self, page: Sequence[OutputFacts], *, read: bool) -> list[tuple[OutputFacts, FileStat | None]]:
        """Each row with what is there of it; nothing is where the disk cannot be asked, and the run is to end. `read`: every
        file, though its stat has not changed."""
        try:
            return await asyncio.to_thread(lambda: [(row, self._present(row, read)) for row in page])
        except OSError as error:
            self._shutdown.halt(cannot_write(error))
        except Stop as stop:
            self._shutdown.halt(stop)
        return []

    def _present(self, row: OutputFacts, read: bool) -> FileStat | None:
        """The stat of the output's file where it is what was verified; unread where its stat has not changed."""
        if row.state is not OutputState.COLLECTED:
            return None
        found = self._folder.look(row.path)
        if found is not None and ((found == row.stat and not read) or self.is_same(row.path, found, row, read=read)):
            return found
        part = part_path(row.place, row.flow_id, row.asset_id)
        found = self._folder.look(part)  # a process died between the record and the rename
        if found is not None and self.is_same(part, found, row) and not self._folder.taken(row.path):
            self._folder.rename(part, row.path)
            return found
        return None

    def is_same(self, path: str, found: FileStat, row: OutputFacts, *, read: bool = False) -> bool:
        """Whether the file there has the bytes that were collected. `read`: by its bytes. In a thread."""
        return found.size == row.stat.size and self._folder.digest(path, read=read) == row.sha256
