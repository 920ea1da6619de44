"""The third stage: each flow whose payloads have all come back is listed, compared, and only then started.

In: `FlowRun`s. Out: flows started, given up (and back to the producer), or left with a problem. Called by `run`.
The start is the commit point: until then everything can be given up for nothing, after it nothing can be undone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from ..core.errors import Stop
from ..core.events import Level
from ..core.facts import InputFacts, PutFlow, PutInput, PutTimes, Record
from ..core.lifecycle import FlowEvent, FlowState, InputEvent
from ..core.model import Input, Problem
from ..core.pauses import pause_after
from ..core.reconcile import (
    Incomplete,
    Listed,
    Rebuild,
    Reconciled,
    Refused,
    SendAgain,
    Start,
    Unproven,
    Wait,
    expected_sum,
    listed_sum,
    reconcile,
)
from ..core.remote import Listing, RemoteFlow, RemoteInput, StartReply
from ..core.report import problem_json
from ..core.retry import Call, Fault, Kind, Reply, Verdict
from ..core.tags import InputKeys, Multiset, can_carry_tag, flow_key, read_input_tag, untagged_ident
from .context import POLL_S, Context, FlowRun
from .opener import not_created, problem_from_read, problem_from_verdict
from .orphans import abandon, delete

HELD: Final = 1000  # assets summed at a time; none is held where the sum is right
PROCESSING_S: Final = 600.0  # so long they may be processed
# Nothing ever leaves a flow, so a list with fewer is older than the one before it.
FEWER: Final = Reconciled(Rebuild("the service lists fewer inputs than a moment before"))


async def finalize(context: Context, flow: FlowRun, slots: asyncio.Semaphore) -> None:
    """One flow. They are finalized side by side: the limiter bounds their requests."""
    comes_again = False
    try:
        comes_again = await _settle(context, flow)
    except Stop:
        pass
    finally:
        context.journal.post(PutTimes(flow.name, flow.times))
        if comes_again:
            context.requeued.append(flow)
        else:
            context.starts.settle(flow.announced, flow.facts.state)
        if not comes_again and flow.failed and flow.problem is None and context.stop is None:
            context.report.flows.failed += 1
        context.active -= 1
        slots.release()
        context.changed.set()


async def _settle(context: Context, flow: FlowRun) -> bool:
    """True where the producer is to look at the flow again."""
    if context.stop is not None:
        return False
    if flow.facts.state is FlowState.STARTING:
        return await _settle_start(context, flow)
    if flow.trouble is not None:
        await _look_at_trouble(context, flow)
    if flow.failed or flow.facts.flow_id is None:
        await _note_problem(context, flow)
        return False
    began = context.clock.steady()
    polls = 0
    while True:
        found = await _compare(context, flow)
        if isinstance(found, Verdict):
            flow.trouble = found
            await _look_at_trouble(context, flow)
            await _note_problem(context, flow)
            return False
        await _record_seen(context, flow, found)
        match found.decision:
            case Start():
                flow.times.verified = context.clock.wall()
                context.emit("flow_verified", flow.name, flow_id=flow.facts.flow_id, inputs=flow.plan.tally.total)
                if not context.options.start:
                    return False
                return await _start(context, flow)
            case Wait(until=None, why=why):
                if context.clock.steady() - began > PROCESSING_S:
                    context.problem(flow, _unsettled(flow, f"{why}, after {PROCESSING_S:.0f} s"))
                    await _note_problem(context, flow)
                    return False
                await context.sleep(pause_after(polls, POLL_S))
                polls += 1
            case Wait(until=float(until)):
                await context.sleep(until - context.journal.now())
            case SendAgain(keys=keys, start_after=start_after):
                await _send_again(context, flow, keys, start_after)
                what = f"the upload of {flow.said[0]}" if flow.said is not None and flow.said[0] else "an upload"
                return await context.try_again(flow, f"the service answered {what} with an error, and does not list it")
            case Refused(keys=keys):
                await _refused(context, flow, keys)
                return False
            case Rebuild(why=why):
                return await _rebuild(context, flow, why)
            case Unproven(why=why):
                message = f"{why}; nothing was started, sent again or given up on its word"
                hint = f"look at the flow {flow.facts.flow_id} on the service; batcher clean --yes gives up what is not started"
                context.problem(flow, Problem("unsettled", message, hint, flow.plan.flow.place, flow.name))
                await _note_problem(context, flow)
                return False
            case Incomplete():
                flow.rebuilds += 1
                return True


async def _compare(context: Context, flow: FlowRun) -> Reconciled | Verdict:
    """List and hold against the journal. A right list is recognised by its sum, in constant memory.

    A list with no sign of more, and as many as were meant, is taken for all there is: what could be beyond it was sent by
    somebody else, or twice, and an input is sent again only after the service has answered that it was not done."""
    flow_id = flow.facts.flow_id
    assert flow_id is not None
    await context.journal.record()  # all outcomes that were posted are rows now
    now = context.journal.now()  # before the list is asked for: what comes later is not on it
    untagged: dict[bytes, bytes] = {}
    digests: dict[str, bytes] = {}
    rows: list[InputFacts] = []  # without a tag; mostly none
    counted = 0  # assets on the list before
    expected = expected_sum(_tagged(context.journal.input_rows(flow.name), rows), untagged)
    if rows:
        untagged = await asyncio.to_thread(_untagged, context, flow, rows)
        found = await _digests(context, flow_id, flow.plan.tally.total, digests)
        if isinstance(found, Verdict | Reconciled):
            return found
        counted = found
        bare = expected_sum(rows, untagged)
        expected = None if expected is None or bare is None else expected + bare
    total = Multiset()
    ready = True
    part: list[Listed] = []

    def take(asset: RemoteInput) -> None:
        nonlocal ready
        part.append(_listed(asset, digests))
        if len(part) >= HELD:
            ready = listed_sum(part, total) and ready
            part.clear()

    async def listing() -> Listing | Reply | Fault:
        nonlocal ready
        part.clear()  # an attempt before this one may have come half-way
        total.count = total.value = 0
        ready = True
        return await context.client.inputs(flow_id, take)

    listed = await context.ask(Call.INPUTS, listing)
    if isinstance(listed, Verdict) or not listed.whole:
        return listed if isinstance(listed, Verdict) else _part(listed)
    held = list(part)
    complete = total.count == 0
    ready = listed_sum(part, total) and ready
    if total.count < counted:
        return FEWER
    early = flow.facts.start_after is not None and now < flow.facts.start_after
    if expected == total and total.count == flow.plan.tally.total and ready and not early:
        return Reconciled(Start())
    if not complete:
        detailed = 0

        def hold(asset: RemoteInput) -> None:
            nonlocal detailed
            detailed += 1
            if len(held) <= flow.plan.tally.total:  # one more than was meant is proof enough that the list is wrong
                held.append(_listed(asset, digests))

        async def in_detail() -> Listing | Reply | Fault:
            nonlocal detailed
            held.clear()
            detailed = 0
            return await context.client.inputs(flow_id, hold)

        listed = await context.ask(Call.INPUTS, in_detail)
        if isinstance(listed, Verdict) or not listed.whole:
            return listed if isinstance(listed, Verdict) else _part(listed)
        if detailed < total.count:
            return FEWER
    rows = list(context.journal.input_rows(flow.name))
    meant, start_after = flow.plan.tally.total, flow.facts.start_after
    return reconcile(rows, untagged, held, meant=meant, now=now, start_after=start_after)


def _part(listed: Listing) -> Reconciled:
    return Reconciled(Unproven(f"the list of its inputs is not whole: {listed.why}"))


def _tagged(rows: Iterable[InputFacts], others: list[InputFacts]) -> Iterator[InputFacts]:
    for row in rows:
        if row.tagged:
            yield row
        else:
            others.append(row)


def _listed(asset: RemoteInput, digests: Mapping[str, bytes]) -> Listed:
    tag = read_input_tag(asset.additional)
    if tag is not None:
        return Listed(tag[0], tag[1], asset.status)
    if can_carry_tag(asset.additional) and asset.additional is not None:
        return Listed(b"foreign", b"", asset.status, tagged=False)
    sha256 = digests.get(asset.asset_id, b"")
    try:
        return Listed(untagged_ident(sha256, asset.additional), sha256, asset.status, tagged=False)
    except RecursionError:  # deeper than anything that was sent
        return Listed(b"foreign", b"", asset.status, tagged=False)


def _meant(context: Context, flow: FlowRun) -> Iterator[tuple[bytes, Input]]:
    """The flow's inputs with their keys, from the manifest alone: no source is looked at. In a thread: it may be long."""
    keys = InputKeys(context.manifest.batch, flow.name)
    for item in flow.plan.flow.inputs():
        if isinstance(item, Input):
            yield keys.next(item), item


