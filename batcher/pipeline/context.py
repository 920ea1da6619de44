"""What the stages of one run share: the ports, the report, the ways to ask and to stop.

In: ports and limits. Out: `Context`, `FlowRun`, `Payload`; `ask`, the one place that retries. Made by `run`, used by the
three stages. `ask` holds a place in the limiter for each attempt, and reads the verdict before it thinks of a retry.
"""

from __future__ import annotations

import asyncio
import random
from array import array
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, NoReturn, Protocol, TypeVar

import anyio

from ..core.bodies import Body
from ..core.errors import PLANNED, SIGNALS, JournalError, Reason, Stop
from ..core.events import SILENT, Events, Level
from ..core.facts import FlowFacts, InputFacts
from ..core.measuring import FlowTimes, Measures
from ..core.model import JSON, NOTES, Limits, Manifest, Problem
from ..core.names import Names
from ..core.pauses import endless, pause_after
from ..core.planning import FlowPlan, InputPlan, Options
from ..core.remote import Listing, RemoteFlow
from ..core.report import Report, problem_json
from ..core.retry import Call, Fault, Kind, Reply, RetryBudget, Verdict, backoff_s, classify
from ..core.suspicion import LOOK, Meaning, Suspicion
from ..journal.ports import Journal
from .ports import Client, Clock, ImageLook, Sources
from .starts import Starts

DRAIN_S: Final = 5.0  # what is in flight when a run is stopped may take so long to end
POLL_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)  # between two looks at a list; the last again and again
KNOWN: Final = 16  # flows that the journal began with, and that it has last, are looked for on a list of flows
IDS_KEPT: Final = 1000  # of the beginning, and of the end, of such a list
REBUILDS: Final = 5  # of one flow in one run; then the outcome cannot be settled
NEW_KEYS: Final = 10  # one after another, with nothing done by any of them; then it is no rotation
FIRST_KEY_S: Final = 2.0  # a key that was never any good in this run is mostly a wrong one
KEY_LOOK_S: Final = (0.05, 0.1, 0.25, 0.5)  # between two looks for a new key; the last again and again
_LASTING: Final = frozenset({Call.CREATE, Call.UPLOAD, Call.START, Call.DELETE, Call.OUTPUT})  # what a run leaves behind

_NO_VALUE: Final = (Reply, Fault)
_DONE: Final = Verdict(Kind.DONE)

T = TypeVar("T")


class LimiterPort(Protocol):
    """Leave to send: see `service.limiter.Limiter`."""

    @property
    def outage(self) -> bool:
        """Whether one request at a time asks if the service is back."""

    def enter_now(self) -> float | None: ...
    async def enter(self) -> float: ...
    def leave(self, verdict: Verdict | None, entered: float, *, timed: bool = False) -> float: ...
    def close(self, stop: Stop) -> None: ...


class BudgetPort(Protocol):
    """Bytes of encoded payload held at once: see `service.limiter.ByteBudget`."""

    async def take(self, count: int) -> None: ...
    def take_now(self, count: int) -> bool: ...
    def give(self, count: int) -> None: ...


