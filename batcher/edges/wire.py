"""One small request on a connection of aiohttp's pool, and the reply as aiohttp's parser reads it.

In: the head's fields and a body that is one piece of bytes. Out: an `Answer`, whose body is still to be read. Called by
`flows_api` for everything but streamed bodies and proxies, which take aiohttp's session.
A session builds a request, a response, a writer and a timer for each call: measured at 1 KB that is two thirds of all
CPU time (175 µs a request, against 60 this way), and the whole of batcher has to be as fast as curl's half.
"""

from __future__ import annotations

import asyncio
import ssl as tls
from collections.abc import Mapping
from functools import cached_property
from types import TracebackType
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
from aiohttp.client_reqrep import ClientRequest, ConnectionKey
from aiohttp.connector import BaseConnector, Connection
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDictProxy
from yarl import URL

BUFFER_BYTES: Final = 1 << 16


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


class Wire:
    """The way to one endpoint. Use it inside a running loop; the connector is its owner's to close."""

    def __init__(self, connector: BaseConnector, base: str, context: tls.SSLContext | bool, connect_s: float) -> None:
        parts = urlsplit(base)
        self._connector = connector
        self._path = quote(parts.path, safe="/%:@!$&'()*+,;=~")
        host = parts.netloc.rpartition("@")[2]
        self._head = f" HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n".encode()
        self._request = _Target("GET", URL(base), loop=asyncio.get_running_loop(), ssl=context)
        self._last: tuple[tuple[str, str, Mapping[str, str]], bytes] | None = None
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_s)

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
            if text.count(b"\n") != 3 + len(headers):
                raise ValueError("a line break in a header")
            self._last = what, text
        if length is None:
            return self._last[1] + b"\r\n"
        return b"%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (self._last[1], length)

    def exchange(self) -> _Exchange:
        """One request and its reply, as an async context manager."""
        return _Exchange(self._connector, self._request, self._timeout)


class _Exchange:
    """Holds a connection; gives it back to the pool where the reply was read to its end, else closes it."""

    __slots__ = ("_connection", "_connector", "_request", "_timeout")

    def __init__(self, connector: BaseConnector, request: ClientRequest, timeout: aiohttp.ClientTimeout) -> None:
        self._connector = connector
        self._request = request
        self._timeout = timeout
        self._connection: Connection | None = None

    async def __aenter__(self) -> _Exchange:
        self._connection = await self._connector.connect(self._request, [], self._timeout)
        return self

    async def ask(self, data: bytes) -> Answer:
        """Write all of it at once (the kernel takes it, or the transport keeps it), then wait for the reply's head."""
        assert self._connection is not None
        protocol = self._connection.protocol
        if protocol is None or protocol.transport is None:
            raise aiohttp.ServerDisconnectedError
        protocol.set_response_params(read_until_eof=True, read_bufsize=BUFFER_BYTES)
        protocol.transport.write(data)
        try:
            while True:
                message, content = await protocol.read()
                if not 100 <= message.code < 200:
                    return Answer(message.code, message.headers, content)
        except HttpProcessingError as error:
            raise aiohttp.ClientError(f"no HTTP: {error.message}") from error

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._connection is not None
        if error is None:
            self._connection.release()  # closes it, unless the reply was read to its end
        else:
            self._connection.close()
