"""Opening a flow: it gets an id, once, however often a create is lost.

In: a `FlowRun` whose inputs are being produced. Out: the flow is opened, or has failed with a problem. Started by the
producer for each flow it begins, so that creates overlap with reading and with each other.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ..core.errors import Stop
from ..core.facts import WATCH_S, PutFlow, Watch
from ..core.lifecycle import FlowEvent, FlowState
from ..core.model import Problem
from ..core.remote import RemoteFlow
from ..core.retry import Call, Kind, Verdict
from ..core.tags import flow_key, with_flow_tag
from .context import Context, FlowRun, Settled
from .orphans import abandon, delete
from .witness import LIST_ADVICE, latest_tag, prove, shows


async def open_flow(context: Context, flow: FlowRun, settled: Settled) -> None:
    """Bring the flow to OPEN (or find it further); `flow.opened` is set in any case."""
    known = flow.facts.flow_id
    try:
        await _open(context, flow)
        if flow.facts.flow_id != known:
            flow.times.opened = context.clock.wall()
    except Stop:
        flow.failed = True
    finally:
        flow.opened.set()
    if flow.settled:
        settled(flow)


async def _open(context: Context, flow: FlowRun) -> None:
    if flow.facts.state is FlowState.PLANNED and not await _rid_of_earlier(context, flow):
        return
    if flow.facts.state is FlowState.PLANNED and flow.plan.flow.flow_id is not None:
        await _given(context, flow, flow.plan.flow.flow_id)
        return
    if context.unproven and not flow.facts.external:
        async with context.proving:  # one of them proves it, the others wait
            if context.stop is not None:
                raise context.stop
            if context.unproven:
                await prove(context, flow, partial(_create_or_find, context, flow))
    await _create_or_find(context, flow)


async def _create_or_find(context: Context, flow: FlowRun) -> None:
    again = False  # it is created once more, because the list does not show it
    while flow.facts.state in (FlowState.PLANNED, FlowState.CREATING) and not flow.failed:
        if flow.facts.state is FlowState.PLANNED or flow.facts.settle_deadline is None:
            await _create(context, flow)
            if again and flow.facts.flow_id is not None:
                await _see(context, flow, flow.facts.flow_id)
        else:
            await _settle(context, flow)
            again = True


async def _see(context: Context, flow: FlowRun, flow_id: str) -> None:
    """The list must show this one: else that it did not show the one before proves nothing, and this may be its twin. Then it
    is taken back, and whether the flow was created stays open."""
    why = await shows(context, flow_id)
    if not why:
        return
    if isinstance(why, Verdict):
        why = f"the flows cannot be listed: {why.message}"
    records, flow.facts = abandon(flow.facts)
    await context.journal.record(*records)
    await delete(context, flow_id, flow.name)
    flow.facts = flow.facts.on(FlowEvent.ANNOUNCE_CREATE, settle_deadline=context.journal.now())
    await context.journal.record(PutFlow(flow.facts))
    message = f"whether it was created cannot be told: {why}"
    context.problem(flow, Problem("unsettled", message, LIST_ADVICE, flow.plan.flow.place, flow.name))


async def _rid_of_earlier(context: Context, flow: FlowRun) -> bool:
    """Whether all that was given up of this flow is gone, in this run or an earlier one. Before that there must not be
    another one: a start of it that was lost could still arrive, and both would be paid for."""

    def orphans() -> list[str]:
        return [flow_id for flow_id, _ in context.journal.orphans(flow.name)]

    while orphans():
        await context.journal.record()  # what was deleted just now is no orphan any more
        for flow_id in orphans():
            started = await delete(context, flow_id, flow.name)
            if started is not None:
                flow.facts, flow.failed = started, True
                return False
        await context.journal.record()
        what = "what was given up of the flow could not be deleted"
        denied = next((verdict for one in orphans() if (verdict := context.undeletable.get(one)) is not None), None)
        if denied is not None:
            context.problem(flow, problem_from_read(denied, flow, what))
            return False
        if orphans() and not await context.try_again(flow, what):
            return False
    return True


async def _create(context: Context, flow: FlowRun) -> None:
    spec = flow.plan.flow
    flow.facts = flow.facts.on(FlowEvent.ANNOUNCE_CREATE, generation=flow.facts.generation + 1, settle_deadline=None)
    # Durable before the POST: a crash in between must read as unknown.
    await context.journal.record(PutFlow(flow.facts))
    additional = with_flow_tag(spec.additional, latest_tag(context, flow))
    key = flow_key(context.manifest.batch, flow.name)
    result = await context.ask(
        Call.CREATE,
        lambda: context.client.create(
            spec.template or "", spec.parameters, additional, lambda: context.journal.mark_sent(key)
        ),
    )
    if isinstance(result, str):
        context.emit("flow_created", flow.name, flow_id=result, template=spec.template)
        flow.facts = flow.facts.on(FlowEvent.CREATED, flow_id=result, settle_deadline=None)
        context.journal.post(PutFlow(flow.facts))
    elif result.kind is Kind.UNKNOWN:
        now = context.journal.now()
        flow.said = None, result
        context.emit("flow_create_unknown", flow.name, "warning", status=result.status, message=result.message)
        flow.facts = flow.facts.on(FlowEvent.NOT_CREATED).on(
            FlowEvent.ANNOUNCE_CREATE, settle_deadline=now + context.limits.settle_s
        )
        await context.journal.record(PutFlow(flow.facts), Watch(now + WATCH_S))
    else:
        flow.facts = flow.facts.on(FlowEvent.NOT_CREATED)
        context.journal.post(PutFlow(flow.facts))
        context.problem(flow, problem_from_verdict(result, flow, "the flow was not created"))


async def _settle(context: Context, flow: FlowRun) -> None:
    """A create without a reply: look for its tag, wait for the settling time, look again."""
    wanted = latest_tag(context, flow).name
    while True:
        late = context.journal.now() >= (flow.facts.settle_deadline or 0.0)
        looked = await (context.lister.sure() if late else context.lister.builds())
        if isinstance(looked, Verdict):
            message = "whether it was created cannot be told: the flows cannot be listed"
            context.problem(flow, problem_from_read(looked, flow, message))
            return
        builds, why = looked if isinstance(looked, tuple) else (looked, "")
        found = builds.flows.get(wanted)
        if found is not None:
            context.emit("flow_found", flow.name, flow_id=found.flow_id)
            flow.facts = flow.facts.on(FlowEvent.CREATED, flow_id=found.flow_id, settle_deadline=None)
            context.journal.post(PutFlow(flow.facts))
            return
        if late and why:  # it may be on a page that was not seen: to create it again could leave a twin
            message = f"whether it was created cannot be told: {why}"
            context.problem(flow, Problem("unsettled", message, LIST_ADVICE, flow.plan.flow.place, flow.name))
            return
        if late:
            flow.facts = flow.facts.on(FlowEvent.NOT_CREATED, settle_deadline=None)
            await context.try_again(flow, "the service did not create the flow")
            return
        await context.sleep((flow.facts.settle_deadline or 0.0) - context.journal.now())


async def _given(context: Context, flow: FlowRun, flow_id: str) -> None:
    other = context.journal.name_of(flow_id)
    if other is not None or context.journal.was_released(flow_id):
        known = f" as {other}" if other is not None else ""
        message = f"inputs were sent into the flow {flow_id} before{known}, and may yet arrive there"
        hint = "make a new flow on the service and name its id"
        context.problem(flow, Problem("unsettled", message, hint, flow.plan.flow.place, flow.name))
        return
    found = await context.ask(Call.FLOW, lambda: context.client.flow(flow_id))
    if isinstance(found, Verdict):
        if found.kind is Kind.GONE:
            message = f"the service does not know the flow {flow_id}"
            context.problem(flow, Problem("unsettled", message, "check flow_id, and whose key it is",
                                          flow.plan.flow.place, flow.name, status=404))  # fmt: skip
        else:
            context.problem(flow, problem_from_read(found, flow, "the flow cannot be looked at"))
        return
    if found.state not in ("created", ""):
        context.problem(flow, not_created(flow, found))
        return
    context.emit("flow_found", flow.name, flow_id=flow_id)
    flow.facts = flow.facts.on(FlowEvent.CREATED, flow_id=flow_id, external=True)
    await context.journal.record(PutFlow(flow.facts))


def not_created(flow: FlowRun, found: RemoteFlow) -> Problem:
    """The service shows a state that only a start by somebody else explains."""
    message = f"the service says that the flow is {found.state or 'in an unknown state'}, but batcher has not started it"
    hint = "somebody else may have; look at it on the service" if flow.plan.flow.flow_id else "--redo NAME pays for it again"
    return Problem("unsettled", message, hint, flow.plan.flow.place, flow.name)


def problem_from_read(verdict: Verdict, flow: FlowRun, what: str) -> Problem:
    """As `of_verdict`, for a request that only asks: one that is refused settles nothing, and no input was refused."""
    return problem_from_verdict(replace(verdict, kind=Kind.UNKNOWN) if verdict.kind is Kind.REFUSED else verdict, flow, what)


def problem_from_verdict(verdict: Verdict, flow: FlowRun, what: str, source: str | None = None) -> Problem:
    """A problem in people's words for a verdict that ended a request."""
    place = flow.plan.flow.place
    match verdict.kind:
        case Kind.REFUSED:
            hint = "change what the service objects to, then run again"
            return Problem("refused", f"{what}: {verdict.message}", hint, place, flow.name, source, verdict.status)
        case Kind.THROTTLED | Kind.UNAVAILABLE:
            return Problem("unavailable", f"{what}: {verdict.message}", "run again later", place, flow.name, source,
                           verdict.status)  # fmt: skip
        case _:
            return Problem("unsettled", f"{what}: {verdict.message}", "run again: the next run asks first", place,
                           flow.name, source, verdict.status)  # fmt: skip
