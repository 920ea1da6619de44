"""One object of a web server: looked at, read.

In: an https address, maybe signed; plain http to loopback only. Out: what lies there now, its bytes. Made by `reading`, and
used on the loop of `client`. Redirects are followed to https only, with no header of anybody else's; nothing of the program's
own key is known here. A look is a GET of the first bytes, for many a signed address forbids HEAD. (aiohttp, not obstore: that
takes no address with a query, no reply without a length, and any redirect.) """

from __future__ import annotations

import asyncio
import atexit
import contextlib
import hashlib
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Final
from urllib.parse import urljoin, urlsplit

import aiohttp

from ..core.addresses import is_loopback
from ..core.objects import mark_of, split
from ..core.pauses import pause_after
from ..host.proxies import proxy_for
from ..version import __version__
from .client import objects
from .faults import StoreFault, What, of_status
from .reading import MAGIC_BYTES, SECOND_NS, OpenedObject, Seen
from .stores import QUIET_S, RETRIES

HOPS: Final = 5
PIECE_BYTES: Final = 64 << 10
PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0, 4.0, 5.0)
BROKEN: Final = StoreFault(What.UNAVAILABLE, "cannot be had now: the connection broke", "run again later")
_RANGE: Final = re.compile(r"bytes (?:\d+-\d+|\*)/(\d+)")


