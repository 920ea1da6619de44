"""One request on a connection of aiohttp's, and the reply as aiohttp's parser reads it.

In: the head's fields and a body that is in memory. Out: an `Answer`, whose body is still to be read. Called by
`flows_api` for everything but bodies that are read while they are sent, and proxies, which take aiohttp's session.
A session builds a request, a response, a writer and a timer for each call: measured at 1 KB that is two thirds of all
CPU time (175 µs a request, against 30 to 45 this way), and the whole of batcher has to keep up with the wire.
"""

from __future__ import annotations

import asyncio
import ssl as tls
from collections.abc import Callable, Mapping
from functools import cached_property
from time import monotonic
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest, ConnectionKey
from aiohttp.connector import BaseConnector, Connection
from aiohttp.http import StreamWriter
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.tracing import Trace
from multidict import CIMultiDictProxy
from yarl import URL

from ..version import __version__

BUFFER_BYTES: Final = 1 << 16
USER_AGENT: Final = f"batcher/{__version__}"
LOOK_S: Final = 0.25  # between two looks whether a reply has come while the kernel takes nothing


class Answer:
    """A reply whose head has been read; the same three names as aiohttp's response has."""

    __slots__ = ("content", "headers", "status")

    def __init__(self, status: int, headers: CIMultiDictProxy[str], content: aiohttp.StreamReader) -> None:
        self.status = status
        self.headers = headers
        self.content = content


class _Target(ClientRequest):
    """What the pool tells connections apart by; it is never sent."""

    @cached_property
    def connection_key(self) -> ConnectionKey:  # a property there, made anew each time
        return super().connection_key


class Pool(aiohttp.TCPConnector):
    """Connections of which none has a reply that nobody asked for: it would pass for that to what is asked next."""

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout) -> Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            if connection.protocol is None or not connection.protocol.should_close:
                return connection
            connection.close()


class Wire:
    """The way to one endpoint. Use it inside a running loop; the connector is its owner's to close."""

    def __init__(
        self, connector: BaseConnector, base: str, context: tls.SSLContext | bool, timeout: aiohttp.ClientTimeout,
        keepalive_s: float,
    ) -> None:  # fmt: skip
        parts = urlsplit(base)
        self._connector = connector
        # Not in the pool, which takes its time (10 µs of a request's 40) to find one of many hosts' connections.
        self._idle: list[tuple[Connection, float]] = []
        self._keepalive_s = keepalive_s
        self._path = quote(parts.path, safe="/%:@!$&'()*+,;=~")
        host = parts.netloc.rpartition("@")[2]
        self._head = f" HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\nUser-Agent: {USER_AGENT}\r\n".encode()
        self._request = _Target("GET", URL(base), loop=asyncio.get_running_loop(), ssl=context)
        self._last: tuple[tuple[str, str, Mapping[str, str]], bytes] | None = None
        self._timeout = timeout

    def head(
        self, method: str, path: str, headers: Mapping[str, str], query: Mapping[str, str] | None, length: int | None
    ) -> bytes:
        """The request's head. `length`: of its JSON body, None for none. Raises ValueError for what would split it."""
        if query:
            path = f"{path}?{urlencode(query)}"
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
        return await self._connector.connect(self._request, [], self._timeout)

    def keep(self, connection: Connection) -> None:
        """Its reply has been read, to the end or not."""
        protocol = connection.protocol
        if unsent(connection):
            abort(connection)
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
    before = unsent(connection)
    drained = asyncio.ensure_future(StreamWriter(protocol, loop).drain())
    try:
        while not drained.done() and not len(protocol):
            await asyncio.wait({drained}, timeout=LOOK_S)
            now = unsent(connection)
            if now < before:
                moved(before - now)
                before = now
        if drained.done():
            drained.result()
    finally:
        if not drained.done():  # a reply has come, or it is given up; what becomes of the rest is nobody's affair
            drained.add_done_callback(lambda drained: drained.cancelled() or drained.exception())


def unsent(connection: Connection) -> int:
    """Bytes that the kernel has not taken yet."""
    return connection.transport.get_write_buffer_size() if connection.transport is not None else 0


def abort(connection: Connection) -> None:
    """End it at once: whoever waits for its reply gets an error."""
    if connection.transport is not None:
        connection.transport.abort()
