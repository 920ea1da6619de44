"""One run, from end to end: everything is checked, then done, then swept.

In: a manifest and the ports. Out: a `Report`. Called by the public API and the command line. It opens the two bounded
streams and the task group, and is the only place that knows all three stages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from ..core.chosen import Chosen
from ..core.errors import JournalError, Reason, Stop
from ..core.facts import AddOrphan, ClearOrphan, FlowFacts, InputFacts, PutFlow, PutInput, PutRun
from ..core.forecast import Requests, anew, over_caps
from ..core.lifecycle import FlowEvent, FlowState, InputEvent
from ..core.measuring import run_document
from ..core.model import Problem
from ..core.planning import Action, FlowPlan, Options, elsewhere
from ..core.remote import Listing, RemoteFlow, RemoteInput, Template
from ..core.retry import Call, Fault, Kind, Reply, Verdict
from ..core.tags import read_input_tag
from .context import Builds, Context, FlowRun, Payload, of_group, of_journal, spawn
from .finalizer import finalize
from .orphans import abandon, delete
from .planner import Planner, TemplateTypes
from .producer import Producer
from .starts import Starts, is_starting
from .witness import ADVICE, LIST_ADVICE, foreign
from .workers import work

QUEUE: Final = 512  # payloads between producer and workers; the byte budget bounds them further
FLOWS_OPEN: Final = 256  # flows worked on at once
MEASURES_S: Final = 30.0  # between two notes of what a run has measured: some 20 kB each


@dataclass(slots=True)
class Survey:
    """What the plan comes to: counts by action, and everything that is wrong."""

    actions: dict[Action, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    flows: int = 0
    inputs: int = 0
    bytes: int = 0
    to_send: int = 0
    to_send_bytes: int = 0
    to_send_encoded: int = 0  # the same data as base64, but for texts
    requests: Requests = field(default_factory=Requests)
    known: int = 0  # flows that the journal has a row of
    journaled: int = 0  # rows of flows in the journal, those that are no longer in the manifest among them
    new: int = 0  # inputs that the journal knows nothing of
    differs: int = 0  # inputs that were sent otherwise
    removed: int = 0  # inputs that were sent and are no longer in the manifest
    unsettled: int = 0  # flows whose start an earlier run had announced

    @property
    def works(self) -> bool:
        return any(action.works for action in self.actions)


def survey(context: Context, planner: Planner, each: Callable[[FlowPlan], None] = lambda plan: None) -> Survey:
    """Walk the plan once; fills the report's totals. Synchronous."""
    found = Survey()
    report = context.report
    if context.images is not None:
        context.images.stopping = lambda: context.stop
    for item in planner.flows():
        if context.stop is not None:
            raise context.stop
        if isinstance(item, Problem):
            found.problems.append(item)
            continue
        each(item)
        found.flows += 1
        found.actions[item.action] = found.actions.get(item.action, 0) + 1
        context.options.redo(item.flow.name)  # so that it knows which names there are
        found.problems += item.problems
        tally = item.tally
        again = anew(item.action)
        started = item.action in (Action.DONE, Action.CHANGED)
        found.inputs += tally.total + tally.faulty
        report.inputs.failed += tally.faulty if item.action is Action.BLOCKED else 0
        found.bytes += tally.total_bytes
        found.unsettled += item.action.works and is_starting(item)
        if found.requests.count(item, context.options, context.limits.starts_per_run):
            found.to_send += tally.total if again else tally.new
            found.to_send_bytes += tally.total_bytes if again else tally.new_bytes
            found.to_send_encoded += tally.total_encoded if again else tally.new_encoded
        found.known += item.facts is not None
        found.new += tally.new
        found.differs += tally.differs
        found.removed += tally.removed if item.action is not Action.DONE else 0
        report.flows.started += started
        report.flows.changed += item.action is Action.CHANGED
        report.inputs.uploaded += 0 if again else tally.sent + (tally.faulty if started else 0)  # whose sources have gone since
        report.inputs.bytes += 0 if again else tally.sent_bytes
        if item.action is Action.BLOCKED:
            report.flows.failed += 1
        if item.action is Action.CHANGED:
            context.problem(None, _changed(item, context.options))
    found.journaled = context.journal.count_flows()
    for note in [*context.manifest.notes(True), *_all_left(context, found)]:
        context.problem(None, note)
    if not found.problems:  # a flow that could not be told may be the one that was chosen
        found.problems += context.options.missed()
    report.flows.total, report.inputs.total = found.flows, found.inputs
    if context.images is not None:
        context.images.whole = True
    if found.works:
        _beside(context, found.requests)
    context.emit("planned", flows=found.flows, inputs=found.inputs, bytes=found.bytes, to_send=found.to_send,
                 to_send_bytes=found.to_send_bytes, starts=found.requests.starts, problems=len(found.problems))  # fmt: skip
    return found


