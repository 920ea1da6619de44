"""Requests to the service: one place sends them, and sends them again where that is safe.

In: a `Call` and what is to be asked of the client. Out: a value, or the verdict that ended it. Made once for each operation;
called by every stage. Each attempt holds a place in the limiter, and its verdict is read before a retry is thought of.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, NoReturn, TypeVar

from ..core.denials import ACCESS_CHECK
from ..core.errors import Reason, Stop, UsageError
from ..core.model import Problem
from ..core.remote import Listing, RemoteFlow
from ..core.retry import Call, Fault, Kind, Reply, Verdict, classify, is_no_api
from .access import Access
from .ports import Client, LimiterPort
from .reporter import Reporter
from .retries import Retries
from .shutdown import Shutdown

NO_API_RETRIES: Final = 2  # of a first request that is redirected, or answered with 501
_NO_VALUE: Final = (Reply, Fault)
_DONE: Final = Verdict(Kind.DONE)

T = TypeVar("T")
L = TypeVar("L")


class Requests:
    """`endpoint` is the URL as the manifest has it, for a message. `open_endpoint` is called before the first request: what it
    opens is the endpoint; it raises UsageError where that cannot be."""

    def __init__(
        self, client: Client, limiter: LimiterPort, retries: Retries, access: Access, shutdown: Shutdown,
        reporter: Reporter, endpoint: str, open_endpoint: Callable[[], Awaitable[None]] | None = None,
    ) -> None:  # fmt: skip
        self._client = client
        self._limiter = limiter
        self._retries = retries
        self._access = access
        self._shutdown = shutdown
        self._reporter = reporter
        self._endpoint = endpoint
        self._open_endpoint = open_endpoint
        self._outage_emitted = False

    async def ask(
        self, call: Call, request: Callable[[Client], Awaitable[T | Reply | Fault]], *, timed: bool = False
    ) -> T | Verdict:
        """Send, and send again where that is safe, at most `retries` times. A value, or the verdict that ended it.
        `timed`: how long it takes tells how quick the service is.

        Raises Stop when the run is to end, the key is refused or the credit exhausted, or there is no way to the service."""
        if self._open_endpoint is not None:
            await self._open(self._open_endpoint)
        attempt = 1
        while True:
            entered = await self._enter(call)
            verdict: Verdict | None = None
            generation = self._access.generation
            self._reporter.request_leaves(entered, attempt)
            try:
                what = await request(self._client)
                if not isinstance(what, _NO_VALUE):
                    if not isinstance(what, Problem):  # a source at fault says nothing of the service
                        verdict = _DONE
                        self._retries.request_done()
                    return what
                verdict = classify(call, what)
            finally:
                now = self._limiter.release(verdict, entered, timed=timed)
                self._note(call, verdict, entered, now)
            if verdict.kind is Kind.KEY:
                if not await self._access.key_replaced(generation, verdict.status):
                    self._fatal(verdict)
            elif verdict.kind is Kind.DENIED:
                if not await self._access.is_item(call, verdict.status or 0, entered, now, self._check):
                    self._fatal(verdict)
                return replace(verdict, kind=Kind.REFUSED)
            elif await self._may_retry(call, verdict, attempt):
                attempt += 1
            else:
                return verdict

    async def ask_list(
        self, call: Call, new: Callable[[], L], request: Callable[[Client, L], Awaitable[Listing | Reply | Fault]]
    ) -> tuple[L, Listing] | Verdict:
        """A list, as it was taken by `new()`: one for each attempt, for one that was cut off has taken a part."""

        async def attempt(client: Client) -> tuple[L, Listing] | Reply | Fault:
            taken = new()
            listed = await request(client, taken)
            return (taken, listed) if isinstance(listed, Listing) else listed

        return await self.ask(call, attempt)

    async def flow(self, flow_id: str) -> RemoteFlow | Verdict:
        """One flow as the service shows it. One that was deleted, and is still shown as that, is gone."""
        found = await self.ask(Call.FLOW, lambda client: client.flow(flow_id))
        return gone(found) if isinstance(found, RemoteFlow) and found.gone else found

    def end(self) -> None:
        """The run has come to its end: where every request of one kind was denied (402, 403), it ends with that."""
        stop = self._access.stop_at_end()
        if stop is not None and self._shutdown.stop is None:
            self._shutdown.halt(stop)

    async def _open(self, open_endpoint: Callable[[], Awaitable[None]]) -> None:
        try:
            await open_endpoint()
        except UsageError as error:
            self._shutdown.end(Stop(Reason.USAGE, error.message, error.hint))
        self._open_endpoint = None

    async def _enter(self, call: Call) -> float:
        """Leave to go; the moment at which it was given. Raises Stop."""
        while True:
            entered = self._limiter.acquire_now()
            if entered is None:
                try:
                    entered = await self._limiter.acquire(call)
                except Stop as stop:
                    self._shutdown.halt(stop)  # the limiter may be the first to know: an outage, a pause beyond all bounds
                    raise
            lock = self._access.lock(call)
            if lock is None:
                return entered
            self._limiter.release(None, entered)
            async with lock:
                pass

    def _note(self, call: Call, verdict: Verdict | None, entered: float, now: float) -> None:
        """What one request, let go at `entered`, says of the service, the key and the run."""
        self._reporter.request_ends(call, verdict, entered, now)
        if verdict is not None:
            self._access.note(call, verdict.kind, entered)
        if self._reporter.enabled and self._limiter.outage is not self._outage_emitted:
            self._outage_emitted = self._limiter.outage
            self._reporter.emit("outage_begun" if self._outage_emitted else "outage_over", level="warning")

    async def _may_retry(self, call: Call, verdict: Verdict, attempt: int) -> bool:
        """Whether the request is to be sent once more; waits before it. Raises Stop where no request can be done."""
        match verdict.kind:
            case Kind.FATAL | Kind.NO_WAY:
                self._fatal(verdict)
            case _ if self._is_no_api(call, verdict, attempt):
                message = f"{self._endpoint} has no /{call.value}: {verdict.message}"
                self._fatal(replace(verdict, kind=Kind.NO_WAY, message=message, hint="check the endpoint's address"))
            case Kind.THROTTLED | Kind.UNAVAILABLE if attempt <= self._retries.most:
                self._reporter.request_retried(call, verdict, attempt)
                if verdict.kind is Kind.UNAVAILABLE:  # of a throttled one the limiter knows when it may go
                    await self._retries.pause_of_request(attempt)
                return True
        return False

    def _is_no_api(self, call: Call, verdict: Verdict, attempt: int) -> bool:
        """Whether nothing of the service has been seen in this run, and what answers is none. What may pass, as a gateway's
        redirect, is asked for a few times."""
        if self._access.reached or not is_no_api(call, verdict):
            return False
        return verdict.kind is not Kind.UNAVAILABLE or attempt > min(NO_API_RETRIES, self._retries.most)

    async def _check(self) -> object:
        """The access check: see `core.denials`."""
        return await self.ask(ACCESS_CHECK, lambda client: client.templates(lambda template: None))

    def _fatal(self, verdict: Verdict) -> NoReturn:
        self._shutdown.end(self._access.stop_of(verdict))


def gone(flow: RemoteFlow) -> Verdict:
    """What a flow in such a state is answered with: as one that the service does not know."""
    return Verdict(Kind.GONE, f"it is {flow.state}", 404)