def _labels(context: Context, flow: FlowRun, keys: Collection[bytes]) -> dict[bytes, str]:
    return {key: source.label for key, source in _meant(context, flow) if key in keys}


def _untagged(context: Context, flow: FlowRun, rows: list[InputFacts]) -> dict[bytes, bytes]:
    """key → what an input without a tag is listed under; its `additional` is only in the manifest."""
    wanted = {row.key: row.sha256 or b"" for row in rows}
    found: dict[bytes, bytes] = {}
    for key, source in _meant(context, flow):
        if key in wanted and not can_carry_tag(source.additional):
            assert not isinstance(source.additional, dict)
            found[key] = untagged_ident(wanted[key], source.additional)  # type: ignore[arg-type]
    return {key: found.get(key, b"not in the manifest") for key in wanted}


async def _digests(context: Context, flow_id: str, meant: int, digests: dict[str, bytes]) -> int | Verdict | Reconciled:
    """The data's digest of every asset that has no tag, one asset at a time; of none where there are more than were meant.
    Returns how many assets are listed in all."""
    bare: list[str] = []
    count = 0

    def take(asset: RemoteInput) -> None:
        nonlocal count
        count += 1
        if len(bare) <= meant and read_input_tag(asset.additional) is None:
            bare.append(asset.asset_id)

    async def listing() -> Listing | Reply | Fault:
        nonlocal count
        bare.clear()
        count = 0
        return await context.client.inputs(flow_id, take)

    listed = await context.ask(Call.INPUTS, listing)
    if isinstance(listed, Verdict) or not listed.whole:
        return listed if isinstance(listed, Verdict) else _part(listed)
    if len(bare) > meant:
        return count  # whatever they hold, the list is wrong
    for asset_id in bare:
        if asset_id and asset_id not in digests:
            request = partial(context.client.input_digest, flow_id, asset_id)
            found = await context.ask(Call.INPUT, request)
            if isinstance(found, Verdict):
                return found
            digests[asset_id] = found
    return count


