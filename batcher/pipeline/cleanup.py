"""What must not stay on the service: orphans of this run and of earlier ones, and, for `clean`, all that was never started.

In: the journal's orphans, the service's list of flows. Out: deletions, and problems for what could not be deleted. Made once
for each operation; called by `run` before its first create and at its end, and by the public API for `clean`. Before a run
deletes, `left_starts` tells what became of starts that nobody else asks about.
"""

from __future__ import annotations

from dataclasses import replace

from ..core.abandoning import Unstarted, abandon
from ..core.facts import AddOrphan, ClearOrphan, FlowFacts
from ..core.lifecycle import FlowState
from ..core.model import Problem
from ..core.remote import RemoteFlow
from ..core.retry import Kind, Verdict
from ..journal.ports import Journal
from .flow_list import FlowList, ListedFlows, no_list
from .left_starts import LeftStarts
from .list_proof import LIST_ADVICE
from .orphans import Orphans
from .reporter import Reporter
from .requests import Requests


class Cleanup:
    def __init__(
        self, requests: Requests, journal: Journal, flow_list: FlowList, orphans: Orphans, left_starts: LeftStarts,
        reporter: Reporter,
    ) -> None:  # fmt: skip
        self.left_starts = left_starts
        self._requests = requests
        self._journal = journal
        self._flow_list = flow_list
        self._orphans = orphans
        self._reporter = reporter

    # ---- in a run

    async def begin(self) -> None:
        """Before anything is created: a late start of what was given up would be paid for, too. For a run that is alone."""
        await self.left_starts.settle(await self.left_starts.names())
        await self.delete_orphans()

    async def delete_orphans(self, but: frozenset[str] = frozenset(), *, listed: bool = False) -> frozenset[str]:
        """Delete what the journal has as orphans, but for those; `listed`: as in `Orphans`. Returns the ids of those that it
        still has."""
        known = await self._journal.look(lambda journal: journal.orphans())
        orphans = [(flow_id, name) for flow_id, name in known if flow_id not in but]
        for flow_id, name in orphans:
            facts = await self._flow(name)
            if facts is not None and facts.flow_id == flow_id:
                self._journal.post(ClearOrphan(flow_id))  # it is in use: whatever the journal says, it is none
            else:
                await self._orphans.delete(flow_id, name, listed=listed)
        if orphans:
            await self._journal.record()
        return frozenset(flow_id for flow_id, _ in await self._journal.look(lambda journal: journal.orphans()))

    async def sweep(self) -> None:
        """Delete what was given up, and twins of lost creates, as far as the service's list shows them."""
        await self._journal.record()  # what a stage has just deleted is no orphan any more
        left = await self.delete_orphans()
        watched = await self._journal.look(lambda journal: journal.watch_until) > self._journal.now()
        if watched or self._orphans.deleted_some:
            await self._find_twins(watched)
        await self.delete_orphans(left, listed=True)
        await self._report_left()

    async def _flow(self, name: str) -> FlowFacts | None:
        return await self._journal.look(lambda journal: journal.flow(name))

    async def _report_left(self) -> frozenset[str]:
        """A problem for each orphan that is still there; returns their ids."""
        left = await self._journal.look(lambda journal: journal.orphans())
        for flow_id, name in left:
            message = f"the flow {flow_id}, given up and never started, could not be deleted"
            denied = self._orphans.undeletable(flow_id)
            if denied is None:
                problem = Problem("unavailable", message, "the next run tries again", flow=name)
            else:
                hint = "delete it yourself, or run again with a key that may"
                problem = Problem("unsettled", f"{message}: {denied.message}", hint, flow=name, status=denied.status)
            self._reporter.problem(problem)
        return frozenset(flow_id for flow_id, _ in left)

    async def _find_twins(self, watched: bool) -> None:
        """What creates that were lost have made, and no flow of the journal is, is an orphan; so is what is listed although the
        service said that it was deleted. `watched`: what the list does not show is an open question."""
        if not watched:
            found = await self._flow_list.read()
            if isinstance(found, Verdict):
                return
            looked: tuple[ListedFlows, str] | Verdict = (found, "")
        else:
            looked = await self._flow_list.read_surely()
        if isinstance(looked, Verdict):
            message = f"whether lost creates left flows behind cannot be told: {looked.message}"
            self._reporter.problem(Problem("unavailable", message, "the next run looks again", status=looked.status))
            return
        listed, why = looked
        if why:
            message = f"whether lost creates left flows behind cannot be told: {why}"
            self._reporter.problem(Problem("unsettled", message, LIST_ADVICE))
        for flow in listed.of_batch:
            if flow.tag is None or flow.tag.owner != self._journal.owner or not flow.unstarted:
                continue
            facts = await self._flow(flow.tag.flow)
            if facts is None or facts.flow_id != flow.flow_id:
                await self._journal.record(AddOrphan(flow.flow_id, flow.tag.flow))

    # ---- for `clean`

    async def clean(self, yes: bool) -> list[Unstarted]:
        """The batch's flows on the service that were never started. `yes`: the journal gives them up, then they go; what could
        not be deleted is a problem each, and an orphan from now on."""
        listed = await self._flow_list.read()
        if isinstance(listed, Verdict):
            raise no_list(listed)
        if not listed.listing.whole:
            message = f"there may be more: the list of flows is not whole: {listed.listing.why}"
            self._reporter.problem(Problem("unsettled", message, LIST_ADVICE))
        found = [
            Unstarted(flow.flow_id, flow.tag.flow)
            for flow in listed.of_batch
            if flow.tag is not None and flow.unstarted
        ]
        return await self._delete_unstarted(found, listed) if yes else found

    async def _delete_unstarted(self, found: list[Unstarted], listed: ListedFlows) -> list[Unstarted]:
        kept: set[str] = set()
        for flow in found:
            facts = await self._flow(flow.name)
            if facts is not None and facts.flow_id == flow.flow_id:
                if facts.state is not FlowState.OPEN or facts.external:
                    kept.add(flow.flow_id)  # its start may be under way: the next run settles that first
                    continue
                records, _ = abandon(facts)
                await self._journal.record(*records)
            else:
                await self._journal.record(AddOrphan(flow.flow_id, flow.name))
            await self._orphans.delete(flow.flow_id, flow.name)
        # Those of earlier runs, too: what a `clean` that was killed has deleted is no longer listed, and an orphan still.
        await self.delete_orphans(frozenset(flow.flow_id for flow in found))
        await self._journal.record()  # what is gone is no orphan any more
        kept |= await self._report_left()
        await self._forget_deleted(listed)
        return [replace(flow, deleted=flow.flow_id not in kept) for flow in found]

    async def _forget_deleted(self, listed: ListedFlows) -> None:
        """Open flows of ours that the service no longer knows: somebody deleted them, so they are to be built anew. Each is
        asked for: that the list does not show it proves nothing."""
        shown = {flow.flow_id for flow in listed.of_batch if not flow.gone}
        for facts in await self._journal.look(lambda journal: list(journal.flows())):
            if facts.state is not FlowState.OPEN or facts.external or facts.flow_id is None or facts.flow_id in shown:
                continue
            found = await self._requests.flow(facts.flow_id)
            if isinstance(found, RemoteFlow):
                continue
            if found.kind is Kind.GONE:
                records, _ = abandon(facts)
                await self._journal.record(*records)
            else:
                message = f"whether the flow {facts.flow_id} is still there cannot be told: {found.message}"
                hint = "run it again later"
                self._reporter.problem(Problem("unavailable", message, hint, flow=facts.name, status=found.status))
