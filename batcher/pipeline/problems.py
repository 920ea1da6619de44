"""What is said of a flow that a run cannot start, in people's words, and kept for `status`.

In: a flow, and what came of a request for it. Out: a `Problem`. Called by every stage.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Final

from ..core.model import Problem
from ..core.remote import RemoteFlow
from ..core.report import problem_json
from ..core.retry import Kind, Verdict
from ..journal.ports import Journal
from .flow_run import FlowRun

# What helps where not only the thing that was refused may be the reason.
_OF_REFUSED: Final = {
    402: "top up the account, or change what costs too much, then run again",
    403: "use a key that may do it, or change what the service objects to, then run again",
}


def problem_of(flow: FlowRun, message: str, hint: str, status: int | None = None) -> Problem:
    """A question about the flow stays open: the next run, or somebody, has to settle it."""
    return Problem("unsettled", message, hint, flow.plan.flow.place, flow.name, status=status)


def unsettled(flow: FlowRun, message: str) -> Problem:
    return problem_of(flow, message, "run again: the next run asks first")


def started_elsewhere(flow: FlowRun, found: RemoteFlow) -> Problem:
    """The service shows a state that only a start by somebody else explains."""
    message = f"the service says that the flow is {found.state or 'in an unknown state'}, but batcher has not started it"
    return problem_of(flow, message, "somebody else may have; look at it on the service")


def problem_from_verdict(verdict: Verdict, flow: FlowRun, what: str, source: str | None = None) -> Problem:
    """A problem in people's words for a verdict that ended a request."""
    place = flow.plan.flow.place
    match verdict.kind:
        case Kind.REFUSED:
            hint = _OF_REFUSED.get(verdict.status or 0, "change what the service objects to, then run again")
            return Problem("refused", f"{what}: {verdict.message}", hint, place, flow.name, source, verdict.status)
        case Kind.THROTTLED | Kind.UNAVAILABLE:
            return Problem("unavailable", f"{what}: {verdict.message}", "run again later", place, flow.name, source,
                           verdict.status)  # fmt: skip
        case _:
            return Problem("unsettled", f"{what}: {verdict.message}", "run again: the next run asks first", place,
                           flow.name, source, verdict.status)  # fmt: skip


def problem_from_read(verdict: Verdict, flow: FlowRun, what: str) -> Problem:
    """The same for a request that only asks: one that is refused settles nothing, and no input was refused."""
    return problem_from_verdict(replace(verdict, kind=Kind.UNKNOWN) if verdict.kind is Kind.REFUSED else verdict, flow, what)


async def keep_problem(journal: Journal, flow: FlowRun) -> None:
    """Keep the flow's last problem for `status`."""
    if flow.problem is not None:
        await journal.record(flow.change(problem=json.dumps(problem_json(flow.problem))))
