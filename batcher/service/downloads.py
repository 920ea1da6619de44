"""An output, written while it streams; where an address came in its place, from there.

In: the output's path, and what takes its bytes. Out: that it has arrived, what is wrong with it, or why there was no reply.
Called by the client. An address is asked without the key, whoever serves it, and is never shown: whoever knows it may read
there.
"""

from __future__ import annotations

from typing import Final, Protocol, TypeAlias
from urllib.parse import urljoin, urlsplit

import aiohttp

from ..core.addresses import is_loopback
from ..core.output_check import Spoiled
from ..core.remote import Arrived
from ..core.retry import Fault, Reply
from .credentials import shown
from .deadlines import Progress
from .decoding import Decoder, Elsewhere, NotAnOutput, unsigned
from .exchange import Read, Response
from .faults import stalled, words_of
from .transport import Transport

ADDRESSES: Final = 5  # from an output's reply to the place where its bytes lie
REDIRECTS: Final = (301, 302, 303, 307, 308)

Found: TypeAlias = Arrived | Spoiled | Elsewhere


class ByteSink(Protocol):
    async def write(self, data: bytes) -> None: ...


async def download(transport: Transport, path: str, sink: ByteSink) -> Arrived | Spoiled | Reply | Fault:
    """Write the output at this path to `sink`. Spoiled: the reply is whole, and no output."""

    async def read(response: Response, progress: Progress) -> Found:
        decoder = Decoder(response.headers.get("Content-Type", ""))
        try:
            async for piece in response.content.iter_any():
                await sink.write(decoder.feed(piece))
                progress.moved(len(piece))
            await sink.write(decoder.end())
        except NotAnOutput as error:
            return Spoiled(shown(str(error), transport.mask))
        except Elsewhere as place:
            return place
        return Arrived(decoder.declared)

    async def refused(response: Response, progress: Progress) -> Reply | Elsewhere:
        place = _redirected(response, transport.endpoint.base + path)
        return place if place is not None else await transport.receiver.refusal(response, progress)

    found: Found | Reply | Fault = await transport.send("GET", path, read, refused=refused)
    addresses = 0
    while isinstance(found, Elsewhere):
        addresses += 1
        if addresses > ADDRESSES:
            return Spoiled(f"it is {ADDRESSES} addresses away")
        found = await _fetch(transport, found.address, read)
    return found


async def _fetch(transport: Transport, address: str, read: Read[Found]) -> Found:
    """What lies at an address that stood in an output's place. What goes wrong there is not the service's doing: another
    request to it may name an address that works."""

    async def from_there(response: Response, progress: Progress) -> Found:
        if 200 <= response.status < 300:
            return await read(response, progress)
        return _redirected(response, address) or Spoiled(f"{where} answers {response.status}")

    where = "its address"
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        where = shown(f"its address at {parts.scheme}://{host}", transport.mask)
        local = is_loopback(host) and transport.endpoint.is_local
        if parts.scheme != "https" and not (parts.scheme == "http" and local):
            return Spoiled(f"{where} is not followed: it is not https")
        return await transport.fetch(address, from_there)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        words = stalled(transport.timeout_s) if isinstance(error, TimeoutError) else unsigned(words_of(error))
        return Spoiled(f"{where} gives nothing: {shown(words, transport.mask)}")


def _redirected(response: Response, asked: str) -> Elsewhere | None:
    """Where a redirect leads from the address that was asked."""
    place = response.headers.get("Location", "")
    return Elsewhere(urljoin(asked, place)) if response.status in REDIRECTS and place else None
