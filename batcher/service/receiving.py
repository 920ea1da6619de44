"""A reply, read to its end within bounds: as JSON, as the words of a refusal, as the digest of an asset.

In: a `Response` whose body is still to come. Out: a `Reply`, or a digest. Called by the transport, through which each call
says how its reply is to be read. Raises what a broken connection raises, and ValueError for what cannot be read.
"""

from __future__ import annotations

import email.utils
import hashlib
import json
import time
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from ..core.retry import Reply
from .credentials import Mask, shown
from .deadlines import Progress
from .decoding import DataMember, NotAnOutput
from .error_text import Head, words_of
from .exchange import Response
from .wire import at_hand

REPLY_BYTES: Final = 1 << 20  # no reply but a listing or a download is larger
PIECE_BYTES: Final = 256 << 10  # of a download


class Receiver:
    """Reads replies. `mask` takes the key out of what they say."""

    def __init__(self, mask: Mask) -> None:
        self._mask = mask

    async def json(self, response: Response, progress: Progress) -> Reply:
        """A success: its JSON."""
        data = at_hand(response, REPLY_BYTES)
        if data is None:
            data = await _bounded(response, progress)
        if not data.strip():
            return Reply(response.status)
        try:
            return Reply(response.status, json.loads(data))
        except (ValueError, RecursionError):
            return Reply(response.status, readable=False, detail=shown(data.decode(errors="replace"), self._mask))

    async def refusal(self, response: Response, progress: Progress) -> Reply:
        """A reply that is no success: its status matters, its words are shown. No redirect is followed, for the key would
        go with it."""
        if response.status // 100 == 3:
            place = urlsplit(response.headers.get("Location", ""))
            detail = f"it redirects to {shown(place.netloc or place.path or 'nowhere', self._mask)}"
            if place.netloc:
                detail += "; if that is right, make it the endpoint"
        else:
            detail = shown(await _words(response, progress), self._mask)
        return Reply(response.status, None, True, detail, retry_after_s(response.headers.get("Retry-After")))


async def _bounded(response: Response, progress: Progress) -> bytes:
    """The reply's body. Raises ValueError over 1 MiB."""
    data = bytearray()
    async for piece in response.content.iter_any():
        data += piece
        progress.moved(len(piece))
        if len(data) > REPLY_BYTES:
            raise ValueError("the reply is larger than 1 MiB")
    return bytes(data)


async def _words(response: Response, progress: Progress) -> str:
    """What a refusal says. It may have a few words, and all that was sent, said again and escaped."""
    head = Head()
    left = REPLY_BYTES + 2 * progress.bytes_moved
    try:
        async for piece in response.content.iter_any():
            progress.moved(len(piece))
            head.feed(piece)
            left -= len(piece)
            if head.full or left < 0:
                break
    except aiohttp.ClientError:
        pass  # what has come says something, perhaps
    return words_of(head.text())


def retry_after_s(value: str | None) -> float | None:
    """Seconds from now: either form of Retry-After; None where there is none, or none that can be read."""
    if value is None:
        return None
    try:
        seconds = float(value)
        return seconds if 0 <= seconds < 1e9 else None
    except ValueError:
        pass
    try:
        at = email.utils.parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    return max(0.0, at.timestamp() - time.time())


async def digest(response: Response, progress: Progress) -> bytes:
    """SHA-256 of the data in `{"data": "data:…;base64,…"}`, decoded while it streams; of a prompt, its UTF-8."""
    member = DataMember()
    hashed = hashlib.sha256()
    try:
        async for piece in response.content.iter_chunked(PIECE_BYTES):
            progress.moved(len(piece))
            hashed.update(member.feed(piece))
        hashed.update(member.end())
    except NotAnOutput as error:
        raise ValueError(str(error)) from None
    return hashed.digest()
