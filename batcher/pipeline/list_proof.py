"""Whether the service's list of flows can be believed, before a journal that knows nothing makes, sends or starts anything.

In: the list as it was before the first create, and that first flow. Out: `needed` is False, or the run is halted. Made once for
each run; called by the opener, for one flow while all others wait.

A journal that was lost leaves started flows of its batch on the service, and they are recognised on the list of flows. If
that list is one page of many they are not, and all of them are paid for again. Mostly the list says that there is more
(`Listing.whole`). One that is cut off without a word is found out by the run's first flow, which costs nothing before it is
started: a list that shows at most N flows, and showed N, cannot become longer by it. So the list that follows must show the
new flow, and all that were there before, and be longer. Cut off oldest first, the new flow is not on it; newest first, one
of the earlier ones has dropped out; in any other order it is no longer than before. (What is cut off by other rules, such as
by the age of flows, can only be found out by asking the provider.) And it has to show the new flow with its tag: a list
without `additional` tells of no flow whose it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, NoReturn

from ..core.errors import Reason, Stop
from ..core.facts import WATCH_S, AddOrphan, UnknownFlowsChecked, Watch
from ..core.lifecycle import FlowState
from ..core.remote import RemoteFlow
from ..core.retry import Call, Kind, Verdict
from ..core.tags import flow_tag, with_flow_tag
from ..journal.ports import Journal
from .flow_list import FlowList, ListedFlows, id_hash, not_whole, unknown_flows
from .flow_run import FlowRun
from .orphans import Orphans
from .requests import Requests
from .shutdown import Shutdown

GONE: Final = 100  # flows that somebody deleted meanwhile are asked about, up to so many
LIST_ADVICE: Final = (
    "delete flows on the service that are done with, until its list shows all; or ask its provider how the list is paged"
)
ADVICE: Final = f"put the journal back if there was one; {LIST_ADVICE}"
NO_TAG: Final = "the list of flows does not show what is in their `additional`, the tag that tells whose a flow is"
TAG_ADVICE: Final = "put the journal back if there was one; ask the service's provider for a list that shows `additional`"


def advice_on(why: str, otherwise: str) -> str:
    """What to do about a list that proves nothing. `otherwise`: where it is not the tags that it lacks."""
    return TAG_ADVICE if why.startswith(NO_TAG) else otherwise


class ListProof:
    """`batch`: the batch's name. `settle_s`: so long the list may lag behind."""

    def __init__(
        self, requests: Requests, journal: Journal, flow_list: FlowList, orphans: Orphans, shutdown: Shutdown, batch: str,
        settle_s: float,
    ) -> None:  # fmt: skip
        self._requests = requests
        self._journal = journal
        self._flow_list = flow_list
        self._orphans = orphans
        self._shutdown = shutdown
        self._batch = batch
        self._settle_s = settle_s
        self._needed = False  # until it is given nothing is made, sent or started
        self._adopted: frozenset[str] = frozenset()  # ids of flows that --adopt was told of: taken over, or left as they are
        self._before: ListedFlows | None = None  # the list that the proof begins with; None: one is to be asked for
        self._lock = asyncio.Lock()

    def demand(self, before: ListedFlows | None, adopted: frozenset[str]) -> None:
        """The journal knows nothing: the first flow that is made has to show that the list may be believed."""
        self._needed, self._before, self._adopted = True, before, adopted

    async def give(self, flow: FlowRun, create: Callable[[], Awaitable[None]]) -> None:
        """Where it is demanded: one flow gives the proof, by being made by `create`; the others wait. Raises Stop."""
        if not self._needed or flow.facts.external:
            return
        async with self._lock:
            self._shutdown.check()
            if self._needed:
                await self._prove(flow, create)

    async def _prove(self, flow: FlowRun, create: Callable[[], Awaitable[None]]) -> None:
        """Let `create` open the flow and see whether the list shows it. Raises Stop where that proves nothing: then the flow
        that was made for it is deleted, and the run is halted. The flow may fail; then the next one is to prove it."""
        before = self._before if self._before is not None else await self._flow_list.read()
        if isinstance(before, Verdict):
            self._halt(before, "the service's flows cannot be listed")
        own = flow.facts.state in (FlowState.PLANNED, FlowState.CREATING)
        if own:
            await create()
            if flow.failed or flow.facts.flow_id is None:
                return
        names, _ = await asyncio.to_thread(before.ids.distinct)
        own = own and id_hash(flow.facts.flow_id) not in names  # else a lost create of an earlier run was found
        shown = flow.facts.flow_id if own else await self._make_another(flow)
        assert shown is not None
        why = await self.doubt(shown, before)
        if isinstance(why, Verdict):
            self._halt(why, "whether the list of flows shows all cannot be told")
        if own and why:
            await self._journal.record(*flow.abandon())
        if why or not own:
            await self._orphans.delete(shown, flow.name)
        if why:
            message = f"{why}; whether the batch was paid for before cannot be told"
            self._shutdown.end(Stop(Reason.UNSETTLED, message, advice_on(why, ADVICE)))
        self._needed, self._before = False, None
        await self._journal.record(UnknownFlowsChecked())

    async def doubt(self, flow_id: str, before: ListedFlows | None = None) -> str | Verdict:
        """Why the list proves nothing; "" where it shows the flow that was just made, and, given the list `before` that, all
        else that it must. A list may lag: it is looked at again within the settling time."""
        pauses = self._shutdown.pauses(self._settle_s)
        while True:
            after = await self._flow_list.read()
            if isinstance(after, Verdict):
                return after
            if not after.listing.whole:
                return not_whole(after)
            found = await self._journal.look(partial(unknown_flows, listed=after))
            unknown = [flow for flow in found if flow.flow_id not in self._adopted]
            if before is not None and unknown:
                return (f"the journal knows nothing of it, but the service has {len(unknown)} flow(s) of the batch "
                        f"“{self._batch}”")  # fmt: skip
            why = await self._not_grown(before, after, flow_id)
            if not why or pauses.over:
                return why
            await pauses.wait()

    async def _not_grown(self, before: ListedFlows | None, after: ListedFlows, flow_id: str) -> str:
        """Why the list may be incomplete, now that it has a flow more."""
        names, count = await asyncio.to_thread(after.ids.distinct)
        part = f"the list of flows, which shows {count:,}, seems to be a part of them"
        if id_hash(flow_id) not in names:
            return f"{part}: a flow that was made just now is not on it"
        listed = next((flow for flow in after.of_batch if flow.flow_id == flow_id), None)
        if listed is None or listed.tag is None or listed.tag.owner != self._journal.owner:
            return f"{NO_TAG}: the flow {flow_id}, which was made just now, is listed without it"
        if before is None:
            return ""
        _, earlier = await asyncio.to_thread(before.ids.distinct)
        missing = {value for value in before.ids.hashes if value not in names}
        gone = 0
        for earlier_id in (*before.ids.first, *before.ids.last) if 0 < len(missing) <= GONE else ():
            if id_hash(earlier_id) not in missing:
                continue
            found = await self._requests.flow(earlier_id)
            if isinstance(found, RemoteFlow):
                return f"{part}: the flow {earlier_id} is there, and has dropped out of it"
            gone += found.kind is Kind.GONE
        if gone < len(missing):
            return f"{part}: {len(missing) - gone:,} flow(s) have dropped out of it"
        if count <= earlier:
            return f"{part}: it has not become longer by a flow that was made just now"
        return ""

    async def _make_another(self, flow: FlowRun) -> str:
        """A flow that is there for this alone, where the first one was there before. Raises Stop where it cannot be made."""
        spec = flow.plan.flow
        record = flow.change(generation=flow.facts.generation + 1)
        # Durable before the POST; should its reply be lost, the sweep finds it by its tag.
        await self._journal.record(record, Watch(self._journal.now() + WATCH_S))
        tag = flow_tag(self._batch, self._journal.owner, flow.name, flow.facts.generation)
        additional = with_flow_tag(spec.additional, tag)
        made = await self._requests.ask(
            Call.CREATE, lambda client: client.create(spec.template or "", spec.parameters, additional, lambda: None)
        )
        if isinstance(made, Verdict):
            self._halt(made, "whether the list of flows shows all cannot be told, for none can be made")
        await self._journal.record(AddOrphan(made, flow.name))
        return made

    def _halt(self, verdict: Verdict, what: str) -> NoReturn:
        reason = Reason.UNAVAILABLE if verdict.kind in (Kind.UNAVAILABLE, Kind.THROTTLED) else Reason.UNSETTLED
        self._shutdown.end(Stop(reason, f"{what}: {verdict.message}", "run again later", verdict.status))
