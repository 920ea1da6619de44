"""What is posted: a body that is in memory, or one that is read while it is sent.

In: nothing. Out: `SmallBody`, and what is asked of every other body. Made by the sources, for inputs, and by the client, for
its other calls; written by the client; read by the pipeline, which asks for digest and fault.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol, TypeAlias

from .model import Problem


class SmallBody:
    """Encoded once and kept; the same bytes for each attempt."""

    __slots__ = ("content", "length", "sha256")

    def __init__(self, content: bytes, sha256: bytes | None) -> None:
        self.content = content
        self.sha256 = sha256  # of the source, not of the body
        self.length = len(content)

    @property
    def fault(self) -> Problem | None:
        """What is in memory can be written to its end."""
        return None


class StreamedBody(Protocol):
    """Read anew for each attempt. One attempt, one body."""

    @property
    def length(self) -> int:
        """In bytes, known before anything is read."""

    @property
    def sha256(self) -> bytes | None:
        """Of the source; known once the body has been written."""

    @property
    def fault(self) -> Problem | None:
        """Why it could not be written to its end: the source changed, vanished or cannot be read."""

    @property
    def short(self) -> bool:
        """Whether `whole` may be taken in place of `chunks`."""

    async def whole(self) -> list[bytes] | None:
        """All of it, in pieces; None where `fault` says why not."""

    def chunks(self) -> AsyncIterator[bytes]:
        """All of it in order, read while it is written. Ends early where `fault` says why."""


Body: TypeAlias = SmallBody | StreamedBody
