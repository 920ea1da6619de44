"""What the stages of one run share: the ports, the report, the ways to ask and to stop.

In: ports and limits. Out: `Context`, `FlowRun`, `Payload`; `ask`, the one place that retries. Made by `run`, used by the
three stages. `ask` holds a place at the gate for each attempt, and reads the verdict before it thinks of a retry.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

import anyio

from ..core.errors import JournalError, Reason, Stop
from ..core.events import SILENT, Events, Level
from ..core.facts import FlowFacts, InputFacts
from ..core.measuring import FlowTimes, Measures
from ..core.model import JSON, NOTES, Limits, Manifest, Problem
from ..core.planning import FlowPlan, InputPlan, Wishes
from ..core.remote import RemoteFlow
from ..core.report import Report, problem_json
from ..core.retry import Call, Fault, Kind, Reply, RetryBudget, Verdict, backoff_s, classify
from .ports import Body, Client, Clock, ImageLook, Journal, Sources

DRAIN_S: Final = 5.0  # what is in flight when a run is stopped may take so long to end
REBUILDS: Final = 5  # of one flow in one run; then the outcome cannot be settled

_NO_VALUE: Final = (Reply, Fault)
_DONE: Final = Verdict(Kind.DONE)

T = TypeVar("T")


class GatePort(Protocol):
    """Leave to send: see `edges.limits.Gate`."""

    @property
    def outage(self) -> bool:
        """Whether one request at a time asks if the service is back."""

    def enter_now(self) -> float | None: ...
    async def enter(self) -> float: ...
    def leave(self, verdict: Verdict | None, entered: float, *, timed: bool = False) -> float: ...
    def close(self, stop: Stop) -> None: ...


class BudgetPort(Protocol):
    """Bytes of encoded payload held at once: see `edges.limits.ByteBudget`."""

    async def take(self, count: int) -> None: ...
    def take_now(self, count: int) -> bool: ...
    def give(self, count: int) -> None: ...


@dataclass(slots=True, eq=False)
class FlowRun:
    """One flow while it is worked on. `facts` is its row as last recorded or posted."""

    plan: FlowPlan
    facts: FlowFacts
    rebuilds: int = 0
    tries: int = 0  # writes of it that were answered, not done, and sent again
    outstanding: int = 0  # payloads on their way
    produced: bool = False  # no more of them will come
    failed: bool = False  # not to be started in this run
    uploaded: int = 0  # inputs of it that are accepted, for the report
    uploaded_bytes: int = 0
    trouble: Verdict | None = None  # an upload said that the flow is gone, or takes no inputs
    opened: asyncio.Event = field(default_factory=asyncio.Event)  # it has an id, or never will (`failed`)
    times: FlowTimes = field(default_factory=FlowTimes)
    problem: Problem | None = None  # the last one; the report keeps the first thousand of a run only

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def settled(self) -> bool:
        return self.produced and self.outstanding == 0 and self.opened.is_set()


Settled = Callable[[FlowRun], None]  # told of each flow once, when it is


@dataclass(slots=True, eq=False)
class Payload:
    """One input, announced in the journal and ready to leave. `body` is None where it is streamed anew each time."""

    flow: FlowRun
    plan: InputPlan
    row: InputFacts
    body: Body | None
    held_bytes: int


@dataclass(slots=True, eq=False)
class Context:
    """One run."""

    manifest: Manifest
    limits: Limits
    wishes: Wishes
    journal: Journal
    client: Client
    sources: Sources
    clock: Clock
    gate: GatePort
    budget: BudgetPort
    chance: random.Random
    report: Report
    images: ImageLook | None = None
    events: Events = SILENT
    again: deque[FlowRun] = field(default_factory=deque)  # to be produced anew
    changed: asyncio.Event = field(default_factory=asyncio.Event)  # something for the producer to look at
    active: int = 0  # flows that are worked on
    retry_budget: RetryBudget = field(default_factory=RetryBudget)
    key_read: bool = False
    key_generation: int = 0
    outage_told: bool = False
    stop: Stop | None = None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    lister: Lister = field(init=False)
    measures: Measures = field(init=False)

    def __post_init__(self) -> None:
        self.lister = Lister(self)
        self.measures = Measures(self.clock.steady())

    def tell(self, event: str, flow: str | None = None, level: Level = "info", **fields: JSON) -> None:
        """Something happened: see `core.events`. Where it happens often, look at `events.enabled` first."""
        if self.events.enabled:
            self.events.tell(event, level, fields if flow is None else {"flow": flow, **fields})

    def halt(self, stop: Stop) -> None:
        """No new work from now on; the first reason stays, but a signal's comes before any other."""
        if self.stop is None or stop.reason in (Reason.SIGINT, Reason.SIGTERM):
            self.stop = self.report.stop = stop
            self.tell_stop(stop)
        self.gate.close(self.stop)
        self.sources.interrupt(self.stop)
        self.stopping.set()
        self.changed.set()

    async def in_time(self, work: Coroutine[Any, Any, T]) -> T:
        """`work` outside of the stages, which are drained as a whole. Raises Stop where the run is to end and `work` has
        not come to an end within the time for that."""
        task = asyncio.ensure_future(work)
        late = asyncio.ensure_future(self.drained())
        try:
            await asyncio.wait({task, late}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                assert self.stop is not None
                raise self.stop
            return task.result()
        finally:
            late.cancel()
            task.cancel()
            await asyncio.wait({task})

    async def drained(self) -> None:
        """Returns when the run is to end, and what was in flight then has had its time."""
        await self.stopping.wait()
        await asyncio.sleep(DRAIN_S)

    async def sleep(self, seconds: float) -> None:
        """Wait; raises Stop at once when the run is to end."""
        if seconds > 0 and self.stop is None:
            waiter = asyncio.ensure_future(self.stopping.wait())
            sleeper = asyncio.ensure_future(self.clock.sleep(seconds))
            try:
                await asyncio.wait({waiter, sleeper}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiter.cancel()
                sleeper.cancel()
        if self.stop is not None:
            raise self.stop

    def count(self, flow: FlowRun, inputs: int, size_bytes: int) -> None:
        """So many more inputs of the flow are on the service; negative: they are not, after all."""
        flow.uploaded += inputs
        flow.uploaded_bytes += size_bytes
        counts = self.report.inputs
        counts.uploaded += inputs
        counts.uploaded_now += max(0, inputs)
        counts.bytes += size_bytes
        counts.bytes_now += max(0, size_bytes)
        if inputs > 0:
            self.measures.accepted(self.clock.steady(), size_bytes)
            flow.times.uploaded(self.clock.wall())

    async def try_again(self, flow: FlowRun, what: str) -> bool:
        """Whether a write that was answered and not done may be sent once more; waits before it. Bounded by `retries`."""
        flow.tries += 1
        if flow.tries > self.limits.retries:
            message = f"{what}, {flow.tries} times"
            self.problem(flow, Problem("unavailable", message, "run again later", flow.plan.flow.place, flow.name))
            return False
        await self.sleep(backoff_s(flow.tries, self.chance))
        return True

    def problem(self, flow: FlowRun | None, problem: Problem) -> None:
        """Note it; the flow is not started in this run."""
        if flow is not None:
            self.report.flows.failed += flow.problem is None
            flow.failed = True
            flow.problem = problem
        self.report.add(problem)
        if self.events.enabled:
            self.events.tell("problem", "warning" if problem.kind in NOTES else "error", problem_json(problem))

    def tell_stop(self, stop: Stop) -> None:
        """The run ends early."""
        by_plan = stop.reason in (Reason.DEADLINE, Reason.SIGINT, Reason.SIGTERM)
        self.tell("stopping", level="warning" if by_plan else "error", reason=stop.reason.value, status=stop.status,
                  message=stop.message, hint=stop.hint)  # fmt: skip

    async def ask(
        self, call: Call, request: Callable[[], Awaitable[T | Reply | Fault]], *, timed: bool = False
    ) -> T | Verdict:
        """Send, and send again where that is safe, at most `retries` times. A value, or the verdict that ended it.
        `timed`: how long it takes tells how quick the service is.

        Raises Stop when the run is to end, the key is refused or the credit exhausted."""
        attempt = 1
        while True:
            entered = self.gate.enter_now()
            if entered is None:
                try:
                    entered = await self.gate.enter()
                except Stop as stop:
                    self.halt(stop)  # the gate may be the first to know: an outage, a pause beyond all bounds
                    raise
            verdict: Verdict | None = None
            generation = self.key_generation
            self.measures.leaves(entered)
            try:
                self.report.requests.sent += 1
                self.report.requests.retried += attempt > 1
                what = await request()
                if not isinstance(what, _NO_VALUE):
                    if not isinstance(what, Problem):  # a source at fault says nothing of the service
                        verdict = _DONE
                        self.retry_budget.earn()
                    return what
                verdict = classify(call, what)
            finally:
                now = self.gate.leave(verdict, entered, timed=timed)
                self.measures.ends(now, call, now - entered, verdict.kind if verdict is not None else None)
                if self.events.enabled and self.gate.outage is not self.outage_told:
                    self.outage_told = self.gate.outage
                    self.tell("outage_begun" if self.outage_told else "outage_over", level="warning")
            match verdict.kind:
                case Kind.KEY if generation != self.key_generation:
                    continue  # it left with the key that has been replaced meanwhile
                case Kind.KEY if not self.key_read and self.client.read_key_again():
                    self.key_read = True
                    self.key_generation += 1
                    self.tell("key_read_again", level="warning", status=verdict.status)
                    continue
                case Kind.KEY | Kind.FATAL:
                    self._fatal(verdict)
                case Kind.THROTTLED | Kind.UNAVAILABLE if attempt <= self.limits.retries:
                    self.report.requests.throttled += verdict.kind is Kind.THROTTLED
                    self.tell("request_retried", level="warning", call=call.value, attempt=attempt, kind=verdict.kind.value,
                              status=verdict.status, message=verdict.message, pause_s=verdict.pause_s)  # fmt: skip
                    if verdict.kind is Kind.UNAVAILABLE:
                        await self.sleep(backoff_s(self.retry_budget.patience(attempt), self.chance))
                    attempt += 1
                case _:
                    return verdict

    def _fatal(self, verdict: Verdict) -> None:
        if verdict.status == 402:
            stop = Stop(Reason.FATAL, f"the credit is exhausted: {verdict.message}", "top it up, then run again", 402)
        elif not self.client.has_key:
            stop = Stop(Reason.FATAL, f"the service wants a key: {verdict.message}",
                        "set GENERIO_API_KEY, or GENERIO_API_KEY_FILE", verdict.status)  # fmt: skip
        else:
            stop = Stop(Reason.FATAL, f"the service refuses the key: {verdict.message}",
                        "check GENERIO_API_KEY (keys expire), then run again", verdict.status)  # fmt: skip
        self.halt(stop)
        raise stop


def begin(group: asyncio.TaskGroup, work: Coroutine[Any, Any, None]) -> None:
    """One more task of the group; none where the group is ending with an error. (asyncio's groups: anyio's take 20 µs more
    for each task, and a flow of one small input has three in its millisecond.)"""
    try:
        group.create_task(work)
    except RuntimeError:
        work.close()


async def drain(context: Context, scope: anyio.CancelScope) -> None:
    """Cancel what has not come to its end a while after the run was stopped."""
    await context.drained()
    scope.cancel()


def of_group(context: Context, group: BaseExceptionGroup[BaseException]) -> None:
    """A broken journal ends the run in order; anything else that escapes a stage is a bug of ours."""
    broken, rest = group.split(JournalError)
    if rest is not None:
        raise rest
    error: BaseException | None = broken
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, JournalError)
    of_journal(context, error)


def of_journal(context: Context, error: JournalError) -> None:
    """The journal cannot be written: that is what the run ends with."""
    context.report.stop = Stop(Reason.UNSETTLED, error.message, error.hint)
    context.tell_stop(context.report.stop)


class Lister:
    """The list of flows, asked for once for all who need it at the same time."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = asyncio.Lock()
        self._begun = -1.0
        self._found: dict[str, RemoteFlow] | Verdict = {}

    async def builds(self) -> dict[str, RemoteFlow] | Verdict:
        """The batch's flows on the service by their tags' `name`, from a list that was begun after this was called."""
        arrived = self._context.clock.steady()
        async with self._lock:
            if self._begun < arrived:
                self._begun = self._context.clock.steady()
                self._found = await self._list()
            return self._found

    async def _list(self) -> dict[str, RemoteFlow] | Verdict:
        found: dict[str, RemoteFlow] = {}

        def take(flow: RemoteFlow) -> None:
            if flow.tag is not None and flow.tag.batch == self._context.manifest.batch:
                found[flow.tag.name] = flow

        verdict = await self._context.ask(Call.FLOWS, lambda: self._context.client.flows(take))
        return found if verdict is None else verdict