def _changed(plan: FlowPlan, options: Options) -> Problem:
    flow = plan.flow
    message, flags = "it changed after it was started", "--resubmit-changed"
    if plan.facts is not None and elsewhere(plan.facts, flow.flow_id):
        message = f"it was started as {plan.facts.flow_id}, which is not what flow_id names now"
    elif options.checksum:  # without it the change may not be seen
        flags = "--checksum --resubmit-changed"
    return Problem("changed", message, f"{flags} pays for it again", flow.place, flow.name)


def _all_left(context: Context, found: Survey) -> list[Problem]:
    """That no flow of the journal is in the manifest any more: it may be done, or its files are out of reach."""
    if found.known or not found.journaled or found.problems or isinstance(context.options.only, Chosen):
        return []
    flows = "the only flow" if found.journaled == 1 else f"all {found.journaled:,} flows"
    message = f"{flows} of the journal {'has' if found.journaled == 1 else 'have'} left the manifest"
    return [Problem("note", message, "as it should be, where the files were taken away; else, is a disk not mounted?")]


def _beside(context: Context, requests: Requests) -> None:
    """The requests that belong to no single flow."""
    requests.looks += 1  # the templates
    if context.options.adopt or not context.journal.unknown_flows_checked:
        requests.looks += 1 + (requests.creates > 0)  # the second time with the first flow on it
    requests.looks += context.journal.watch_until > context.clock.wall()
    requests.deletes += len(context.journal.orphans())


def caps(context: Context, found: Survey) -> list[Problem]:
    """What the run would pass of the manifest's caps: found before the first request that writes."""
    return over_caps(context.manifest.limits, found.requests.starts, found.to_send_bytes)


def template_types(context: Context, loop: asyncio.AbstractEventLoop) -> Callable[[], TemplateTypes | None]:
    """The service's templates, asked for once, from the planner's thread, when the first flow needs them."""
    known: list[TemplateTypes | None] = []

    def get() -> TemplateTypes | None:
        if not known:
            known.append(asyncio.run_coroutine_threadsafe(_templates(context), loop).result())
        return known[0]

    return get


async def _templates(context: Context) -> TemplateTypes | None:
    found: list[Template] = []

    async def listing() -> Listing | Reply | Fault:
        found.clear()
        return await context.client.templates(found.append)

    listed = await context.in_time(context.ask(Call.TEMPLATES, listing))
    if isinstance(listed, Verdict) and listed.kind in (Kind.UNAVAILABLE, Kind.THROTTLED):
        raise Stop(Reason.UNAVAILABLE, f"the service is unavailable: {listed.message}", "run again later", listed.status)
    if isinstance(listed, Verdict) or not listed.whole:
        return None  # no list to be had, or a part: the service itself will refuse what it does not know
    return {name: template.types for template in found for name in (template.name, *template.other_names)} or None


async def run(context: Context) -> None:
    """Bring the batch to done; the outcome is in `context.report`."""
    loop = asyncio.get_running_loop()
    planner = Planner(context.manifest, context.journal, context.sources, context.options, template_types(context, loop),
                      context.images)  # fmt: skip
    began = context.clock.steady()
    began_at = context.clock.wall()
    notes = asyncio.ensure_future(_note_measures(context, began_at))
    try:
        found = await asyncio.to_thread(survey, context, planner)
        go_on = _may_go_on(context, found.problems)
        left = await context.in_time(_no_strangers(context, planner, found)) if go_on else None
        if left is not None and _may_go_on(context, caps(context, left)):  # after adopting: it may leave little to do
            # First of all: a lost start of what was given up must find it gone.
            await context.in_time(_delete_litter(context, frozenset()))
            if left.works:
                if context.images is not None:
                    context.images.stopping = lambda: None  # the stages end in their own order
                context.starts = _starts(context, left)
                await context.in_time(_stages(context, planner))
                _held_back(context, left)
            if context.stop is None:
                await context.in_time(_sweep(context))
            context.nothing_allowed()
    except Stop as stop:
        if context.report.stop is None:
            context.report.stop = stop
            context.emit_stop(stop)
    except BaseExceptionGroup as group:
        of_group(context, group)
    except JournalError as error:
        of_journal(context, error)
    finally:
        notes.cancel()
    report = context.report
    report.elapsed_s = context.clock.steady() - began
    report.flows.pending = max(0, report.flows.total - report.flows.started - report.flows.failed)
    report.inputs.pending = max(0, report.inputs.total - report.inputs.uploaded - report.inputs.failed)
    # Not awaited: what the run did is durable, and its outcome does not hang on what was measured. Closing writes it.
    context.journal.post(_measured(context, began_at, ended=True))


