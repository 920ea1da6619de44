"""Aborting: the batch's flows that run on the service are found, and ended there where that was asked for.

In: the journal's started flows. Out: a `Running` for each that ran, problems in the report. Called by the public API. The
journal stays as it is: the flows are paid for, and `collect` says that they were aborted and brings what they left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ..core.aborting import Phase, phase
from ..core.collecting import Step, step
from ..core.errors import JournalError, Stop
from ..core.facts import FlowFacts
from ..core.lifecycle import FlowState
from ..core.model import Problem, ProblemKind
from ..core.pauses import pause_after
from ..core.remote import RemoteFlow
from ..core.retry import Call, Kind, Verdict, backoff_s
from .context import Context, of_group, of_journal

POLL_S: Final = (0.2, 0.5, 1.0, 2.0, 4.0)  # while a flow whose abort was taken is still shown as running
AGAIN_S: Final = (0.2, 0.5, 1.0)  # where a flow is shown without its state


@dataclass(frozen=True, slots=True)
class Running:
    """A flow that ran. `became` is the state that the service shows after the abort (None: it was only looked at)."""

    flow_id: str
    flow: str
    state: str
    became: str | None = None

    @property
    def aborted(self) -> bool:
        return self.became is not None and phase(self.became) is Phase.ABORTED


async def abort_flows(context: Context, yes: bool) -> list[Running]:
    """Those that run, in the journal's order; aborted where `yes` says so. What cannot be told is in the report."""
    found: dict[str, Running] = {}
    order: list[str] = []
    began = context.clock.steady()
    try:
        if _chosen(context):
            await context.in_time(_all(context, yes, found, order))
    except Stop:  # it is in the report
        pass
    except BaseExceptionGroup as group:
        of_group(context, group)
    except JournalError as error:
        of_journal(context, error)
    context.report.elapsed_s = context.clock.steady() - began
    return [found[flow_id] for flow_id in order if flow_id in found]


def _chosen(context: Context) -> bool:
    """Count the flows that are meant; False, with what is wrong said, where one that was named is not there: a slip ends
    no flow."""
    for facts in context.journal.flows():
        if context.options.only(facts.name):
            context.report.flows.total += 1
            context.report.flows.started += facts.state is FlowState.STARTED
    missed = context.options.missed()
    for problem in missed:
        context.problem(None, problem)
    return not missed


def _candidates(context: Context) -> Iterator[tuple[FlowFacts, str]]:
    """Flows that may run: started, or with a start whose outcome is not known, and no end that was seen."""
    for facts, end in context.journal.flows_and_ends():
        may_run = facts.state in (FlowState.STARTED, FlowState.STARTING) and context.options.only(facts.name)
        if may_run and facts.flow_id is not None and (end is None or step(end.state) is Step.WAIT):
            yield facts, facts.flow_id


async def _all(context: Context, yes: bool, found: dict[str, Running], order: list[str]) -> None:
    candidates = _candidates(context)

    async def work() -> None:
        try:
            for facts, flow_id in candidates:  # one walk, shared by all
                if context.stop is not None:
                    return
                order.append(flow_id)
                running = await _one(context, facts, flow_id, yes)
                if running is not None:
                    found[flow_id] = running
        except Stop:
            return  # it is in the report; the others end, too

    async with asyncio.TaskGroup() as group:
        for _ in range(context.limits.concurrency):
            group.create_task(work())


async def _one(context: Context, facts: FlowFacts, flow_id: str, yes: bool) -> Running | None:
    shown = await _look(context, facts, flow_id)
    if shown is None:
        return None
    match phase(shown.state):
        case Phase.RUNNING:
            became = await _abort(context, facts, flow_id, shown.state) if yes else None
            return Running(flow_id, facts.name, shown.state, became)
        case Phase.ABORTED if step(shown.state) is Step.WAIT:  # on its way, by somebody's earlier word
            return Running(flow_id, facts.name, shown.state, shown.state if yes else None)
        case Phase.UNSTARTED:
            said = "the journal says that it was started" if facts.state is FlowState.STARTED else "its start is not settled"
            message = f"{said}, and the service shows the flow {flow_id} as `created`: it may yet run"
            _problem(context, facts, "unsettled", message, "batcher run settles it; then abort again")
        case Phase.UNKNOWN:
            message = f"the service shows no state of the flow {flow_id}: whether it runs cannot be told"
            _problem(context, facts, "unsettled", message, "look at it on the service")
    return None


