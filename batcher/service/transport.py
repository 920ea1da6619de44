"""One request to the endpoint, and what came of it. It never retries.

In: method, path, body, and how a reply is to be read. Out: what was read, a `Reply` that is no success, or a `Fault` that says
how far the request got. Called by the client's calls. Two ways lie behind it, `wire` and `session`; what holds for both stands
here: which of them is taken, the key, when a success counts as none, and what a failure comes to (`faults`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar

import aiohttp

from ..core.bodies import Body, SmallBody
from ..core.retry import Fault, Reply
from ..host.failpoint import failpoint
from . import wire
from .bandwidth import Bandwidth
from .credentials import Key
from .deadlines import Progress, Watchdog, ignore_sent
from .endpoint import Endpoint, trusted
from .exchange import NotWritten, Read, Receive, Request, Response, Way
from .faults import FAILURES, fault_of
from .receiving import Receiver
from .session import Session
from .wire import Pool, Wire, abort, unsent_bytes

KEEPALIVE_S: Final = 4.0  # less than the 5 s after which the quickest common server hangs up
CONNECT_S: Final = 30.0  # for one address to be connected to, at most
KEPT_BYTES: Final = 4 << 20  # blocks up to here come from what was freed before

T = TypeVar("T")


class Transport:
    """The way to one endpoint. Make it inside a running loop, and close it. Raises UsageError."""

    def __init__(
        self, endpoint: Endpoint, key: Key, *, timeout_s: float, connections: int, bandwidth: Bandwidth, ca_file: str | None
    ) -> None:
        # asyncio receives into 256 KiB, which glibc maps and unmaps anew each time (12 µs of a request's 45) until a larger
        # block has been given back to it; the chunks of large files gain as much.
        bytes(KEPT_BYTES)
        self.endpoint = endpoint
        self.mask = key.mask
        self.receiver = Receiver(key.mask)
        self.timeout_s = timeout_s
        self.reached = False  # something has answered, so that the endpoint's name is right
        self._key = key
        self._bandwidth = bandwidth
        self._watchdog = Watchdog(timeout_s)
        context = trusted(endpoint, ca_file)
        # `connect` bounds the looking up of names, too.
        timeout = aiohttp.ClientTimeout(total=None, connect=timeout_s, sock_connect=min(CONNECT_S, timeout_s))
        pool = Pool(connections, KEEPALIVE_S, context)
        self._wire: Wire | None = None
        if endpoint.proxy is None and not wire.LACKING:
            self._wire = Wire(pool, endpoint.base, context, timeout, keepalive_s=KEEPALIVE_S, read_s=timeout_s,
                              bandwidth=bandwidth)  # fmt: skip
        self._session = Session(pool, endpoint, timeout, bandwidth, self._give_back)

    def _give_back(self) -> None:
        """The connections that the wire keeps, to the pool."""
        if self._wire is not None:
            self._wire.give_back()

    async def close(self) -> None:
        self._watchdog.close()
        self._give_back()
        await self._session.close()

    async def send(
        self, method: str, path: str, read: Read[T], *, body: Body | None = None,
        mark_sent: Callable[[], None] = ignore_sent, refused: Read[T | Reply] | None = None,
    ) -> T | Reply | Fault:  # fmt: skip
        """One request. `read` gets a reply of status 200 to 299; any other becomes a Reply, or what `refused` makes of it.
        `mark_sent` is called just before the last byte leaves."""
        failpoint("before request")
        progress = Progress(mark_sent, self._watchdog)
        request = Request(method, path, self._key.headers, body)
        receive: Receive[T | Reply] = partial(self._receive, progress, read, refused or self.receiver.refusal)
        try:
            found = await self._way(body).exchange(progress, request, receive)
        except FAILURES as error:
            return fault_of(error, progress, self.endpoint, self.mask, reached=self.reached, timeout_s=self.timeout_s)
        failpoint("after reply")
        return found

    def _way(self, body: Body | None) -> Way:
        """The wire, for all that can be in memory at once; under a cap, what is streamed leaves bit by bit."""
        if self._wire is None:
            return self._session
        if body is None or isinstance(body, SmallBody) or (body.short and not self._bandwidth.capped):
            return self._wire
        return self._session

    def _receive(
        self, progress: Progress, read: Read[T], refused: Read[T | Reply], response: Response,
        transport: asyncio.BaseTransport | None,
    ) -> Coroutine[Any, Any, T | Reply]:  # fmt: skip
        """The head of the reply has come; what is returned reads the rest. Raises NotWritten for a success that came before
        the request had arrived whole: it is none."""
        progress.status = status = response.status
        self.reached = True
        progress.moved(0)
        if status < 300 and (not progress.left or unsent_bytes(transport)):
            abort(transport)
            raise NotWritten
        return read(response, progress) if 200 <= status < 300 else refused(response, progress)

    async def fetch(self, address: str, read: Read[T]) -> T:
        """What lies at an address elsewhere, asked for without the key; whatever the status, `read` gets the reply. Raises
        aiohttp.ClientError, TimeoutError, OSError, ValueError."""
        progress = Progress(ignore_sent, self._watchdog)

        async def receive(response: Response, _: asyncio.BaseTransport | None) -> T:
            return await read(response, progress)

        return await self._session.fetch(progress, address, receive)
