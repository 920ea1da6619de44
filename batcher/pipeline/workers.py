"""The second stage: payloads are posted, as many at a time as the limiter lets through.

In: `Payload`s. Out: the outcome of each in the journal, and each flow whose last payload has come back to the finalizer.
Called by `run`, which starts more workers than requests may be in flight: one that waits to try again blocks nobody.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from ..core.errors import Stop
from ..core.events import Level
from ..core.facts import PutInput
from ..core.lifecycle import InputEvent
from ..core.model import JSON, Problem
from ..core.retry import Call, Fault, Kind, Reply, Verdict
from .context import Context, Payload, Settled
from .opener import problem_from_verdict


async def work(context: Context, inbox: asyncio.Queue[Payload | None], settled: Settled) -> None:
    """One worker, until it is handed None."""
    while (payload := await inbox.get()) is not None:
        flow = payload.flow
        if not flow.opened.is_set():
            await flow.opened.wait()
        await _deliver(context, payload)
        context.budget.give(payload.held_bytes)
        payload.body = None
        flow.outstanding -= 1
        if flow.settled:
            settled(flow)


async def _deliver(context: Context, payload: Payload) -> None:
    flow = payload.flow
    result: Problem | Verdict | None = None
    if not flow.failed and flow.facts.flow_id is not None and flow.trouble is None:
        try:
            result = await _upload(context, payload, flow.facts.flow_id)
        except Stop:
            result = None  # it waited for leave to go: not sent
    row = payload.row  # with the digest, once it has been streamed
    match result:
        case None:
            row = row.on(InputEvent.NOT_SENT)
        case Problem():
            context.problem(flow, replace(result, flow=flow.name))
            row = row.on(InputEvent.NOT_SENT)
        case Verdict(kind=Kind.DONE):
            row = row.on(InputEvent.ACCEPT)
            context.count(flow, 1, row.stat.size)
        case Verdict(kind=Kind.UNKNOWN):
            until = context.journal.now() + context.limits.settle_s
            row = row.on(InputEvent.LOSE, settle_deadline=until, answered=result.answered)
            if result.answered:
                flow.said = payload.plan.input.label, result
        case Verdict(kind=Kind.REFUSED):
            row = row.on(InputEvent.REFUSE)
            context.report.inputs.failed += 1
            label = payload.plan.input.label
            problem = problem_from_verdict(result, flow, f"{label} was refused", label)
            context.problem(flow, replace(problem, place=payload.plan.input.place))
        case Verdict(kind=Kind.GONE | Kind.CONFLICT):
            row = row.on(InputEvent.NOT_SENT)
            flow.trouble = result
        case Verdict():
            row = row.on(InputEvent.NOT_SENT)
            context.problem(flow, problem_from_verdict(result, flow, "an input could not be sent", payload.plan.input.label))
    if context.events.enabled:
        _tell(context, payload, result)
    # Not awaited: should it be lost, the announcement before it makes the next run ask.
    context.journal.post(PutInput(flow.name, row))


def _tell(context: Context, payload: Payload, result: Problem | Verdict | None) -> None:
    event = "input_not_sent"
    level: Level = "warning"
    match result:
        case Verdict(kind=Kind.DONE):
            event, level = "input_accepted", "info"
        case Verdict(kind=Kind.UNKNOWN):
            event = "input_unknown"
        case Verdict(kind=Kind.REFUSED):
            event, level = "input_refused", "error"
    fields: dict[str, JSON] = {"input": payload.plan.input.label, "bytes": payload.row.stat.size}
    if result is not None and event != "input_accepted":
        fields |= {"status": result.status, "message": result.message}
    context.emit(event, payload.flow.name, level, **fields)


async def _upload(context: Context, payload: Payload, flow_id: str) -> Verdict | Problem:
    async def attempt() -> Problem | Verdict | Reply | Fault:
        body = payload.body if payload.body is not None else context.sources.body(payload.plan)
        if isinstance(body, Problem):
            return body
        what = await context.client.upload(flow_id, body, lambda: context.journal.mark_sent(payload.row.key))
        if body.fault is not None:
            return body.fault
        if body.sha256 is not None:
            payload.row = replace(payload.row, sha256=body.sha256)
        if isinstance(what, Reply) and 200 <= what.status < 300 and what.readable:
            return Verdict(Kind.DONE, status=what.status)
        return what

    return await context.ask(Call.UPLOAD, attempt, timed=payload.body is not None)
