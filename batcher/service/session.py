"""The other way: a request through aiohttp's session.

In: a `Request`, or an address that stood in an output's place. Out: the reply, to whoever receives it. Called by the transport
for bodies that are written bit by bit, behind a proxy, and for everything where there is no wire. Behind a proxy aiohttp
itself repeats a GET or a DELETE, once, where a kept connection turns out to be dead; never a POST or a PATCH.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from ..core.bodies import Body, SmallBody
from ..host.failpoint import failpoint
from ..host.proxies import proxy_for
from .bandwidth import CAPPED_BYTES, Bandwidth
from .deadlines import Progress
from .endpoint import Endpoint
from .exchange import PATH_SAFE, USER_AGENT, NotWritten, Receive, Request
from .wire import Pool, forget_taken, taken

T = TypeVar("T")


class Session:
    """The way to one endpoint, and to addresses elsewhere. `idle_back` hands connections that are idle elsewhere to the
    pool: it counts them, and the session would wait for one."""

    def __init__(
        self, connector: Pool, endpoint: Endpoint, timeout: aiohttp.ClientTimeout, bandwidth: Bandwidth,
        idle_back: Callable[[], None],
    ) -> None:  # fmt: skip
        self._endpoint = endpoint
        self._bandwidth = bandwidth
        self._idle_back = idle_back
        self._client = aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            # Not trust_env: it would also take a password from ~/.netrc in place of the key. No proxy here, for an output may
            # lie at an address that has another one, or none.
            headers={"User-Agent": USER_AGENT},
            auto_decompress=True,
        )

    @cached_property
    def _target(self) -> str:
        base = self._endpoint.base
        return f"{URL(base).origin()}{quote(urlsplit(base).path, safe=PATH_SAFE)}"

    async def close(self) -> None:
        await self._client.close()

    async def exchange(self, progress: Progress, request: Request, receive: Receive[T]) -> T:
        """As `Way` has it."""
        url = URL(self._target + request.path, encoded=True)  # as the wire asks for it
        body = request.body
        with progress:
            if body is None:
                progress.leaving()
            data = None if body is None else _Posted(body, progress, self._bandwidth)
            return await self._ask(request.method, url, request.headers, data, self._endpoint.proxy, receive)

    async def fetch(self, progress: Progress, address: str, receive: Receive[T]) -> T:
        """What lies at an address, whoever serves it: asked for without the key. Raises as `exchange` does."""
        url = URL(address, encoded=True)  # a signature is over the very characters
        with progress:
            progress.left = True
            return await self._ask("GET", url, {}, None, proxy_for(address), receive)

    async def _ask(
        self, method: str, url: URL, headers: Mapping[str, str], data: _Posted | None, proxy: str | None, receive: Receive[T]
    ) -> T:
        self._idle_back()
        forget_taken()
        async with self._client.request(
            method, url, headers=headers, data=data, proxy=proxy,
            allow_redirects=False,  # the key is for this address only
        ) as response:  # fmt: skip
            return await receive(response, taken())


class _Posted(aiohttp.Payload):
    """A body that tells how far it got."""

    def __init__(self, body: Body, progress: Progress, bandwidth: Bandwidth) -> None:
        super().__init__(b"", content_type="application/json")
        self._body = body
        self._progress = progress
        self._bandwidth = bandwidth

    @property
    def size(self) -> int:
        return self._body.length

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("a body is written, never shown")

    async def write(self, writer: AbstractStreamWriter) -> None:
        body = self._body
        if isinstance(body, SmallBody):
            await self._write(writer, body.content, last=True)
            return
        left = body.length
        most = CAPPED_BYTES if self._bandwidth.capped else left
        async for chunk in body.chunks():
            for start in range(0, len(chunk), most):
                piece = chunk[start : start + most]
                left -= len(piece)
                await self._write(writer, piece, last=not left)
                failpoint("between chunks")
        if left:
            raise NotWritten  # aiohttp would wait for ever for the rest

    async def _write(self, writer: AbstractStreamWriter, piece: bytes, *, last: bool) -> None:
        await self._progress.spend(self._bandwidth, len(piece))
        if last:
            self._progress.leaving()
        await writer.write(piece)
        self._progress.moved(len(piece))

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        await self.write(writer)
