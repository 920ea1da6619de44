"""The fast way: one request on a connection of aiohttp's pool, and the reply as aiohttp's parser reads it.

In: a `Request` whose body is in memory, or short enough to be read in one go. Out: the reply, as an `Answer`, to whoever
receives it. Called by the transport for all but proxies and bodies that are read while they are sent. aiohttp's session
builds a request, a response, a writer and a timer for each call: measured at 1 KB that is two thirds of all CPU time (175 µs
a request, against 30 to 45 this way), and the whole of batcher has to keep up with the wire.

This is the only module that touches aiohttp's insides; `insides` names them, and looks whether they are there. Where one is
missing there is no `Wire`, and everything goes through the session, slower and just as right; where the pool cannot tell
either what has come unasked, no connection is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl as tls
from collections.abc import Mapping
from contextvars import ContextVar
from functools import cached_property, partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
from yarl import URL

from ..core.bodies import SmallBody, StreamedBody
from .bandwidth import Bandwidth
from .deadlines import Progress
from .exchange import PATH_SAFE, USER_AGENT, NotWritten, Receive, Request, Response
from .insides import OF_THE_POOL, OF_THE_WIRE, lacking

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ConnectionKey
    from multidict import CIMultiDictProxy
with contextlib.suppress(ImportError):  # then `LACKING` names it
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection as Connection
    from aiohttp.http import StreamWriter
    from aiohttp.http_exceptions import HttpProcessingError

BUFFER_BYTES: Final = 1 << 16
JOINED_BYTES: Final = 64 << 10  # a copy up to here is cheaper than another write
LOOK_S: Final = 0.25  # between two looks whether a reply has come while the kernel takes nothing

LACKING = lacking(OF_THE_WIRE)
POOL_LACKING = lacking(OF_THE_POOL)
_taken: ContextVar[asyncio.BaseTransport | None] = ContextVar("taken", default=None)
T = TypeVar("T")


class Answer:
    """A reply whose head has been read."""

    __slots__ = ("content", "headers", "status")

    def __init__(self, status: int, headers: CIMultiDictProxy[str], content: aiohttp.StreamReader) -> None:
        self.status = status
        self.headers = headers
        self.content = content


class Pool(aiohttp.TCPConnector):
    """Connections of which none has a reply that nobody asked for: it would pass for that to what is asked next. Nor bytes
    of a request before. Where that cannot be told each is used once."""

    def __init__(self, connections: int, keepalive_s: float, context: tls.SSLContext | bool) -> None:
        if POOL_LACKING:
            super().__init__(limit=connections, force_close=True, ssl=context)
        else:
            super().__init__(limit=connections, keepalive_timeout=keepalive_s, ssl=context)

    async def connect(self, *args: Any, **kwargs: Any) -> Connection:
        while True:
            connection = await super().connect(*args, **kwargs)
            _taken.set(getattr(connection, "transport", None))
            if POOL_LACKING or connection.protocol is None:
                return connection
            if not connection.protocol.should_close and not unsent_bytes(connection.transport):
                return connection
            connection.close()


def forget_taken() -> None:
    """Before a request through the session: it has no connection yet."""
    _taken.set(None)


def taken() -> asyncio.BaseTransport | None:
    """What this task's request goes over; None where it cannot be told."""
    return _taken.get()


class Wire:
    """The way to one endpoint. Use it inside a running loop; the connector is its owner's to close."""

    def __init__(
        self, connector: Pool, base: str, context: tls.SSLContext | bool, timeout: aiohttp.ClientTimeout,
        *, keepalive_s: float, read_s: float, bandwidth: Bandwidth,
    ) -> None:  # fmt: skip
        parts = urlsplit(base)
        self._connector = connector
        # Not in the pool, which takes its time (10 µs of a request's 40) to find one of many hosts' connections.
        self._idle: list[tuple[Connection, float]] = []
        self._keepalive_s = keepalive_s
        self._read_s = read_s  # for a source to be read
        self._bandwidth = bandwidth
        self._path = quote(parts.path, safe=PATH_SAFE)
        host = parts.netloc.rpartition("@")[2]
        self._head = f" HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\nUser-Agent: {USER_AGENT}\r\n".encode()
        self._target = _target(base, context)
        self._last: tuple[tuple[str, str, Mapping[str, str]], bytes] | None = None
        self._lines: tuple[Mapping[str, str], bytes] = {}, b""  # the headers of the last request
        self._timeout = timeout

    async def exchange(self, progress: Progress, request: Request, receive: Receive[T]) -> T:
        """As `Way` has it."""
        body = request.body
        length = None if body is None else body.length
        pieces = [] if body is None else [body.content] if isinstance(body, SmallBody) else await self._read(body)
        pieces.insert(0, self._head_of(request, length))
        if length is None or length <= JOINED_BYTES:
            pieces = [b"".join(pieces)]
        if self._bandwidth.capped:
            await progress.spend(self._bandwidth, length or 0)
        connection = await self._connect()
        try:
            progress.end_with(partial(abort, connection.transport))
            answer = await _ask(connection, pieces, progress)
            progress.abort = partial(_abandon, connection, answer)
            found = await receive(answer, connection.transport)
            if progress.late:
                raise TimeoutError  # the connection's end, which was ours, may have looked like the reply's
            if not progress.left:
                abort(connection.transport)  # it waits for the rest of the body
        except BaseException:
            abort(connection.transport)  # what the kernel has not taken yet must not arrive after all
            connection.close()
            raise
        finally:
            progress.done()
        self._keep(connection)
        return found

    async def _read(self, body: StreamedBody) -> list[bytes]:
        async with asyncio.timeout(self._read_s):
            pieces = await body.whole()
        if pieces is None:
            raise NotWritten
        return pieces

    def _head_of(self, request: Request, length: int | None) -> bytes:
        """The request's head. `length`: of its JSON body, None for none. Raises ValueError for what would split it."""
        what = (request.method, request.path, request.headers)
        if self._last is None or self._last[0] != what:  # the inputs of one flow differ in their lengths only
            if self._lines[0] is not request.headers:
                lines = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
                self._lines = request.headers, lines.encode("latin-1")
            text = f"{request.method} {self._path}{request.path}".encode("ascii") + self._head + self._lines[1]
            if text.count(b"\n") != 4 + len(request.headers):
                raise ValueError("a line break in a header")
            self._last = what, text
        if length is None:
            return self._last[1] + b"\r\n"
        return b"%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (self._last[1], length)

    async def _connect(self) -> Connection:
        """The connection that was used last, or a new one. Give it back with `_keep`, or close it."""
        while self._idle:
            connection, since = self._idle.pop()
            protocol = connection.protocol
            # `should_close` also where something has come meanwhile: see `Pool`.
            usable = not connection.closed and protocol is not None and not protocol.should_close
            if usable and monotonic() - since < self._keepalive_s:
                return connection
            connection.close()
        return await self._connector.connect(req=self._target, traces=[], timeout=self._timeout)

    def _keep(self, connection: Connection) -> None:
        """Its reply has been read, to the end or not."""
        protocol = connection.protocol
        if unsent_bytes(connection.transport):
            abort(connection.transport)
        if protocol is None or protocol.should_close or connection.closed:
            connection.close()
        else:
            self._idle.append((connection, monotonic()))

    def give_back(self) -> None:
        """Hand the idle connections to the pool, for aiohttp's session to take or for its owner to close."""
        while self._idle:
            self._idle.pop()[0].release()


