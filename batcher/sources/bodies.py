"""Bodies of requests, of exactly known length: `{"data":"data:<MIME>;base64,<…>","additional":<…>}`.

In: planned inputs, contents. Out: a `SmallBody`, encoded once, or a `StreamBody`, read while it is sent. Made by the engines;
the client writes them.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator

from ..core.bodies import SmallBody
from ..core.model import ABSENT, JSON, TAG, Problem
from ..core.planning import InputPlan
from ..core.tags import can_carry_tag
from .encode_worker import body, member


class StreamBody(ABC):
    """Read anew for each attempt, chunk by chunk, while it is sent. One attempt, one StreamBody. Each kind of source has its
    own, which sets `sha256` when all has been read, or `fault`."""

    short = False  # whether `whole` may be taken in place of `chunks`

    def __init__(self, plan: InputPlan) -> None:
        self._plan = plan
        self._head = b'{"data":"data:' + plan.mime.encode() + b";base64,"
        self._tail_bytes = len(self._tail(bytes(32)))
        self.length = len(self._head) + 4 * ((plan.stat.size + 2) // 3) + self._tail_bytes
        self.sha256: bytes | None = None
        self.fault: Problem | None = None

    def _tail(self, sha256: bytes) -> bytes:
        return b'",' + member(*beside(self._plan), sha256.hex()) + b"}"

    @abstractmethod
    def chunks(self) -> AsyncIterator[bytes]:
        """The body in order; the last chunk closes the JSON object. Ends early where `fault` says why."""

    async def whole(self) -> list[bytes] | None:
        """All of the body, in pieces; None where `fault` says why not."""
        pieces = [chunk async for chunk in self.chunks()]
        return pieces if self.fault is None else None


def text_body(plan: InputPlan, text: str) -> SmallBody:
    """A prompt is sent as a plain string."""
    sha256 = hashlib.sha256(text.encode())
    return SmallBody(body(json.dumps(text).encode(), *beside(plan), sha256.hexdigest()), sha256.digest())


def beside(plan: InputPlan) -> tuple[JSON, tuple[str, str] | None]:
    """`additional`, and the tag's member and key, as `encode_worker` takes them."""
    additional = plan.input.additional
    tag = (TAG, plan.key.hex()) if can_carry_tag(additional) else None
    return None if additional is ABSENT else additional, tag
