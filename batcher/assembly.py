"""The engines of one command, put together: journal, client, sources, limits, clock.

In: a manifest, `Settings`. Out: an `Operation` with everything open, as long as it is used. Called by the public API only.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from .core.errors import Reason, Stop, UsageError
from .core.events import SILENT, Events
from .core.model import SANDBOX, Manifest
from .core.planning import Options
from .core.report import Report
from .host.process import requests_at_once, require_utf8
from .journal.open import journal_path, open_journal, state_folder
from .journal.ports import Journal
from .pipeline.operation import Operation
from .service.bandwidth import Bandwidth
from .service.byte_budget import ByteBudget
from .service.client import FlowsApi
from .service.credentials import Key
from .service.limiter import Limiter
from .sources.dispatch import AllSources
from .sources.images import Images


@dataclass(frozen=True, slots=True)
class Settings:
    """What flags say beyond the manifest. `key` is asked for the API key (None: no key), and again after each 401; where it
    has no other one, so long as `key_wait_s` says, for a file may be replaced a moment late. `max_duration_s` is one deadline
    for the whole run (None: the manifest's). `state`: the folder of the journal (None: `.batcher` beside the manifest)."""

    options: Options = field(default_factory=Options)
    key: Callable[[], str | None] = lambda: None
    state: Path | None = None
    ca_file: str | None = None
    max_duration_s: float | None = None
    key_wait_s: float = 0.0


DEFAULT_SETTINGS: Final = Settings()


class SystemClock:
    """The machine's own time."""

    wall = staticmethod(time.time)
    steady = staticmethod(time.monotonic)
    sleep = staticmethod(asyncio.sleep)


def fitting(manifest: Manifest, events: Events = SILENT) -> Manifest:
    """The same with no more requests at once than this process can open files for; told where they are fewer. Raises
    UsageError where it is no place to work in. Before a journal is opened: it needs some of them."""
    require_utf8()
    limits = manifest.limits
    most = requests_at_once(limits.concurrency, sandbox=manifest.endpoint == SANDBOX)
    if most < limits.concurrency and events.enabled:
        events.emit("concurrency_bounded", "warning", {"concurrency": most, "wanted": limits.concurrency})
    return replace(manifest, limits=replace(limits, concurrency=most))


@contextlib.asynccontextmanager
async def _endpoint(manifest: Manifest, state: Path | None) -> AsyncIterator[str]:
    """The URL to talk to: the manifest's, or that of a sandbox that lives as long as this."""
    if manifest.endpoint != SANDBOX:
        yield manifest.endpoint
        return
    from .sandbox import Sandbox  # only where it is asked for

    async with contextlib.AsyncExitStack() as stack:
        try:
            state_folder(manifest, state).mkdir(mode=0o700, parents=True, exist_ok=True)
            sandbox = await stack.enter_async_context(Sandbox(state_folder(manifest, state) / "sandbox"))
        except BlockingIOError:
            raise UsageError("the embedded sandbox is in use by another command", "wait for it to end") from None
        except OSError as error:
            raise UsageError(f"the embedded sandbox cannot be served: {error}", "see --state") from error
        yield sandbox.url


@contextlib.asynccontextmanager
async def open_engines(
    manifest: Manifest, settings: Settings, journal: Journal, report: Report, *, remember: bool = False, plans: bool = True,
    events: Events = SILENT,
) -> AsyncIterator[Operation]:
    """All but the journal open, as long as this."""
    limits = manifest.limits
    rng = random.Random()
    clock = SystemClock()
    limiter = Limiter(limits.concurrency, limits.retries, limits.rate_per_s, rng, clock.steady)
    sources = AllSources(limits.min_age_s, clock.wall)
    manifest = manifest.knowing(journal, sources.go_on)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(sources.close)
        images = None
        if plans and (limits.check_images or limits.max_pixels is not None):
            memory = journal_path(manifest, settings.state).with_suffix(".images")
            images = Images(limits.check_images, limits.max_pixels, memory, remember=remember)
            stack.callback(images.close)
        url = await stack.enter_async_context(_endpoint(manifest, settings.state))
        bandwidth = Bandwidth(limits.bandwidth_bytes_per_s, clock.steady)
        client = FlowsApi(url, Key(settings.key), timeout_s=limits.timeout_s, connections=limits.concurrency,
                          bandwidth=bandwidth, ca_file=settings.ca_file, rate_per_s=limits.rate_per_s)  # fmt: skip
        await stack.enter_async_context(client)
        yield Operation(manifest, settings.options, journal, client, sources, clock, limiter,
                      ByteBudget(limits.memory_bytes), rng, report, images, events,
                      key_wait_s=settings.key_wait_s)  # fmt: skip


@contextlib.asynccontextmanager
async def opened(
    manifest: Manifest, settings: Settings, journal: Journal | None, report: Report, started: Callable[[Operation], None],
    events: Events, *, plans: bool = True,
) -> AsyncIterator[Operation]:  # fmt: skip
    """The journal held, the edges open, the deadline set."""
    manifest = fitting(manifest, events)
    own = None
    if journal is None:
        journal = own = open_journal(manifest, settings.state)
    try:
        async with open_engines(manifest, settings, journal, report, remember=True, plans=plans, events=events) as operation:
            started(operation)
            timer = None
            seconds = settings.max_duration_s if settings.max_duration_s is not None else manifest.limits.max_duration_s
            if seconds is not None:
                stop = Stop(Reason.DEADLINE, f"the max_duration of {seconds:g} s is over", "run again: it resumes")
                timer = asyncio.get_running_loop().call_later(seconds, operation.halt, stop)
            try:
                yield operation
            finally:
                if timer is not None:
                    timer.cancel()
    finally:
        if own is not None:
            own.close()