def _measured(context: Context, began_at: float, ended: bool) -> PutRun:
    document = run_document(context.report, context.measures, context.clock.steady(), ended)
    return PutRun(began_at, context.report.requests.sent, document)


async def _note_measures(context: Context, began_at: float) -> None:
    """What has been measured so far, now and then, for those who look while the run is under way, and should it be killed."""
    pause_s = 1.0  # soon after it began, so that a look at the journal shows that there is a run
    while True:
        await context.clock.sleep(pause_s)
        context.journal.post(_measured(context, began_at, ended=False))
        pause_s = MEASURES_S


def _may_go_on(context: Context, problems: list[Problem]) -> bool:
    """Everything that is wrong is said before the first write; only sources at fault may be gone past, if asked."""
    for problem in problems:
        context.problem(None, problem)
    kinds = {problem.kind for problem in problems} & {"manifest", "source"}
    return not kinds or (context.options.keep_going and kinds == {"source"})


def _starts(context: Context, found: Survey) -> Starts:
    """How many flows this run may start; without starts there is nothing to count."""
    return Starts(context.limits.starts_per_run if context.options.start else None, found.unsettled)


def _held_back(context: Context, found: Survey) -> None:
    """Say how many flows are left to the next runs."""
    starts = context.starts
    left = found.requests.begun + found.requests.held_back - starts.begun
    if starts.closed and left > 0 and context.stop is None:
        started = context.report.flows.started_now
        what = f"{started:,} flow{'' if started == 1 else 's'} started; --max-starts (limits.starts_per_run)"
        message = f"{what} allows {starts.most:,} in one run, and {left:,} remain"
        context.report.stop = Stop(Reason.LIMIT, message, "run again: the next run goes on")
        context.emit_stop(context.report.stop)


async def _stages(context: Context, planner: Planner) -> None:
    width = context.limits.concurrency
    # asyncio's queue, for anyio's streams go around the loop once for each item: 25 µs of the 100 that one may take
    payloads: asyncio.Queue[Payload | None] = asyncio.Queue(max(QUEUE, 2 * width))
    slots = asyncio.Semaphore(max(FLOWS_OPEN, 4 * width))
    async with asyncio.TaskGroup() as group:

        def settled(flow: FlowRun) -> None:
            spawn(group, finalize(context, flow, slots))

        for _ in range(2 * width):
            spawn(group, work(context, payloads, settled))
        await Producer(context, planner, group, slots, payloads, settled).run()
        for _ in range(2 * width):
            await payloads.put(None)


async def _sweep(context: Context) -> None:
    """Delete what was given up, and twins of lost creates, as far as the service's list shows them."""
    await context.journal.record()  # what a stage has just deleted is no orphan any more
    tried = await _delete_litter(context, frozenset())
    if context.journal.watch_until > context.journal.now():
        looked = await context.lister.sure()
        if isinstance(looked, Verdict):
            message = f"whether lost creates left flows behind cannot be told: {looked.message}"
            context.problem(None, Problem("unavailable", message, "the next run looks again", status=looked.status))
        else:
            builds, why = looked
            if why:
                message = f"whether lost creates left flows behind cannot be told: {why}"
                context.problem(None, Problem("unsettled", message, LIST_ADVICE))
            for flow in builds.flows.values():
                if flow.tag is None or flow.tag.owner != context.journal.owner or flow.state not in ("created", ""):
                    continue
                facts = context.journal.flow(flow.tag.flow)
                if facts is None or facts.flow_id != flow.flow_id:
                    await context.journal.record(AddOrphan(flow.flow_id, flow.tag.flow))
    await _delete_litter(context, tried)
    for flow_id, name in context.journal.orphans():
        message = f"the flow {flow_id}, given up and never started, could not be deleted"
        denied = context.undeletable.get(flow_id)
        if denied is None:
            context.problem(None, Problem("unavailable", message, "the next run tries again", flow=name))
        else:
            hint = "delete it yourself, or run again with a key that may"
            context.problem(None, Problem("unsettled", f"{message}: {denied.message}", hint, flow=name, status=denied.status))