def _rows(context: Context, flow: FlowRun, keys: tuple[bytes, ...]) -> list[InputFacts]:
    return list(context.journal.inputs(flow.name, keys).values())


async def _record_seen(context: Context, flow: FlowRun, found: Reconciled) -> None:
    records: list[Record] = []
    for row in _rows(context, flow, found.seen):
        records.append(PutInput(flow.name, row.on(InputEvent.ACCEPT, settle_deadline=None)))
        context.count(flow, 1, row.stat.size)
    until = context.journal.now() + context.limits.settle_s
    if context.events.enabled and (found.seen or found.missing):
        await _emit_settled(context, flow, found)
    # Once this is past, the list is not believed.
    records += [PutInput(flow.name, replace(row, settle_deadline=until)) for row in _rows(context, flow, found.missing)]
    if records:
        await context.journal.record(*records)


async def _emit_settled(context: Context, flow: FlowRun, found: Reconciled) -> None:
    """By their names, which only the manifest has: a walk that a log is worth."""
    seen = set(found.seen)
    labels = await asyncio.to_thread(_labels, context, flow, seen | set(found.missing))
    for key, label in labels.items():
        level: Level = "info" if key in seen else "warning"
        context.emit("input_settled", flow.name, level, input=label, seen=key in seen)


async def _send_again(context: Context, flow: FlowRun, keys: tuple[bytes, ...], start_after: float) -> None:
    records: list[Record] = [
        PutInput(flow.name, row.on(InputEvent.NOT_SENT, settle_deadline=None, answered=False, resent=True))
        for row in _rows(context, flow, keys)
    ]
    flow.facts = replace(flow.facts, start_after=max(start_after, flow.facts.start_after or 0.0))
    await context.journal.record(*records, PutFlow(flow.facts))


