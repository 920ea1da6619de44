"""Until when a request may take, and how far it has got.

In: bytes as they move, out and in. Out: the end of a request that takes too long. Called by both ways of the transport while
they write, and by whoever reads a reply. Two bounds, which move with the bytes: `timeout_s` from the last that moved, and in
all what the least throughput allows, so that a trickle cannot hang a night.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final

from ..host.failpoint import failpoint
from .bandwidth import Bandwidth

LEAST_BYTES_PER_S: Final = 10_000  # a transfer that stays below this is ended at last


def ignore_sent() -> None:
    """For requests of which nobody wants to know when they left."""


def _nothing() -> None:
    """Before a request has a connection there is nothing to end."""


class Progress:
    """How far one request got, and until when it may take. As a context manager it works as `asyncio.timeout` does, but one
    `Watchdog` looks after all requests: a timer each, moved with every byte, cost as much as the parsing of the reply."""

    __slots__ = ("_cancelling", "_mark_sent", "_started", "_task", "_watchdog", "abort", "bytes_moved", "deadline", "late",
                 "left", "status")  # fmt: skip

    def __init__(self, mark_sent: Callable[[], None], watchdog: Watchdog) -> None:
        self._mark_sent = mark_sent
        self._watchdog = watchdog
        self._started = watchdog.time()
        self.bytes_moved = 0  # of the body and of the reply's; each counts once
        self.deadline = self._started + watchdog.timeout_s
        self.late = False
        self.left = False  # the last byte of the request has been handed on
        self.status: int | None = None  # of the reply, once its head has come
        self.abort: Callable[[], object] = _nothing

    def __enter__(self) -> Progress:
        """Where it is late, the task is cancelled; that ends as TimeoutError."""
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self.end_with(task.cancel)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.done()
        if self.late and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def end_with(self, abort: Callable[[], object]) -> None:
        """From now on the deadline holds, and this ends the request."""
        self.abort = abort
        self.deadline = self._watchdog.time() + self._watchdog.timeout_s
        self._watchdog.add(self)

    def done(self) -> None:
        """No deadline holds any more."""
        self._watchdog.requests.discard(self)

    def expire(self) -> None:
        """Too late."""
        self.late = True
        self.abort()

    def moved(self, count: int) -> None:
        """So many bytes more have moved."""
        self.bytes_moved += count
        timeout_s = self._watchdog.timeout_s
        still = self._watchdog.time() + timeout_s
        total = self._started + 2 * timeout_s + self.bytes_moved / LEAST_BYTES_PER_S
        self.deadline = still if still < total else total  # `min` takes three times as long, for every piece

    async def spend(self, bandwidth: Bandwidth, count: int) -> None:
        """Wait for the cap. That is nobody's fault: neither bound runs meanwhile."""
        began, deadline = self._watchdog.time(), self.deadline
        self.deadline = math.inf
        await bandwidth.spend(count)
        waited = self._watchdog.time() - began
        self._started += waited
        self.deadline = deadline + waited

    def leaving(self) -> None:
        """The last byte is handed on next: the kernel has it then, and from here on the request may arrive."""
        self._mark_sent()
        self.left = True
        failpoint("leaving")


class Watchdog:
    """Ends requests whose deadline has passed; looks ten times per `timeout_s` while there are any."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.requests: set[Progress] = set()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.time = self._loop.time

    def add(self, request: Progress) -> None:
        self.requests.add(request)
        if self._timer is None:
            self._timer = self._loop.call_later(self.timeout_s / 10, self._look)

    def _look(self) -> None:
        now = self.time()
        for request in [request for request in self.requests if request.deadline <= now]:
            self.requests.discard(request)
            request.expire()
        self._timer = self._loop.call_later(self.timeout_s / 10, self._look) if self.requests else None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
