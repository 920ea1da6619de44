"""One request on a connection of aiohttp's, and the reply as aiohttp's parser reads it.

In: the head's fields and a body that is in memory. Out: an `Answer`, whose body is still to be read. Called by
`flows_api` for everything but bodies that are read while they are sent, and proxies, which take aiohttp's session.
A session builds a request, a response, a writer and a timer for each call: measured at 1 KB that is two thirds of all
CPU time (175 µs a request, against 30 to 45 this way), and the whole of batcher has to keep up with the wire.

This is the only module that knows aiohttp's insides. They are listed in `OF_THE_POOL` and `OF_THE_WIRE`, and looked for
when it is imported. Where one of them is missing, in a newer aiohttp, there is no `Wire` and everything goes through the
session, slower and just as right; where the pool cannot tell either what has come unasked, no connection is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import ssl as tls
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import cached_property
from time import monotonic
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

import aiohttp
from yarl import URL

from ..version import __version__

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
USER_AGENT: Final = f"batcher/{__version__}"
LOOK_S: Final = 0.25  # between two looks whether a reply has come while the kernel takes nothing
PATH_SAFE: Final = "/%:@!$&'()*+,;=~"

# Module of aiohttp, name, and in brackets the parameters that are given, beside which no other may be required.
OF_THE_POOL: Final = (
    "connector.Connection.close", "connector.Connection.protocol", "connector.Connection.transport",
    "connector.TCPConnector.connect", "client_proto.ResponseHandler.should_close",
)  # fmt: skip
OF_THE_WIRE: Final = (
    *OF_THE_POOL, "connector.Connection.closed", "connector.Connection.release",
    "connector.TCPConnector.connect(req, traces, timeout)",
    "client_proto.ResponseHandler.__len__", "client_proto.ResponseHandler.read", "client_proto.ResponseHandler.transport",
    "client_proto.ResponseHandler.writing_paused",
    "client_proto.ResponseHandler.set_response_params(read_until_eof, read_bufsize)",
    "client_reqrep.ClientRequest(method, url, loop, ssl)", "client_reqrep.ClientRequest.connection_key",
    "http.StreamWriter(protocol, loop)", "http.StreamWriter.drain", "http_exceptions.HttpProcessingError.message",
    "http_parser.RawResponseMessage.code", "http_parser.RawResponseMessage.headers",
    "streams.StreamReader.exception", "streams.StreamReader.is_eof", "streams.StreamReader.read_nowait",
    "streams.StreamReader.set_exception", "streams.StreamReader.total_bytes",
)  # fmt: skip


def lacking(names: Sequence[str], module: Callable[[str], ModuleType] = importlib.import_module) -> list[str]:
    """Those of the names that this aiohttp does not have, or has with other parameters."""
    return [name for name in names if not _is_there(name, module)]


def _is_there(name: str, module: Callable[[str], ModuleType]) -> bool:
    path, _, given = name.rstrip(")").partition("(")
    inside, *rest = path.split(".")
    try:
        found: Any = module(f"aiohttp.{inside}")
        for part in rest:
            found = getattr(found, part)
        if not given:
            return True
        parameters = list(inspect.signature(found).parameters.values())
    except (ImportError, AttributeError, TypeError, ValueError):
        return False
    if not inspect.isclass(found):
        del parameters[:1]  # self
    wanted = set(given.split(", "))
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = {one.name for one in parameters if one.default is one.empty and one.kind not in variable}
    return required <= wanted <= {one.name for one in parameters if one.kind is not one.POSITIONAL_ONLY}


LACKING = lacking(OF_THE_WIRE)
POOL_LACKING = lacking(OF_THE_POOL)
_taken: ContextVar[asyncio.BaseTransport | None] = ContextVar("taken", default=None)


class Answer:
    """A reply whose head has been read; the same three names as aiohttp's response has."""

    __slots__ = ("content", "headers", "status")

    def __init__(self, status: int, headers: CIMultiDictProxy[str], content: aiohttp.StreamReader) -> None:
        self.status = status
        self.headers = headers
        self.content = content


