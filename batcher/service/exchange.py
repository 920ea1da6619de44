"""One request and its reply, as the transport and both of its ways see them.

In: nothing. Out: the types that pass between `transport`, `wire`, `session` and whoever reads a reply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import aiohttp
from multidict import CIMultiDictProxy

from ..core.bodies import Body
from ..core.rows import row
from ..version import __version__
from .deadlines import Progress

USER_AGENT: Final = f"batcher/{__version__}"
PATH_SAFE: Final = "/%:@!$&'()*+,;=~"  # what a path may hold as it is, beside letters and digits

T = TypeVar("T")


@row(frozen=True, slots=True)
class Request:
    """`path` with its query, after the endpoint's own path; `headers` beside those that every request has."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Body | None


class Response(Protocol):
    """A reply whose head has been read, and whose body is still to come: aiohttp's response is one, the wire's `Answer` too."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> CIMultiDictProxy[str]: ...
    @property
    def content(self) -> aiohttp.StreamReader: ...


class NotWritten(Exception):
    """The body has not left whole, so that the service has no whole request: its source changed, or a reply came first."""


Read: TypeAlias = Callable[[Response, Progress], Coroutine[Any, Any, T]]  # makes a value of a reply
Receive: TypeAlias = Callable[[Response, asyncio.BaseTransport | None], Coroutine[Any, Any, T]]


class Way(Protocol):
    """How a request reaches the service. Raises NotWritten, aiohttp.ClientError, TimeoutError, OSError, ValueError."""

    async def exchange(self, progress: Progress, request: Request, receive: Receive[T]) -> T:
        """Send it, and hand the reply, with what it came over, to `receive`, which reads it."""