async def _refused(context: Context, flow: FlowRun, keys: tuple[bytes, ...]) -> None:
    """The service found fault with inputs it had taken: they cannot be taken out, so the flow is built anew next time."""
    names = await asyncio.to_thread(_labels, context, flow, set(keys))
    for key in keys:
        label = names.get(key, "")
        message = f"{label} was accepted, and then found to be in error"
        context.problem(flow, Problem("refused", message, "replace the file, then run again",
                                      flow.plan.flow.place, flow.name, label))  # fmt: skip
    if flow.facts.external:
        await _note_problem(context, flow)
        return
    await _abandon(context, flow, "the service found fault with inputs that it had taken")


async def _rebuild(context: Context, flow: FlowRun, why: str) -> bool:
    if flow.facts.external:
        context.problem(flow, Problem("unsettled", f"{why}, and batcher deletes no flow that was given by its id",
                                      "make a new flow and name its id", flow.plan.flow.place, flow.name))  # fmt: skip
        await _note_problem(context, flow)
        return False
    flow.rebuilds += 1
    return await _abandon(context, flow, why)


async def _abandon(context: Context, flow: FlowRun, why: str) -> bool:
    """Whether it is gone, so that it can be built anew."""
    flow_id = flow.facts.flow_id
    assert flow_id is not None
    context.emit("flow_given_up", flow.name, "warning", flow_id=flow_id, message=why)
    records, flow.facts = abandon(flow.facts)
    await context.journal.record(*records)
    context.count(flow, -flow.uploaded, -flow.uploaded_bytes)
    started = await delete(context, flow_id, flow.name)
    if started is not None:
        flow.facts, flow.failed = started, True
    return started is None


async def _start(context: Context, flow: FlowRun) -> bool:
    flow_id = flow.facts.flow_id
    assert flow_id is not None
    flow.announced = True
    flow.facts = flow.facts.on(FlowEvent.ANNOUNCE_START, settle_deadline=None, problem=None)
    await context.journal.record(PutFlow(flow.facts))
    key = flow_key(context.manifest.batch, flow.name)
    answer = await context.ask(
        Call.START, lambda: context.client.start(flow_id, lambda: context.journal.mark_sent(key))
    )
    if isinstance(answer, StartReply):
        if answer.started:
            await _started(context, flow)
            return False
        said = answer.error or "the reply does not say that it was started"
        answer = Verdict(Kind.UNKNOWN, f"the start was answered, but {said}", answered=bool(answer.error))
    verdict = answer
    if verdict.kind in (Kind.UNKNOWN, Kind.CONFLICT, Kind.REFUSED, Kind.GONE):
        if verdict.kind is Kind.UNKNOWN:
            flow.said = None, verdict
            context.emit("flow_start_unknown", flow.name, "warning", flow_id=flow_id, status=verdict.status,
                         message=verdict.message)  # fmt: skip
        # With a time in any case: without one the next run could take it for a start that never left.
        settle_s = context.limits.settle_s if verdict.kind is Kind.UNKNOWN else 0.0
        flow.facts = replace(flow.facts, settle_deadline=context.journal.now() + settle_s)
        await context.journal.record(PutFlow(flow.facts))
        return await _settle_start(context, flow, verdict)
    flow.facts = flow.facts.on(FlowEvent.NOT_STARTED)
    context.problem(flow, problem_from_verdict(verdict, flow, "the flow was not started"))
    await _note_problem(context, flow)
    return False