def _target(base: str, context: tls.SSLContext | bool) -> ClientRequest:
    """What the pool tells connections apart by; it is never sent."""

    class Target(ClientRequest):
        @cached_property
        def connection_key(self) -> ConnectionKey:  # a property there, made anew each time
            return super().connection_key

    return Target(method="GET", url=URL(base), loop=asyncio.get_running_loop(), ssl=context)


async def _ask(connection: Connection, pieces: list[bytes], progress: Progress) -> Answer:
    """Write the request, then wait for the reply's head. The last piece leaves once the kernel has taken most of what comes
    before it; not where the reply comes earlier. The list is emptied, so that nothing is held twice. Raises
    aiohttp.ClientError."""
    protocol = connection.protocol
    if protocol is None or protocol.transport is None:
        raise aiohttp.ServerDisconnectedError
    protocol.set_response_params(read_until_eof=True, read_bufsize=BUFFER_BYTES)
    last = pieces.pop()
    written = 0
    for piece in pieces:
        protocol.transport.write(piece)
        written += len(piece)
    pieces.clear()
    if protocol.writing_paused:
        await _drain(connection, protocol, written, progress)
    if not len(protocol):  # no reply yet, as nearly always
        if protocol.transport is None:
            raise aiohttp.ServerDisconnectedError
        progress.leaving()
        protocol.transport.write(last)
        progress.bytes_moved = written + len(last)  # what the kernel took meanwhile counts once
    try:
        while True:
            message, content = await protocol.read()
            if message.code >= 200 or message.code < 100:
                return Answer(message.code, message.headers, content)
    except HttpProcessingError as error:
        raise aiohttp.ClientError(f"no HTTP: {error.message}") from error


async def _drain(connection: Connection, protocol: ResponseHandler, written: int, progress: Progress) -> None:
    """Until the kernel has taken most of what was written, or a reply has come. Raises aiohttp.ClientError."""
    drained = asyncio.ensure_future(StreamWriter(protocol, asyncio.get_running_loop()).drain())
    try:
        while not drained.done() and not len(protocol):
            await asyncio.wait({drained}, timeout=LOOK_S)
            taken_by_kernel = written - unsent_bytes(connection.transport)
            if taken_by_kernel > progress.bytes_moved:
                progress.moved(taken_by_kernel - progress.bytes_moved)
        if drained.done():
            drained.result()
    finally:
        if not drained.done():  # a reply has come, or it is given up; what becomes of the rest is nobody's affair
            drained.add_done_callback(lambda drained: drained.cancelled() or drained.exception())


def unsent_bytes(transport: asyncio.BaseTransport | None) -> int:
    """Bytes that the kernel has not taken yet."""
    return transport.get_write_buffer_size() if isinstance(transport, asyncio.WriteTransport) else 0


def abort(transport: asyncio.BaseTransport | None) -> None:
    """End it at once: whoever waits for its reply gets an error."""
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()


def _abandon(connection: Connection, answer: Answer) -> None:
    """Also where the connection has gone and its reader was not told, as aiohttp's parser leaves it after a bad chunk."""
    abort(connection.transport)
    if not answer.content.is_eof() and answer.content.exception() is None:
        answer.content.set_exception(aiohttp.ClientPayloadError("given up"))


def at_hand(response: Response, most_bytes: int) -> bytes | None:
    """The body where it came with the head, as most do; else it is still to be read."""
    if isinstance(response, Answer) and response.content.is_eof() and response.content.total_bytes <= most_bytes:
        return response.content.read_nowait()
    return None