async def _delete_litter(context: Context, tried: frozenset[str]) -> frozenset[str]:
    """Delete what the journal has given up, but for those that were `tried` just now; returns the ids."""
    orphans = [(flow_id, name) for flow_id, name in context.journal.orphans() if flow_id not in tried]
    for flow_id, name in orphans:
        facts = context.journal.flow(name)
        if facts is not None and facts.flow_id == flow_id:
            context.journal.post(ClearOrphan(flow_id))  # it is in use: whatever the journal says, it is none
        else:
            await delete(context, flow_id, name)
    if orphans:
        await context.journal.record()
    return frozenset(flow_id for flow_id, _ in orphans)


async def clean_flows(context: Context, yes: bool) -> list[tuple[str, str]]:
    """(flow_id, name) of the batch's flows that were never started. `yes`: the journal gives them up, then they go."""
    builds = await context.lister.builds()
    if isinstance(builds, Verdict):
        message = f"the service's flows cannot be listed: {builds.message}"
        reason = Reason.UNSETTLED if builds.kind is Kind.REFUSED else Reason.UNAVAILABLE
        raise Stop(reason, message, "run it again later", builds.status)
    if not builds.listing.whole:
        message = f"there may be more: the list of flows is not whole: {builds.listing.why}"
        context.problem(None, Problem("unsettled", message, LIST_ADVICE))
    found = [(f.flow_id, f.tag.flow) for f in builds.flows.values() if f.tag is not None and f.state in ("created", "")]
    for flow_id, name in found if yes else ():
        facts = context.journal.flow(name)
        if facts is not None and facts.flow_id == flow_id and facts.state is FlowState.OPEN and not facts.external:
            records, _ = abandon(facts)
            await context.journal.record(*records)
        elif facts is not None and facts.flow_id == flow_id:
            continue  # its start may be under way: the next run settles that first
        await delete(context, flow_id, name)
    if yes:
        await _forget_unknown(context, {flow.flow_id for flow in builds.flows.values()})
    return found


async def _forget_unknown(context: Context, known: set[str]) -> None:
    """Open flows of ours that the service no longer knows: somebody deleted them, so they are to be built anew. Each is
    asked for: that the list does not show it proves nothing."""
    for facts in list(context.journal.flows()):
        if facts.state is not FlowState.OPEN or facts.external or facts.flow_id is None or facts.flow_id in known:
            continue
        shown = await context.ask(Call.FLOW, partial(context.client.flow, facts.flow_id))
        if isinstance(shown, Verdict) and shown.kind is Kind.GONE:
            records, _ = abandon(facts)
            await context.journal.record(*records)
        elif isinstance(shown, Verdict):
            message = f"whether the flow {facts.flow_id} is still there cannot be told: {shown.message}"
            context.problem(None, Problem("unavailable", message, "run it again later", flow=facts.name, status=shown.status))


async def _no_strangers(context: Context, planner: Planner, found: Survey) -> Survey | None:
    """Once for each journal: are flows of this batch on the service that it does not know? Then a journal was lost, and
    paying twice is near; the run stops (None), or takes over what matches where that was asked for. What is left to do. The
    first flow that is made has to show that the list may be believed: see `witness`."""
    if not context.options.adopt and (context.journal.unknown_flows_checked or not found.works):
        return found
    builds = await context.lister.builds()
    if isinstance(builds, Verdict):
        message = f"the service's flows cannot be listed: {builds.message}"
        if builds.kind in (Kind.UNAVAILABLE, Kind.THROTTLED):
            raise Stop(Reason.UNAVAILABLE, message, "run again later", builds.status)
        context.problem(None, Problem("unsettled", message, "run again later", status=builds.status))
        return None
    strange = foreign(context, builds)
    problem = of_list(context, builds, [] if context.options.adopt else strange)
    if problem is not None:
        context.problem(None, problem)
        return None
    if not context.journal.unknown_flows_checked:
        context.unproven = True
        context.unknown_flows = frozenset(flow.flow_id for flow in strange)
        # What is deleted before the first flow is made would be missing from the list after it.
        context.before = None if strange or context.journal.orphans() else builds
    return await _adopt(context, planner, strange) if strange else found


def of_list(context: Context, builds: Builds, strange: Sequence[RemoteFlow]) -> Problem | None:
    """Why a journal that knows nothing may not begin, as far as the list of flows tells."""
    if strange:
        return _of_strangers(context, strange)
    if not builds.listing.whole:
        message = f"the list of flows is not whole: {builds.listing.why}; whether the batch was paid for before cannot be told"
        return Problem("unsettled", message, ADVICE)
    return None


def _of_strangers(context: Context, found: Sequence[RemoteFlow]) -> Problem:
    message = (f"the journal knows nothing of it, but the service has {len(found)} flow(s) of the batch "
               f"“{context.manifest.batch}”")  # fmt: skip
    hint = "put the journal back, or take them over with --adopt, or give this batch another name"
    return Problem("unsettled", message, hint)