async def _settle_start(context: Context, flow: FlowRun, said: Verdict | None = None) -> bool:
    """A start without a reply, or one that was refused (perhaps because an earlier one arrived): the state tells.

    A start that nobody answered, and that shows in no state after the settling time, is never sent again: should the service
    take both, both are paid for. The flow is given up and deleted, which works only while it is not started, and built anew.
    Where the service answered with an error (500, 502, or in words) it will not do it later, and the start is sent again."""
    flow_id = flow.facts.flow_id
    assert flow_id is not None
    polls = 0
    while True:
        late = context.journal.now() >= (flow.facts.settle_deadline or 0.0)
        found = await context.ask(Call.FLOW, lambda: context.client.flow(flow_id))
        if isinstance(found, Verdict):
            if found.kind is Kind.GONE:
                found = replace(found, message=f"the service does not know it ({found.message})")
            context.problem(flow, _unsettled(flow, f"whether it was started cannot be told: {found.message}"))
            await _note_problem(context, flow)
            return False
        if found.state not in ("created", ""):
            await _started(context, flow)
            return False
        if said is not None and said.kind is not Kind.UNKNOWN:
            flow.facts = flow.facts.on(FlowEvent.NOT_STARTED, settle_deadline=None)
            context.problem(flow, problem_from_verdict(replace(said, kind=Kind.REFUSED), flow, "the flow was not started"))
            await _note_problem(context, flow)
            return False
        if late and said is not None and said.answered:
            flow.facts = flow.facts.on(FlowEvent.NOT_STARTED, settle_deadline=None)
            await context.journal.record(PutFlow(flow.facts))
            return await context.try_again(flow, "the service did not start the flow")
        if late and not found.state:  # it may run, or have ended: then a deletion would take what is paid for
            context.problem(flow, _unsettled(flow, "whether it was started cannot be told: the service shows no state of it"))
            await _note_problem(context, flow)
            return False
        if late:
            return await _never_started(context, flow, said)
        left_s = (flow.facts.settle_deadline or 0.0) - context.journal.now()
        await context.sleep(min(left_s, pause_after(polls, POLL_S)))
        polls += 1


async def _never_started(context: Context, flow: FlowRun, said: Verdict | None) -> bool:
    """A start that may yet be done, and is not seen: whether the flow is to be built anew."""
    why = "the service does not show that it was started"
    if said is not None and said.message:
        why = f"{why} ({said.message})"
    if flow.facts.external:  # it stays as it is: each run asks again, and sends nothing
        hint = f"start the flow {flow.facts.flow_id} on the service yourself; the next run sees that"
        problem = Problem("unsettled", f"{why}, and may yet", hint, flow.plan.flow.place, flow.name)
        context.problem(flow, problem)
        await _note_problem(context, flow)
        return False
    flow.rebuilds += 1
    return await _abandon(context, flow, why)


async def _started(context: Context, flow: FlowRun) -> None:
    flow.times.started = context.clock.wall()
    flow.facts = flow.facts.on(FlowEvent.START_SEEN, settle_deadline=None, start_after=None, problem=None,
                               started_at=flow.times.started)  # fmt: skip
    await context.journal.record(PutFlow(flow.facts))
    context.emit("flow_started", flow.name, flow_id=flow.facts.flow_id, inputs=flow.uploaded, bytes=flow.uploaded_bytes)
    context.report.flows.started += 1
    context.report.flows.started_now += 1


async def _look_at_trouble(context: Context, flow: FlowRun) -> None:
    """The flow is gone, or takes no inputs, or cannot be listed: say what the service shows."""
    trouble, flow_id = flow.trouble, flow.facts.flow_id
    assert trouble is not None
    if trouble.kind is Kind.CONFLICT and flow_id is not None:
        found = await context.ask(Call.FLOW, lambda: context.client.flow(flow_id))
        if isinstance(found, RemoteFlow) and found.state not in ("created", ""):
            context.problem(flow, not_created(flow, found))
            return
    if trouble.kind is Kind.GONE:
        message = f"the service does not know the flow {flow_id}"
        hint = "another account's key? if somebody deleted it, batcher clean forgets it"
        context.problem(flow, Problem("unsettled", message, hint, flow.plan.flow.place, flow.name, status=404))
        return
    context.problem(flow, problem_from_read(trouble, flow, "the flow's inputs are not certain"))


def _unsettled(flow: FlowRun, message: str) -> Problem:
    return Problem("unsettled", message, "run again: the next run asks first", flow.plan.flow.place, flow.name)


async def _note_problem(context: Context, flow: FlowRun) -> None:
    """Keep the flow's last problem for `status`."""
    if flow.problem is not None:
        flow.facts = replace(flow.facts, problem=json.dumps(problem_json(flow.problem)))
        await context.journal.record(PutFlow(flow.facts))
