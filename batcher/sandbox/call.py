"""One request as a value: what is called, and, once it was read, what is left to do.

In: nothing. Out: `Call` and `Received`. Every call takes two steps: receive the request to its end, then `act`: commit
and reply. A fault may come between the two or after: that is the business of `server`; the calls know nothing of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from .intake import Asset
from .reply import Reply

WRITES: Final = frozenset({"create", "start", "abort", "delete", "upload"})


@dataclass(slots=True)
class Call:
    """One request. A fault may ask for a bad end of what it begins."""

    name: str
    request: web.BaseRequest
    flow_id: str = ""
    asset_id: str = ""
    body: bytes | None = None  # read before, where the call's name or a fault depends on it
    fail_flow: bool = False
    input_error: bool = False


@dataclass(slots=True)
class Received:
    """A request that was read to its end. Call `discard` when all is done, whether it was committed or not."""

    act: Callable[[], Awaitable[Reply]]
    assets: list[Asset] = field(default_factory=list)

    def discard(self) -> None:
        for asset in self.assets:
            asset.discard()
