"""A command's work with progress drawn, which signals end in order.

In: the work, its watchers. Out: its report; on the first SIGHUP, SIGINT or SIGTERM it ends in order, on another
SIGINT or SIGTERM at once. Called by `carry_out`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol, TypeAlias

from ..core.errors import Reason, Stop
from ..core.model import Manifest
from ..core.report import Report
from ..pipeline.operation import Operation
from ..reporting.progress import Style, show
from .output import say

PATIENCE_S: Final = 2.0  # of somebody at a terminal, before the wait for notifications is explained

Started: TypeAlias = Callable[[Operation], None]


class Work(Protocol):
    """What a command does with a manifest: it fills the report, and hands its operation over before it begins."""

    def __call__(self, *, report: Report, started: Started) -> Coroutine[Any, Any, object]: ...


class Watchers(Protocol):
    """What is called when the work begins, and when it has ended: see `afterwards`."""

    def begin(self) -> None: ...
    async def end(self, report: Report, failure: Exception | None) -> None: ...


async def watched(work: Work, manifest: Manifest, style: Style, watchers: Watchers) -> Report:
    """Do the work, then tell the watchers. Raises what the work raises."""
    report = Report(manifest.name, manifest.endpoint)
    interrupts = _Interrupts(style)

    def started(operation: Operation) -> None:
        watchers.begin()
        if style != "none":
            _say_bounded(operation.limits.concurrency, manifest.limits.concurrency)
        interrupts.halt_on_signal(operation)

    drawing = asyncio.ensure_future(show(report, style))
    failure: Exception | None = None
    try:
        await work(report=report, started=started)
    except Exception as error:
        failure = error
    finally:
        drawing.cancel()
        await asyncio.wait({drawing})
    await interrupts.cancel_on_signal(asyncio.ensure_future(watchers.end(report, failure)))
    if failure is not None:
        raise failure
    return report


class _Interrupts:
    """Signals halt the pipeline; once that has ended, they cut the watchers short."""

    def __init__(self, style: Style) -> None:
        self._style = style
        self._stop: Stop | None = None
        self._operation: Operation | None = None
        self._ending: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # ignored: nohup
                loop.add_signal_handler(number, self._on, number)

    def halt_on_signal(self, operation: Operation) -> None:
        """The work has begun; a signal may have come before it."""
        self._operation = operation
        if self._stop is not None:
            operation.halt(self._stop)

    async def cancel_on_signal(self, ending: asyncio.Task[None]) -> None:
        """The work is over, and its outcome stays."""
        self._ending = ending
        await asyncio.wait({ending}, timeout=PATIENCE_S)
        if not ending.done() and self._style == "bar":
            say("batcher: the work is over; whoever the manifest names is being notified (Ctrl-C does not wait for it)")
        await asyncio.wait({ending})
        if not ending.cancelled():
            ending.result()

    def _on(self, number: signal.Signals) -> None:
        if self._stop is not None:  # the second time: at once; what is durable stays
            if self._style != "none":
                say("\nbatcher: stopped at once; what the journal has stays, and the next run asks about the rest")
            os._exit(128 + number)
        # A terminal that is closed says it more than once, and systemd after its SIGTERM: also when the loop has ended.
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._stop = Stop(Reason(number.name.lower()), f"stopped by {number.name}", "the next run resumes")
        if self._ending is not None:
            self._ending.cancel()
            return
        if self._style == "bar":
            say("\nbatcher: finishing what is in flight; once more to stop at once")
        if self._operation is not None:
            self._operation.halt(self._stop)


def _say_bounded(most: int, wanted: int) -> None:
    """Once, where there can be fewer requests at once than were asked for."""
    if most < wanted:
        say(f"batcher: {most} requests at once, not {wanted}: no more files may be open here (raise ulimit -n)")
