"""A listing, asked for page after page, its items handed on while they arrive.

In: a path, and what is to be done with an item. Out: the items, and a `Listing`: whether it may prove that something is not
there. Called by the client for each of its lists. A million items are listed without holding them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from ..core.remote import Listing
from ..core.retry import Fault, FaultKind, Reply
from .deadlines import Progress
from .exchange import Response
from .listing import ListParser
from .pages import Pages
from .signs import Signs, signs_of
from .transport import Transport

PAGE_RETRIES: Final = 5  # of one page after the first; then the list is begun anew
RETRY_S: Final = (0.25, 30.0)  # before the first of them, doubled each time; and at most
PIECE_BYTES: Final = 256 << 10  # parsed at a time


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What is listed. `names` are those of the list in the reply, as `plain` gives them; `each` reads an item: its id, and
    what hands it on. It raises ValueError for an item that cannot be one."""

    path: str
    parameters: Mapping[str, str]
    names: frozenset[str]
    each: Callable[[object], tuple[str, Callable[[], None]]]


async def list_all(transport: Transport, query: ListQuery, between_pages_s: float) -> Listing | Reply | Fault:
    """All pages, as far as they lead. What an earlier page has shown is not handed on again."""
    pages = Pages(transport.endpoint.base, query.path, query.parameters, time.monotonic)

    def take(item: object) -> None:
        ident, hand_on = query.each(item)
        if pages.shows(ident):
            hand_on()

    async def read(response: Response, progress: Progress) -> Signs:
        parser = ListParser(take, query.names)
        async for piece in response.content.iter_any():
            progress.moved(len(piece))
            pages.moved(len(piece))
            for start in range(0, len(piece), PIECE_BYTES):
                parser.feed(piece[start : start + PIECE_BYTES])
        parser.close()
        return signs_of(response.status, parser.envelope, response.headers)

    failed = 0
    while True:
        found = await transport.send("GET", pages.address, read)
        if isinstance(found, Fault) or (isinstance(found, Reply) and not pages.refused(found.status)):
            # One page of many: from the first again, a long list would never come to its end.
            if not pages.begun or failed >= PAGE_RETRIES or not _passes(found):
                return found
            failed += 1
            await asyncio.sleep(_pause_s(found, failed))
            pages.again()
            continue
        failed = 0
        listing = pages.turn(found if isinstance(found, Signs) else None)
        if listing is not None:
            return listing
        await asyncio.sleep(between_pages_s)


def _passes(found: Reply | Fault) -> bool:
    """Whether a page that failed so may be had a moment later."""
    if isinstance(found, Fault):
        return found.kind is not FaultKind.NO_WAY
    return found.status in (408, 425, 429) or found.status >= 500


def _pause_s(found: Reply | Fault, failed: int) -> float:
    first_s, most_s = RETRY_S
    asked_s = found.retry_after_s if isinstance(found, Reply) else None
    return min(most_s, asked_s or first_s * 2**failed)
