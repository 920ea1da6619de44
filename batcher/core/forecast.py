"""What a run would send, by the plan alone, and whether that is more than the manifest's caps allow. No I/O.

In: `FlowPlan`s, limits. Out: `RequestForecast`, Problems. Called by the survey, which `plan` shows and `run` obeys.
"""

from __future__ import annotations

from dataclasses import dataclass

from .lifecycle import FlowState
from .model import Limits, Problem
from .planning import Action, FlowPlan, Options


@dataclass(slots=True)
class RequestForecast:
    """Requests that a run sends if nothing fails. `looks`: templates, the list of flows, the state of a given flow or
    of one that is to be deleted."""

    creates: int = 0
    uploads: int = 0
    lists: int = 0  # of a flow's inputs, before its start
    starts: int = 0  # each of them is paid for
    deletes: int = 0
    looks: int = 0
    begun: int = 0  # flows that are worked on
    held_back: int = 0  # flows that are left to the next runs, as `starts_per_run` asks

    @property
    def total(self) -> int:
        return self.creates + self.uploads + self.lists + self.starts + self.deletes + self.looks

    def count(self, plan: FlowPlan, options: Options, most: int | None = None) -> bool:
        """Add those of one flow; False where it has nothing to do, or is beyond the `most` that one run starts. A start that
        an earlier run announced is a look: it was counted by that run."""
        if not plan.action.works:
            return False
        if most is not None and options.start and self.begun >= most:
            self.held_back += 1
            return False
        self.begun += 1
        self._count(plan, options)
        return True

    def _count(self, plan: FlowPlan, options: Options) -> None:
        state = plan.facts.state if plan.facts is not None else FlowState.PLANNED
        if plan.action is Action.RESUME and state is FlowState.STARTING:
            self.looks += 1
            return
        self.uploads += plan.tally.total if anew(plan.action) else plan.tally.new
        self.lists += 1
        self.starts += options.start
        if plan.action is not Action.RESUME and plan.flow.flow_id is not None:
            self.looks += 1
        elif plan.action is Action.RESUME:
            self.looks += state is FlowState.CREATING
        else:
            self.creates += 1
        facts = plan.facts
        if plan.action is Action.REBUILD and facts is not None and facts.flow_id is not None and not facts.external:
            self.looks += 1
            self.deletes += 1


def anew(action: Action) -> bool:
    """Whether all inputs of the flow are sent, whatever was sent before."""
    return action in (Action.REBUILD, Action.REDO)


def over_caps(limits: Limits, starts: int, size_bytes: int) -> list[Problem]:
    """A Problem for each cap that a run of so many starts and so many bytes of sources would pass."""
    problems: list[Problem] = []
    if limits.max_starts is not None and starts > limits.max_starts:
        message = f"this run would start {_flows(starts)}, and limits.max_starts allows {limits.max_starts:,}"
        hint = "raise it if that is meant, or send a part with --only NAME, or so many a run with --max-starts N"
        problems.append(Problem("manifest", message, hint))
    price, cost = limits.price_per_start, limits.max_cost
    if price is not None and cost is not None and price.amount * starts > cost.amount:
        message = f"this run would start {_flows(starts)} for {price.times(starts)}, and limits.max_cost allows {cost}"
        hint = "raise it if that is meant, or send a part with --only NAME, or so many a run with --max-starts N"
        problems.append(Problem("manifest", message, hint))
    if limits.max_bytes is not None and size_bytes > limits.max_bytes:
        message = f"this run would send {size_bytes:,} bytes of files, and limits.max_bytes allows {limits.max_bytes:,}"
        problems.append(Problem("manifest", message, "raise it if that is meant, or send a part with --only NAME"))
    return problems


def _flows(count: int) -> str:
    return f"{count:,} flow" if count == 1 else f"{count:,} flows"
