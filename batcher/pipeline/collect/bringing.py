"""One flow that has ended: its outputs are listed, named, brought to the folder and checked, and then, if asked, deleted.

In: `Watched` flows at their end. Out: files, rows in the journal, counts and problems in the report. Made once for each
collecting; called by `collector`.
"""

from __future__ import annotations

from dataclasses import replace

from ...core.collecting import CollectOptions, End, Lack, Step, end_of, step
from ...core.facts import EndFacts, PutEnd, Remote
from ...core.output_names import FAILED
from ...journal.ports import Journal
from .deletion import Deletion
from .fetching import Fetching
from .naming import Naming
from .output_list import OutputList
from .watched import CollectReporter, Watched


class Bringing:
    def __init__(
        self, output_list: OutputList, naming: Naming, fetching: Fetching, deletion: Deletion, journal: Journal,
        reporter: CollectReporter, options: CollectOptions,
    ) -> None:  # fmt: skip
        self._output_list = output_list
        self._naming = naming
        self._fetching = fetching
        self._deletion = deletion
        self._journal = journal
        self._reporter = reporter
        self._options = options

    async def bring(self, watched: Watched) -> None:
        """List, name, fetch; then, where that was asked for, delete."""
        end = watched.as_ended()
        self._reporter.ended(end)
        apart = step(end.state) is Step.FETCH_APART
        if apart:
            said = {"failed": "failed", "aborted": "was aborted"}.get(end.state, f"ended as “{end.state}”")
            why = f": {end.reason}" if end.reason else ""
            message = f"the flow {end.flow_id} {said} on the service{why}; what it left is in {FAILED}/"
            self._reporter.problem(watched, "failed", message, "run --redo-failed pays for it again")
        if not end.listed:
            if not await self._output_list.read(watched, end):
                return
            end = self._judge(watched, end, await self._naming.give(watched, end))
            end = replace(end, folder=self._options.folder)
            await self._journal.record(PutEnd(end))
        elif end.remote is Remote.KEPT and end.folder != self._options.folder:
            end = replace(end, folder=self._options.folder)
            self._journal.post(PutEnd(end))
        self._reporter.outputs.missing += end.missing
        whole = await self._fetching.fetch(watched, end)
        if whole and end.listed and not apart and self._options.delete_remote and end.remote is not Remote.DELETED:
            await self._deletion.delete(watched, end)

    def _judge(self, watched: Watched, end: EndFacts, lack: Lack) -> EndFacts:
        """Its end, now that every output has a row and a place: listed, unless outputs are missing, or may be, since the list
        is not whole; that is said, and the next collect looks again."""
        if watched.part or end_of(end.state) is not End.COMPLETED:
            return replace(end, listed=not watched.part)
        missing = lack.missing
        accepted = bool(missing and lack.outputs and (end.accepted or self._options.accept_fewer))
        if not lack.outputs:
            message = f"the flow {end.flow_id} is completed, and lists no outputs"
            self._reporter.problem(watched, "unsettled", message, "collect again; look at it on the service")
        elif missing and not accepted:
            message = f"the flow {end.flow_id} is completed, and lists {lack.outputs:,} output(s) for {lack.inputs:,} inputs"
            hint = "collect again later; with --accept-fewer where its template makes fewer outputs than it takes inputs"
            self._reporter.problem(watched, "unsettled", f"{message}; {lack.words}", hint)
        whole = bool(lack.outputs) and (accepted or not missing)
        return replace(end, listed=whole, missing=missing, accepted=accepted)