class WebObject:
    """The Reader for https."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._address = split(url)

    async def look(self, *, inside: bool) -> Seen:
        async with self._get({"Range": f"bytes=0-{MAGIC_BYTES - 1}"}) as reply:
            total = _RANGE.fullmatch(reply.headers.get("Content-Range", ""))
            if reply.status == 416:
                return 0, 0, 0, b""
            size = int(total[1]) if reply.status == 206 and total is not None else _length(reply)
            mtime_ns, mark = _identity(reply.headers)
            if size >= 0 and (mark or mtime_ns):
                return size, mtime_ns, mark, await _first(reply)
        return await self._read_to_know()

    async def _read_to_know(self) -> Seen:
        """Where no header tells its size, or by what it could be recognised: it is read once."""
        opened = await self.open(PIECE_BYTES)
        hashed, size, head = hashlib.sha256(), 0, b""
        async for piece in opened.pieces:
            hashed.update(piece)
            size += len(piece)
            head = (head + piece[:MAGIC_BYTES])[:MAGIC_BYTES]
        _, mtime_ns, mark, _ = opened.seen
        return size, mtime_ns, mark or (0 if mtime_ns else mark_of(hashed.hexdigest())), head

    async def open(self, piece_bytes: int) -> OpenedObject:
        stack = contextlib.AsyncExitStack()
        reply = await stack.enter_async_context(self._get({}))
        seen = (_length(reply), *_identity(reply.headers), b"")
        return OpenedObject(seen, self._pieces(stack, reply, piece_bytes))

    async def _pieces(
        self, stack: contextlib.AsyncExitStack, reply: aiohttp.ClientResponse, least: int
    ) -> AsyncIterator[bytes]:
        """In pieces of `least` bytes; where the connection breaks, what is missing is asked for, of the same object only."""
        headers, length, came, breaks = reply.headers, _length(reply), 0, 0
        held = bytearray()
        try:
            while True:
                try:
                    async for data in reply.content.iter_any():
                        came += len(data)
                        held += data
                        if len(held) >= least:
                            yield bytes(held)
                            held.clear()
                    if length >= 0 and came < length:
                        raise BROKEN
                    break
                except (aiohttp.ClientError, TimeoutError, OSError, StoreFault) as error:
                    breaks += 1
                    if breaks > RETRIES or not any(_identity(headers)):
                        raise BROKEN from error
                await stack.aclose()
                await asyncio.sleep(pause_after(breaks - 1, PAUSES_S))
                reply = await stack.enter_async_context(self._get({"Range": f"bytes={came}-", **_if_same(headers)}))
                if reply.status != 206 or _identity(reply.headers) != _identity(headers):
                    raise StoreFault(What.CHANGED, "changed while it was read", "run again once nobody writes to it")
            if held:
                yield bytes(held)
        finally:
            await stack.aclose()

    @contextlib.asynccontextmanager
    async def _get(self, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """The reply at the end of all redirects, tried again where it cannot be had now. Raises StoreFault."""
        attempt = 0
        while True:
            try:
                reply = await self._followed(headers)
                break
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                fault: StoreFault | None = _of_network(error)
            except StoreFault as error:
                fault = error
            assert fault is not None
            attempt += 1
            if fault.what is not What.UNAVAILABLE or attempt > RETRIES:
                raise fault
            await asyncio.sleep(pause_after(attempt - 1, PAUSES_S))
        try:
            yield reply
        finally:
            reply.close()  # not to its end: it may be long

    async def _followed(self, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        url = self._url
        for _ in range(HOPS + 1):
            reply = await _session().get(url, headers=headers, allow_redirects=False, proxy=proxy_for(url))
            place = reply.headers.get("Location", "")
            if reply.status in (301, 302, 303, 307, 308) and place:
                reply.close()
                url = _allowed(urljoin(url, place), url)
                continue
            fault = of_status(reply.status, self._address.scheme) if reply.status != 416 else None
            if fault is not None:
                reply.close()
                raise fault
            return reply
        raise StoreFault(What.OTHER, f"cannot be read: it is redirected more than {HOPS} times", "name where it really lies")


def _allowed(url: str, before: str) -> str:
    """Where a redirect may lead: to https; on this machine, from plain http to plain http."""
    parts = urlsplit(url)
    local = parts.scheme == "http" and before.startswith("http://") and is_loopback(parts.hostname or "")
    if parts.scheme != "https" and not local:
        raise StoreFault(What.OTHER, "cannot be read: it is redirected to what is not https", "name where it really lies")
    return url


def _length(reply: aiohttp.ClientResponse) -> int:
    """Bytes of the whole, below 0 where it is not said."""
    return reply.content_length if reply.content_length is not None and reply.status == 200 else -1


def _identity(headers: Mapping[str, str]) -> tuple[int, int]:
    """Time of the last change in ns and mark; zeros where the server says neither."""
    tag, changed = headers.get("ETag", ""), 0
    with contextlib.suppress(ValueError, TypeError):
        changed = (
            int(parsedate_to_datetime(headers["Last-Modified"]).timestamp()) * SECOND_NS if "Last-Modified" in headers else 0
        )
    return changed, mark_of(tag) if tag else 0


def _if_same(headers: Mapping[str, str]) -> dict[str, str]:
    """The condition by which the rest is that of the same object."""
    tag = headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return {"If-Match": tag}
    return {"If-Unmodified-Since": headers["Last-Modified"]} if "Last-Modified" in headers else {}


async def _first(reply: aiohttp.ClientResponse) -> bytes:
    head = b""
    try:
        while len(head) < MAGIC_BYTES and (data := await reply.content.read(MAGIC_BYTES - len(head))):
            head += data
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise BROKEN from error
    return head


def _of_network(error: BaseException) -> StoreFault:
    """Without the address, which may be signed."""
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError() | ssl.SSLError():
            return StoreFault(What.OTHER, "cannot be read: its certificate is not trusted", "see SSL_CERT_FILE")
        case aiohttp.ClientConnectorDNSError():
            return StoreFault(
                What.UNAVAILABLE, "cannot be had now: the host's name is not known", "check the address, or run again later"
            )
        case aiohttp.ClientConnectorError():
            return StoreFault(
                What.UNAVAILABLE,
                "cannot be had now: there is no connection to its host",
                "check the address, or run again later",
            )
        case TimeoutError():
            return StoreFault(What.UNAVAILABLE, "cannot be had now: nothing came for too long", "run again later")
        case aiohttp.InvalidURL():
            return StoreFault(What.OTHER, "is no address that can be read", "check it")
        case _:
            return BROKEN


@cache
def _session() -> aiohttp.ClientSession:
    """On the loop of `client`, for as long as the process lives."""
    made = aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=QUIET_S), auto_decompress=False,
        headers={"User-Agent": f"batcher/{__version__}", "Accept-Encoding": "identity"}, cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=PIECE_BYTES,
    )  # fmt: skip
    atexit.register(lambda: objects().begin(made.close()).result(1.0))
    return made