def _target(base: str, context: tls.SSLContext | bool) -> ClientRequest:
    """What the pool tells connections apart by; it is never sent."""

    class Target(ClientRequest):
        @cached_property
        def connection_key(self) -> ConnectionKey:  # a property there, made anew each time
            return super().connection_key

    return Target(method="GET", url=URL(base), loop=asyncio.get_running_loop(), ssl=context)


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
            if not connection.protocol.should_close and not unsent(connection.transport):
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
        keepalive_s: float,
    ) -> None:  # fmt: skip
        parts = urlsplit(base)
        self._connector = connector
        # Not in the pool, which takes its time (10 µs of a request's 40) to find one of many hosts' connections.
        self._idle: list[tuple[Connection, float]] = []
        self._keepalive_s = keepalive_s
        self._path = quote(parts.path, safe=PATH_SAFE)
        host = parts.netloc.rpartition("@")[2]
        self._head = f" HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\nUser-Agent: {USER_AGENT}\r\n".encode()
        self._request = _target(base, context)
        self._last: tuple[tuple[str, str, Mapping[str, str]], bytes] | None = None
        self._timeout = timeout

    def head(self, method: str, path: str, headers: Mapping[str, str], length: int | None) -> bytes:
        """The request's head. `length`: of its JSON body, None for none. Raises ValueError for what would split it."""
        what = (method, path, headers)
        if self._last is None or self._last[0] != what:  # the inputs of one flow differ in their lengths only
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            text = f"{method} {self._path}{path}".encode("ascii") + self._head + lines.encode("latin-1")
            if text.count(b"\n") != 4 + len(headers):
                raise ValueError("a line break in a header")
            self._last = what, text
        if length is None:
            return self._last[1] + b"\r\n"
        return b"%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (self._last[1], length)

    async def connect(self) -> Connection:
        """The connection that was used last, or a new one. Give it back with `keep`, or close it."""
        while self._idle:
            connection, since = self._idle.pop()
            protocol = connection.protocol
            # `should_close` also where something has come meanwhile: see `Pool`.
            usable = not connection.closed and protocol is not None and not protocol.should_close
            if usable and monotonic() - since < self._keepalive_s:
                return connection
            connection.close()
        return await self._connector.connect(req=self._request, traces=[], timeout=self._timeout)

    def keep(self, connection: Connection) -> None:
        """Its reply has been read, to the end or not."""
        protocol = connection.protocol
        if unsent(connection.transport):
            abort(connection.transport)
        if protocol is None or protocol.should_close or connection.closed:
            connection.close()
        else:
            self._idle.append((connection, monotonic()))

    def give_back(self) -> None:
        """Hand the idle connections to the pool, for aiohttp's session to take or for its owner to close."""
        while self._idle:
            self._idle.pop()[0].release()


async def ask(
    connection: Connection, pieces: list[bytes], leaving: Callable[[], None], moved: Callable[[int], None]
) -> Answer:
    """Write the request, then wait for the reply's head. `leaving` is called before the last piece is written, which waits
    until the kernel has taken most of what comes before it; not where the reply comes earlier. `moved` is told of bytes that
    have left meanwhile. The list is emptied, so that nothing is held twice. Raises aiohttp.ClientError."""
    protocol = connection.protocol
    if protocol is None or protocol.transport is None:
        raise aiohttp.ServerDisconnectedError
    protocol.set_response_params(read_until_eof=True, read_bufsize=BUFFER_BYTES)
    last = pieces.pop()
    for piece in pieces:
        protocol.transport.write(piece)
    pieces.clear()
    if protocol.writing_paused:
        await _drain(connection, protocol, moved)
    if not len(protocol):  # no reply yet, as nearly always
        if protocol.transport is None:
            raise aiohttp.ServerDisconnectedError
        leaving()
        protocol.transport.write(last)
    try:
        while True:
            message, content = await protocol.read()
            if message.code >= 200 or message.code < 100:
                return Answer(message.code, message.headers, content)
    except HttpProcessingError as error:
        raise aiohttp.ClientError(f"no HTTP: {error.message}") from error


async def _drain(connection: Connection, protocol: ResponseHandler, moved: Callable[[int], None]) -> None:
    """Until the kernel has taken most of what was written, or a reply has come. Raises aiohttp.ClientError."""
    loop = asyncio.get_running_loop()
    before = unsent(connection.transport)
    drained = asyncio.ensure_future(StreamWriter(protocol, loop).drain())
    try:
        while not drained.done() and not len(protocol):
            await asyncio.wait({drained}, timeout=LOOK_S)
            now = unsent(connection.transport)
            if now < before:
                moved(before - now)
                before = now
        if drained.done():
            drained.result()
    finally:
        if not drained.done():  # a reply has come, or it is given up; what becomes of the rest is nobody's affair
            drained.add_done_callback(lambda drained: drained.cancelled() or drained.exception())


def unsent(transport: asyncio.BaseTransport | None) -> int:
    """Bytes that the kernel has not taken yet."""
    return transport.get_write_buffer_size() if isinstance(transport, asyncio.WriteTransport) else 0


def abort(transport: asyncio.BaseTransport | None) -> None:
    """End it at once: whoever waits for its reply gets an error."""
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()


def abandon(connection: Connection, response: Answer) -> None:
    """Also where the connection has gone and its reader was not told, as aiohttp's parser leaves it after a bad chunk."""
    abort(connection.transport)
    if not response.content.is_eof() and response.content.exception() is None:
        response.content.set_exception(aiohttp.ClientPayloadError("given up"))


def at_hand(answer: Answer | aiohttp.ClientResponse, most_bytes: int) -> bytes | None:
    """The body where it came with the head, as most do; else it is still to be read."""
    if isinstance(answer, Answer) and answer.content.is_eof() and answer.content.total_bytes <= most_bytes:
        return answer.content.read_nowait()
    return None