async def _abort(context: Context, facts: FlowFacts, flow_id: str, state: str) -> str:
    """The state that the flow is in then. What came of an abort only the state says; one that was lost is sent again, for a
    flow is aborted once."""
    attempt = 1
    while True:
        verdict = await context.ask(Call.ABORT, lambda: context.client.abort(flow_id))
        assert isinstance(verdict, Verdict)  # an abort's reply has no value
        if verdict.kind in (Kind.THROTTLED, Kind.UNAVAILABLE):
            _of_verdict(context, facts, verdict, f"the flow {flow_id} was not aborted")
            return state
        shown = await _settled(context, facts, flow_id, taken=verdict.kind is Kind.DONE)
        if shown is None:
            return state
        state = shown.state
        if phase(state) is not Phase.RUNNING:
            if phase(state) is Phase.ABORTED:
                context.emit("flow_aborted", facts.name, flow_id=flow_id, state=state)
            return state
        if verdict.kind is not Kind.UNKNOWN or attempt > context.limits.retries:
            what = "took the abort" if verdict.kind is Kind.DONE else f"did not abort it ({verdict.message})"
            message = f"the service {what}, and shows the flow {flow_id} as {state}"
            _problem(context, facts, "unsettled", message, "run abort again, or look at it on the service", verdict.status)
            return state
        await context.sleep(backoff_s(attempt, context.rng))
        attempt += 1


async def _settled(context: Context, facts: FlowFacts, flow_id: str, *, taken: bool) -> RemoteFlow | None:
    """The flow as it is shown after its abort. `taken`: the service said yes, and may take a moment to show it."""
    until = context.clock.steady() + context.limits.settle_s
    polls = 0
    while True:
        shown = await _look(context, facts, flow_id)
        if shown is None or phase(shown.state) is not Phase.RUNNING or not taken or context.clock.steady() >= until:
            return shown
        await context.sleep(pause_after(polls, POLL_S))
        polls += 1


async def _look(context: Context, facts: FlowFacts, flow_id: str) -> RemoteFlow | None:
    """The flow as the service shows it; None, with a problem said, where it does not."""
    found = await context.ask(Call.FLOW, lambda: context.client.flow(flow_id))
    for pause_s in AGAIN_S:
        if isinstance(found, Verdict) or phase(found.state) is not Phase.UNKNOWN:
            break
        await context.sleep(pause_s)
        found = await context.ask(Call.FLOW, lambda: context.client.flow(flow_id))
    if not isinstance(found, Verdict):
        return found
    if found.kind is Kind.GONE:
        message = f"the service does not know the flow {flow_id}, which was started"
        _problem(context, facts, "unsettled", message, "another account's key? was it deleted there?", 404)
    else:
        _of_verdict(context, facts, found, "its state cannot be asked for")
    return None


def _of_verdict(context: Context, facts: FlowFacts, verdict: Verdict, what: str) -> None:
    away = verdict.kind in (Kind.THROTTLED, Kind.UNAVAILABLE)
    hint = "abort again later" if away else "look at it on the service, then abort again"
    _problem(context, facts, "unavailable" if away else "unsettled", f"{what}: {verdict.message}", hint, verdict.status)


def _problem(
    context: Context, facts: FlowFacts, kind: ProblemKind, message: str, hint: str, status: int | None = None
) -> None:
    context.problem(None, Problem(kind, message, hint, flow=facts.name, status=status))
