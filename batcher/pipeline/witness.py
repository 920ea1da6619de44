"""Whether the service's list of flows can be believed, before a journal that knows nothing makes, sends or starts anything.

In: the list as it was before the first create (`Context.before`), and that first flow. Out: `Context.unproven` is False, or
the run is halted. Called by the opener, for one flow while all others wait.

A journal that was lost leaves started flows of its batch on the service, and they are recognised on the list of flows. If
that list is one page of many they are not, and all of them are paid for again. Mostly the list says that there is more
(`Listing.whole`). One that is cut off without a word is found out by the run's first flow, which costs nothing before it is
started: a list that shows at most N flows, and showed N, cannot become longer by it. So the list that follows must show the
new flow, and all that were there before, and be longer. Cut off oldest first, the new flow is not on it; newest first, one
of the earlier ones has dropped out; in any other order it is no longer than before. (What is cut off by other rules, such as
by the age of flows, can only be found out by asking the provider.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Final

from ..core.errors import Reason, Stop
from ..core.facts import WATCH_S, AddOrphan, PutFlow, UnknownFlowsChecked, Watch
from ..core.lifecycle import FlowState
from ..core.pauses import endless
from ..core.remote import RemoteFlow
from ..core.retry import Call, Kind, Verdict
from ..core.tags import FlowTag, flow_key, generation_name, with_flow_tag
from .context import POLL_S, Builds, Context, FlowRun
from .orphans import abandon, delete

GONE: Final = 100  # flows that somebody deleted meanwhile are asked about, up to so many
LIST_ADVICE: Final = (
    "delete flows on the service that are done with, until its list shows all; or ask its provider how the list is paged"
)
ADVICE: Final = f"put the journal back if there was one; {LIST_ADVICE}"


def foreign(context: Context, builds: Builds) -> list[RemoteFlow]:
    """Flows of the batch on the list that the journal knows nothing of."""
    owner = context.journal.owner
    found = [flow for flow in builds.flows.values() if flow.tag is not None and flow.tag.owner != owner]
    if found:  # those that were taken over have the tags of a journal that was lost
        known = {facts.flow_id for facts in context.journal.flows()} | {flow_id for flow_id, _ in context.journal.orphans()}
        found = [flow for flow in found if flow.flow_id not in known]
    return found


async def prove(context: Context, flow: FlowRun, create: Callable[[], Awaitable[None]]) -> None:
    """Let `create` open the flow and see whether the list shows it. Raises Stop where that proves nothing: then the flow
    that was made for it is deleted, and the run is halted. The flow may fail; then the next one is to prove it."""
    before = context.before if context.before is not None else await context.lister.builds()
    if isinstance(before, Verdict):
        raise _halted(context, before, "the service's flows cannot be listed")
    own = flow.facts.state in (FlowState.PLANNED, FlowState.CREATING)
    if own:
        await create()
        if flow.failed or flow.facts.flow_id is None:
            return
    names, _ = await asyncio.to_thread(before.ids.distinct)
    own = own and (hash(flow.facts.flow_id) or 1) not in names  # else a lost create of an earlier run was found
    witness = flow.facts.flow_id if own else await _another(context, flow)
    assert witness is not None
    why = await shows(context, witness, before)
    if isinstance(why, Verdict):
        raise _halted(context, why, "whether the list of flows shows all cannot be told")
    if own and why:
        records, flow.facts = abandon(flow.facts)
        await context.journal.record(*records)
    if why or not own:
        await delete(context, witness, flow.name)
    if why:
        context.halt(Stop(Reason.UNSETTLED, f"{why}; whether the batch was paid for before cannot be told", ADVICE))
        assert context.stop is not None
        raise context.stop
    context.unproven, context.before = False, None
    await context.journal.record(UnknownFlowsChecked())


def _halted(context: Context, verdict: Verdict, what: str) -> Stop:
    reason = Reason.UNAVAILABLE if verdict.kind in (Kind.UNAVAILABLE, Kind.THROTTLED) else Reason.UNSETTLED
    context.halt(Stop(reason, f"{what}: {verdict.message}", "run again later", verdict.status))
    assert context.stop is not None
    return context.stop


def latest_tag(context: Context, flow: FlowRun) -> FlowTag:
    """The tag of the flow's latest create."""
    batch = context.manifest.batch
    key = flow_key(batch, flow.name).hex()
    return FlowTag(batch, flow.name, key, generation_name(context.journal.owner, flow.facts.generation))


async def _another(context: Context, flow: FlowRun) -> str:
    """A flow that is there for this alone, where the first one was there before. Raises Stop where it cannot be made."""
    spec = flow.plan.flow
    flow.facts = replace(flow.facts, generation=flow.facts.generation + 1)
    # Durable before the POST; should its reply be lost, the sweep finds it by its tag.
    await context.journal.record(PutFlow(flow.facts), Watch(context.journal.now() + WATCH_S))
    additional = with_flow_tag(spec.additional, latest_tag(context, flow))
    request = partial(context.client.create, spec.template or "", spec.parameters, additional, lambda: None)
    made = await context.ask(Call.CREATE, request)
    if isinstance(made, Verdict):
        raise _halted(context, made, "whether the list of flows shows all cannot be told, for none can be made")
    await context.journal.record(AddOrphan(made, flow.name))
    return made


async def shows(context: Context, witness: str, before: Builds | None = None) -> str | Verdict:
    """Why the list proves nothing; "" where it shows the flow that was just made, and, given the list `before` that, all else
    that it must. A list may lag: it is looked at again within the settling time."""
    until = context.clock.steady() + context.limits.settle_s
    for pause_s in endless(POLL_S):
        after = await context.lister.builds()
        if isinstance(after, Verdict):
            return after
        if not after.listing.whole:
            return f"the list of flows is not whole: {after.listing.why}"
        strange = [flow for flow in foreign(context, after) if flow.flow_id not in context.unknown_flows]
        if before is not None and strange:
            batch = context.manifest.batch
            return f"the journal knows nothing of it, but the service has {len(strange)} flow(s) of the batch “{batch}”"
        why = await _grown(context, before, after, witness)
        if not why or context.clock.steady() >= until:
            return why
        await context.sleep(pause_s)
    raise AssertionError("the pauses have no end")


async def _grown(context: Context, before: Builds | None, after: Builds, witness: str) -> str:
    """What speaks against that the list shows all, now that it has a flow more."""
    names, count = await asyncio.to_thread(after.ids.distinct)
    part = f"the list of flows, which shows {count:,}, seems to be a part of them"
    if (hash(witness) or 1) not in names:
        return f"{part}: a flow that was made just now is not on it"
    if before is None:
        return ""
    _, earlier = await asyncio.to_thread(before.ids.distinct)
    missing = {value for value in before.ids.hashes if value not in names}
    gone = 0
    for flow_id in (*before.ids.first, *before.ids.last) if 0 < len(missing) <= GONE else ():
        if (hash(flow_id) or 1) not in missing:
            continue
        found = await context.ask(Call.FLOW, partial(context.client.flow, flow_id))
        if isinstance(found, RemoteFlow):
            return f"{part}: the flow {flow_id} is there, and has dropped out of it"
        gone += found.kind is Kind.GONE
    if gone < len(missing):
        return f"{part}: {len(missing) - gone:,} flow(s) have dropped out of it"
    if count <= earlier:
        return f"{part}: it has not become longer by a flow that was made just now"
    return ""