@dataclass(slots=True, eq=False)
class FlowRun:
    """One flow while it is worked on. `facts` is its row as last recorded or posted."""

    plan: FlowPlan
    facts: FlowFacts
    rebuilds: int = 0
    announced: bool = False  # its start, by this run
    tries: int = 0  # writes of it that were answered, not done, and sent again
    outstanding: int = 0  # payloads on their way
    produced: bool = False  # no more of them will come
    failed: bool = False  # not to be started in this run
    uploaded: int = 0  # inputs of it that are accepted, for the report
    uploaded_bytes: int = 0
    trouble: Verdict | None = None  # an upload said that the flow is gone, or takes no inputs
    said: tuple[str | None, Verdict] | None = None  # the last write that was answered with an error: its input, if any
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
    options: Options
    journal: Journal
    client: Client
    sources: Sources
    clock: Clock
    limiter: LimiterPort
    budget: BudgetPort
    rng: random.Random
    report: Report
    images: ImageLook | None = None
    events: Events = SILENT
    requeued: deque[FlowRun] = field(default_factory=deque)  # to be produced anew
    changed: asyncio.Event = field(default_factory=asyncio.Event)  # something for the producer to look at
    active: int = 0  # flows that are worked on
    starts: Starts = field(default_factory=lambda: Starts(None, 0))
    retry_budget: RetryBudget = field(default_factory=RetryBudget)
    suspicion: Suspicion = field(default_factory=Suspicion)
    undeletable: dict[str, Verdict] = field(default_factory=dict)  # flow ids; the service refuses to delete these
    key_wait_s: float = 0.0  # so long another key is waited for
    key_generation: int = 0
    key_lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # held while one looks for another key
    new_keys: int = 0  # since anything was done
    refused_at: float | None = None  # when the key was refused first, since anything was done
    look_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    looked_at: float = -1.0
    look_refused: bool = False
    reached: bool = False  # something was done: there is a service
    lasting: bool = False  # something was, or may have been, done that stays
    outage_emitted: bool = False
    stop: Stop | None = None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    unproven: bool = False  # whether the list of flows shows all: see `witness`. Until then nothing is made, sent or started
    unknown_flows: frozenset[str] = frozenset()  # ids of flows that --adopt was told of: taken over, or left as they are
    before: Builds | None = None  # the list that the proof begins with; None: one is to be asked for
    proving: asyncio.Lock = field(default_factory=asyncio.Lock)
    lister: Lister = field(init=False)
    measures: Measures = field(init=False)

    def __post_init__(self) -> None:
        self.lister = Lister(self)
        self.measures = Measures(self.clock.steady())

    def emit(self, event: str, flow: str | None = None, level: Level = "info", **fields: JSON) -> None:
        """Something happened: see `core.events`. Where it happens often, look at `events.enabled` first."""
        if self.events.enabled:
            self.events.emit(event, level, fields if flow is None else {"flow": flow, **fields})

    def halt(self, stop: Stop) -> None:
        """No new work from now on; the first reason stays, but a signal's comes before any other."""
        if self.stop is None or stop.reason in SIGNALS:
            self.stop = self.report.stop = stop
            self.emit_stop(stop)
        self.limiter.close(self.stop)
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
            message, label, status = f"{what}, {flow.tries} times", None, None
            if flow.said is not None:
                label, said = flow.said
                message, status = f"{message}; the last time it said {said.message}", said.status
            problem = Problem("unavailable", message, "run again later", flow.plan.flow.place, flow.name, label, status)
            self.problem(flow, problem)
            return False
        await self.sleep(backoff_s(flow.tries, self.rng))
        return True

    def problem(self, flow: FlowRun | None, problem: Problem) -> None:
        """Note it; the flow is not started in this run."""
        if flow is not None:
            self.report.flows.failed += flow.problem is None
            flow.failed = True
            flow.problem = problem
        self.report.add(problem)
        if self.events.enabled:
            self.events.emit("problem", "warning" if problem.kind in NOTES else "error", problem_json(problem))

    def emit_stop(self, stop: Stop) -> None:
        """The run ends early."""
        level: Level = "warning" if stop.reason in PLANNED else "error"
        self.emit("stopping", level=level, reason=stop.reason.value, status=stop.status, message=stop.message,
                  hint=stop.hint)  # fmt: skip

    async def ask(
        self, call: Call, request: Callable[[], Awaitable[T | Reply | Fault]], *, timed: bool = False
    ) -> T | Verdict:
        """Send, and send again where that is safe, at most `retries` times. A value, or the verdict that ended it.
        `timed`: how long it takes tells how quick the service is.

        Raises Stop when the run is to end, the key is refused or the credit exhausted, or there is no way to the service."""
        attempt = 1
        while True:
            entered = await self._enter(call)
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
                now = self.limiter.leave(verdict, entered, timed=timed)
                self._note(call, verdict, entered, now)
            match verdict.kind:
                case Kind.KEY:
                    await self._another_key(generation, verdict)
                case Kind.DENIED:
                    return await self._denied(call, verdict, entered, now)
                case Kind.FATAL | Kind.NO_WAY:
                    self._fatal(verdict)
                case Kind.REFUSED if call is Call.FLOWS and verdict.status == 404 and not self.reached:
                    message = f"{self.manifest.endpoint} has no /flows: {verdict.message}"
                    self._fatal(replace(verdict, kind=Kind.NO_WAY, message=message, hint="check the endpoint's address"))
                case Kind.THROTTLED | Kind.UNAVAILABLE if attempt <= self.limits.retries:
                    self.report.requests.throttled += verdict.kind is Kind.THROTTLED
                    self.emit("request_retried", level="warning", call=call.value, attempt=attempt, kind=verdict.kind.value,
                              status=verdict.status, message=verdict.message, pause_s=verdict.pause_s)  # fmt: skip
                    if verdict.kind is Kind.UNAVAILABLE:
                        await self.sleep(backoff_s(self.retry_budget.patience(attempt), self.rng))
                    attempt += 1
                case _:
                    return verdict

    async def _enter(self, call: Call) -> float:
        """Leave to go; the moment at which it was given. None goes with a key that is being replaced, and none but the look
        while it is not known whether the key is any good. Raises Stop."""
        while True:
            entered = self.limiter.enter_now()
            if entered is None:
                try:
                    entered = await self.limiter.enter()
                except Stop as stop:
                    self.halt(stop)  # the limiter may be the first to know: an outage, a pause beyond all bounds
                    raise
            if self.key_lock.locked():
                lock = self.key_lock
            elif self.look_lock.locked() and call is not LOOK:
                lock = self.look_lock
            else:
                return entered
            self.limiter.leave(None, entered)
            async with lock:
                pass

    def _note(self, call: Call, verdict: Verdict | None, entered: float, now: float) -> None:
        """What one request, let go at `entered`, says of the service, the key and the run."""
        self.measures.ends(now, call, now - entered, verdict.kind if verdict is not None else None)
        if verdict is not None:
            if verdict.kind is Kind.DONE:
                self.reached = True
                self.refused_at = None
                self.suspicion.done(call, now)
            if call in _LASTING and (verdict.kind is Kind.DONE or verdict.kind is Kind.UNKNOWN):
                self.lasting = True
        if self.events.enabled and self.limiter.outage is not self.outage_emitted:
            self.outage_emitted = self.limiter.outage
            self.emit("outage_begun" if self.outage_emitted else "outage_over", level="warning")

    async def _another_key(self, generation: int, verdict: Verdict) -> None:
        """The key of that generation was refused: returns when there is another one. Raises Stop where none comes within
        `key_wait_s`, or none of so many was any good. One looks; whoever is refused meanwhile waits for what it finds."""
        async with self.key_lock:
            if generation != self.key_generation:
                return  # it left with a key that has been replaced meanwhile
            now = self.clock.steady()
            if self.refused_at is None:
                self.refused_at, self.new_keys = now, 0
            looks, wait_s = 0, self.key_wait_s if self.reached else min(self.key_wait_s, FIRST_KEY_S)
            while self.new_keys < NEW_KEYS:
                if self.client.read_key_again():
                    self.key_generation += 1
                    self.new_keys += 1
                    self.emit("key_read_again", level="warning", status=verdict.status)
                    return
                if self.clock.steady() - self.refused_at >= wait_s:
                    break
                await self.sleep(pause_after(looks, KEY_LOOK_S))
                looks += 1
            self._fatal(verdict)

    async def _denied(self, call: Call, verdict: Verdict, entered: float, now: float) -> Verdict:
        """A request was refused with 402 or 403: it alone. Raises Stop where that is the key or the account."""
        meaning = self.suspicion.refused(call, verdict.status or 0, entered)
        if meaning is Meaning.EVERYTHING or (meaning is Meaning.LOOK and not await self._may_look(now)):
            self._fatal(verdict)
        return replace(verdict, kind=Kind.REFUSED)

    def nothing_allowed(self) -> None:
        """The run has come to its end: where it could do nothing of one kind, that was the key or the account after all."""
        status = self.suspicion.at_end()
        if status is not None and self.stop is None:
            verdict = Verdict(Kind.DENIED, f"{status} for all that was tried", status)
            self.halt(stop_of(verdict, has_key=self.client.has_key, lasting=self.lasting))

    async def _may_look(self, since: float) -> bool:
        """Whether the key may have the most harmless look there is; one look for all who ask at the same time."""
        async with self.look_lock:
            if self.looked_at < since:
                self.looked_at = self.clock.steady()
                found = await self.ask(LOOK, partial(self.client.templates, lambda template: None))
                self.look_refused = isinstance(found, Verdict) and found.status in (402, 403)
            return not self.look_refused

    def _fatal(self, verdict: Verdict) -> NoReturn:
        stop = stop_of(verdict, has_key=self.client.has_key, lasting=self.lasting)
        self.halt(stop)
        raise stop


