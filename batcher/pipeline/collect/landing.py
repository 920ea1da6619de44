"""A download that is whole gets its path: the first of its candidates that is free, or its own.

In: a part, checked. Out: a row that is durable, and then the file under its path: whichever of the two a kill leaves undone,
the next run finds what is there. Made once for each collecting; called by `fetching`.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from ...core.facts import OutputFacts, OutputState, PutOutput, Record
from ...core.output_check import Landed
from ...core.output_names import NamePattern, candidates, part_path, path_digest
from ...journal.ports import Journal
from ..ports import Folder
from .naming import unlisted
from .on_disk import OnDisk
from .watched import CollectReporter, Watched


class Landing:
    def __init__(
        self, folder: Folder, on_disk: OnDisk, journal: Journal, reporter: CollectReporter, pattern: NamePattern
    ) -> None:
        self._folder = folder
        self._on_disk = on_disk
        self._journal = journal
        self._reporter = reporter
        self._pattern = pattern
        self._claimed: set[bytes] = set()  # digests of paths that are being landed on

    async def land(self, watched: Watched, row: OutputFacts, landed: Landed) -> None:
        """Record it, then rename it to the first path that is free, or its own."""
        ending = self._pattern.ends_in(landed.mime)
        for path in candidates(row.place, ending, row.flow_id, row.asset_id):
            if path_digest(path) in self._claimed:
                continue
            self._claimed.add(path_digest(path))
            try:
                former = await asyncio.to_thread(self._in_the_way, watched, row, path, landed)
                if former is not None:
                    done = replace(row, state=OutputState.COLLECTED, path=path, sha256=landed.sha256, stat=landed.stat)
                    # Durable before the rename: whichever of the two a kill leaves undone, the next run can tell.
                    await self._journal.record(*former, PutOutput(done))
                    part = part_path(row.place, row.flow_id, row.asset_id)
                    there = await asyncio.to_thread(self._folder.rename, part, path)
                    if there is not None:
                        self._journal.post(PutOutput(replace(done, stat=there)))
                    watched.missing.discard(row.asset_id)
                    self._reporter.output_collected(watched, done, landed.more)
                    return
            finally:
                self._claimed.discard(path_digest(path))
        message = f"{row.place} is taken by something else"
        self._reporter.output_failed(watched, row, "unsettled", message, "collect into another folder")

    def _in_the_way(self, watched: Watched, row: OutputFacts, path: str, landed: Landed) -> list[Record] | None:
        """None where something that must stay is at this path; else the records that make way. In a thread."""
        other = self._journal.output_at(path)
        found = self._folder.look(path)
        if other is None or (other.flow_id, other.asset_id) == (row.flow_id, row.asset_id):
            same = found is not None and found.size == landed.stat.size and self._folder.digest(path) == landed.sha256
            return [] if same or not self._folder.taken(path) else None
        end = self._journal.end(other.flow_id)
        if end is None or end.flow != watched.name or end.flow_id == row.flow_id:
            return None
        # The flow was paid for again: its new output takes the old one's place, unless somebody has changed that.
        own = found is not None and self._on_disk.is_same(path, found, other)
        replaced = PutOutput(unlisted(other))
        return [replaced] if own or not self._folder.taken(path) else None