async def _adopt(context: Context, planner: Planner, remote: list[RemoteFlow]) -> Survey:
    """Take over what matches by tag and content: started flows as started, open ones as open, the rest are orphans. Returns
    what is left to do."""
    everything = Planner(context.manifest, context.journal, context.sources, replace(context.options, only=lambda name: True),
                         planner.templates, context.images)  # fmt: skip
    by_name: dict[str, list[RemoteFlow]] = {}
    for flow in remote:
        assert flow.tag is not None
        by_name.setdefault(flow.tag.flow, []).append(flow)
    plans = await asyncio.to_thread(lambda: [p for p in everything.flows() if isinstance(p, FlowPlan)])
    for plan in plans:
        flows = by_name.pop(plan.flow.name, [])
        flows.sort(key=lambda flow: flow.state in ("created", ""))  # a started one first: it is paid for
        taken = plan.facts is not None and plan.facts.state is not FlowState.PLANNED  # the journal knows another
        for flow in flows:
            if plan.facts is not None and plan.facts.flow_id == flow.flow_id:
                continue  # taken over before
            if not taken and await _adopt_one(context, planner, plan, flow):
                taken = True
            elif flow.state in ("created", ""):
                await context.journal.record(AddOrphan(flow.flow_id, plan.flow.name))
    context.report.flows.started = context.report.inputs.uploaded = context.report.inputs.bytes = 0
    context.report.flows.changed = context.report.flows.failed = context.report.inputs.failed = 0
    return await asyncio.to_thread(survey, context, planner)


async def _adopt_one(context: Context, planner: Planner, plan: FlowPlan, remote: RemoteFlow) -> bool:
    """Whether it was taken over: an open flow whose inputs are the manifest's; a started one always, for it is
    paid for (where its inputs differ, or cannot carry a tag, the plan will say that it changed)."""
    rows = await _adoptable(context, planner, plan, remote)
    started = remote.state not in ("created", "")
    if rows is None and not started:
        return False
    facts = FlowFacts(plan.flow.name, generation=plan.facts.generation if plan.facts is not None else 0)
    if rows is not None:
        facts = replace(facts, spec_digest=plan.spec_digest, stat_digest=plan.stat_digest, inputs=plan.tally.total,
                        size_bytes=plan.tally.total_bytes)  # fmt: skip
    event = FlowEvent.START_SEEN if started else FlowEvent.CREATED
    at = context.clock.wall() if started else None
    # What the journal that was lost had sent a second time may yet be done.
    start_after = None if started else context.journal.now() + context.limits.settle_s
    facts = facts.on(event, flow_id=remote.flow_id, started_at=at, start_after=start_after)
    await context.journal.record(PutFlow(facts), *(rows or ()))
    return True


async def _adoptable(context: Context, planner: Planner, plan: FlowPlan, remote: RemoteFlow) -> list[PutInput] | None:
    """The rows of the flow's inputs where they are the manifest's; None where they are not. Raises Stop where the
    service does not tell."""
    shown: dict[bytes, bytes] = {}
    unknown_flows = 0

    def take(asset: RemoteInput) -> None:
        nonlocal unknown_flows
        tag = read_input_tag(asset.additional)
        if tag is None or tag[0] in shown:
            unknown_flows += 1
        else:
            shown[tag[0]] = tag[1]

    async def listing() -> Listing | Reply | Fault:
        nonlocal unknown_flows
        shown.clear()
        unknown_flows = 0
        return await context.client.inputs(remote.flow_id, take)

    listed = await context.ask(Call.INPUTS, listing)
    if isinstance(listed, Verdict):
        raise Stop(Reason.UNAVAILABLE, f"a flow's inputs cannot be listed: {listed.message}", "run --adopt again",
                   listed.status)  # fmt: skip
    if unknown_flows or not listed.whole:
        return None
    rows: list[PutInput] = []
    inputs = await asyncio.to_thread(lambda: list(planner.inputs(plan.flow, None)))
    for item in inputs:
        if isinstance(item, Problem):
            return None
        sha256 = await asyncio.to_thread(context.sources.digest, item.input)
        if isinstance(sha256, Problem) or shown.pop(item.key, None) != sha256:
            return None  # one that is not listed may have been sent, and is never sent into the same flow again
        row = InputFacts(item.key, sha256=sha256, spec_digest=item.spec_digest, stat=item.stat)
        rows.append(PutInput(plan.flow.name, row.on(InputEvent.ANNOUNCE).on(InputEvent.ACCEPT)))
    return None if shown else rows