def stop_of(verdict: Verdict, *, has_key: bool, lasting: bool) -> Stop:
    """Why a run ends with a verdict that holds for every request. `lasting`: it has done something that stays."""
    status, words = verdict.status, verdict.message
    if verdict.kind is Kind.NO_WAY:
        return Stop(Reason.FATAL if lasting else Reason.USAGE, words, verdict.hint, status)
    if status == 402:
        return Stop(Reason.FATAL, f"the credit is exhausted: {words}", "top it up, then run again", status)
    if status == 429:
        hint = "raise it, or wait until it is renewed, then run again"
        return Stop(Reason.FATAL, f"the quota is exhausted: {words}", hint, status)
    if not has_key:
        hint = "set GENERIO_API_KEY, or GENERIO_API_KEY_FILE"
        return Stop(Reason.FATAL, f"the service wants a key: {words}", hint, status)
    hint = "check GENERIO_API_KEY (keys expire), then run again"
    return Stop(Reason.FATAL, f"the service refuses the key: {words}", hint, status)


def spawn(group: asyncio.TaskGroup, work: Coroutine[Any, Any, None]) -> None:
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
    context.emit_stop(context.report.stop)


@dataclass(slots=True)
class FlowIds:
    """The ids of a list of flows: hashes of all, in its order, and as text those at its two ends."""

    hashes: array[int] = field(default_factory=lambda: array("q"))
    first: list[str] = field(default_factory=list)
    last: deque[str] = field(default_factory=lambda: deque(maxlen=IDS_KEPT))

    def add(self, flow_id: str) -> None:
        self.hashes.append(hash(flow_id) or 1)
        if len(self.first) < IDS_KEPT:
            self.first.append(flow_id)
        else:
            self.last.append(flow_id)

    def distinct(self) -> tuple[Names, int]:
        """As a set, and how many they are."""
        names = Names()
        return names, sum(not names.add(value) for value in self.hashes)


@dataclass(frozen=True, slots=True)
class Builds:
    """One list of flows. `flows` are the batch's, by their tags' `name`; `unlisted` are ids that the journal knew before it
    was asked for, and that it does not show."""

    listing: Listing
    flows: Mapping[str, RemoteFlow]
    ids: FlowIds
    unlisted: tuple[str, ...]


class Lister:
    """The list of flows, asked for once for all who need it at the same time."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = asyncio.Lock()
        self._begun = -1.0
        self._found: Builds | Verdict = Verdict(Kind.UNAVAILABLE)

    async def builds(self) -> Builds | Verdict:
        """The batch's flows on the service, from a list that was begun after this was called."""
        arrived = self._context.clock.steady()
        async with self._lock:
            if self._begun < arrived:
                self._begun = self._context.clock.steady()
                self._found = await self._list()
            return self._found

    async def sure(self) -> tuple[Builds, str] | Verdict:
        """The list, and why it cannot prove that a flow is not there; "" where it can. What is known to be there and not
        listed yet is looked for again within the settling time."""
        context = self._context
        until = context.clock.steady() + context.limits.settle_s
        for pause_s in endless(POLL_S):
            builds = await self.builds()
            if isinstance(builds, Verdict):
                return builds
            why = await self._doubt(builds)
            if not why or not builds.listing.whole or context.clock.steady() >= until:
                return builds, why
            await context.sleep(pause_s)
        raise AssertionError("the pauses have no end")

    async def _doubt(self, builds: Builds) -> str:
        """A list that is cut off without a word shows it by what is not on it."""
        context = self._context
        if not builds.listing.whole:
            return f"the list of flows is not whole: {builds.listing.why}"
        for flow_id in builds.unlisted:
            found = await context.ask(Call.FLOW, partial(context.client.flow, flow_id))
            if isinstance(found, RemoteFlow):
                return f"the list of flows is a part of them: it does not show the flow {flow_id}, which is there"
            if found.kind is not Kind.GONE:
                return f"the flow {flow_id} is not on the list of flows, and cannot be asked for: {found.message}"
        return ""

    async def _list(self) -> Builds | Verdict:
        context = self._context
        found: dict[str, RemoteFlow] = {}
        known = context.journal.some_flow_ids(KNOWN)
        unlisted = set(known)
        ids = FlowIds()

        def take(flow: RemoteFlow) -> None:
            ids.add(flow.flow_id)
            unlisted.discard(flow.flow_id)
            if flow.tag is not None and flow.tag.batch == context.manifest.batch:
                found[flow.tag.name] = flow

        async def listing() -> Listing | Reply | Fault:
            nonlocal ids
            ids = FlowIds()
            found.clear()
            unlisted.update(known)
            return await context.client.flows(take)

        listed = await context.ask(Call.FLOWS, listing)
        return listed if isinstance(listed, Verdict) else Builds(listed, found, ids, tuple(sorted(unlisted)))
