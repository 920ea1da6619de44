"""The engines of one command, put together: journal, client, sources, limits, clock.

In: a manifest, `Settings`. Out: an `Operation` with everything open, as long as it is used. Called by the public API only.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

from .core.errors import Reason, Stop, UsageError
from .core.events import SILENT, Events
from .core.model import SANDBOX, Limits, Manifest
from .core.report import Report
from .host.process import requests_at_once, require_utf8
from .host.system import uptime
from .journal.open import images_path, open_crew, open_journal, run_name, state_folder
from .journal.ports import Journal
from .journal.postgres.address import DatabaseAddress
from .pipeline.hosts.ports import Crew, SharedJournal, held_at_once
from .pipeline.operation import Operation
from .service.bandwidth import Bandwidth, SharedBandwidth
from .service.byte_budget import ByteBudget
from .service.client import FlowsApi
from .service.credentials import Key
from .service.limiter import Limiter
from .service.pace import Pace, SharedPace
from .settings import Settings
from .sources.dispatch import AllSources


class SystemClock:
    """The machine's own time, or others' where that will not do. Seconds."""

    sleep = staticmethod(asyncio.sleep)

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self.wall = wall
        self.steady = steady


def fitting(manifest: Manifest, events: Events = SILENT) -> Manifest:
    """The same with no more requests at once than this process can open files for; told where they are fewer. Raises
    UsageError where it is no place to work in. Before a journal is opened: it needs some of them."""
    require_utf8()
    limits = manifest.limits
    most = requests_at_once(limits.concurrency, sandbox=manifest.endpoint == SANDBOX)
    if most < limits.concurrency and events.enabled:
        events.emit("concurrency_bounded", "warning", {"concurrency": most, "wanted": limits.concurrency})
    return replace(manifest, limits=replace(limits, concurrency=most))


class _Door:
    """What the first request needs: aiohttp, and where the endpoint is the embedded sandbox, that sandbox in `folder` (None:
    it is another). A command that has nothing to ask for does without."""

    def __init__(self, folder: Path | None, client: FlowsApi) -> None:
        self._folder = folder
        self._client = client
        self._opening: asyncio.Task[None] | None = None
        self._stack = contextlib.AsyncExitStack()

    async def open(self) -> None:
        """Once, however many ask for it, and whole, whoever is cancelled meanwhile. Raises UsageError."""
        self._opening = self._opening or asyncio.ensure_future(self._open())
        await asyncio.shield(self._opening)

    async def _open(self) -> None:
        await asyncio.to_thread(_import_edges, sandbox=self._folder is not None)
        if self._folder is not None:
            self._client.reach(await self._served(self._folder))

    async def _served(self, folder: Path) -> str:
        """The address of the sandbox, from now on."""
        from .sandbox import Sandbox

        try:
            await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
            sandbox = await self._stack.enter_async_context(Sandbox(folder / "sandbox"))
        except BlockingIOError:
            raise UsageError("the embedded sandbox is in use by another command", "wait for it to end") from None
        except OSError as error:
            raise UsageError(f"the embedded sandbox cannot be served: {error}", "see --state") from error
        return sandbox.url

    async def close(self) -> None:
        if self._opening is not None:
            await asyncio.wait({self._opening})
            if not self._opening.cancelled():
                self._opening.exception()  # seen: whoever asked for it may have been cancelled
            await self._stack.aclose()


def _import_edges(*, sandbox: bool) -> None:
    """In a thread: it takes 0.1 s and more, and the loop has signals to listen to."""
    from .service import transport  # noqa: F401

    if sandbox:
        from . import sandbox as served  # noqa: F401


@contextlib.asynccontextmanager
async def open_engines(
    manifest: Manifest, settings: Settings, journal: Journal, report: Report, *, remember: bool = False, plans: bool = True,
    events: Events = SILENT, crew: Crew | None = None,
) -> AsyncIterator[Operation]:  # fmt: skip
    """All but the journal open, as long as this. `crew`: other runs, with whom the limits are shared."""
    limits = manifest.limits
    rng = random.Random()
    # Among several runs the database's time counts, and a lease ends also while the machine sleeps.
    clock = SystemClock() if crew is None else SystemClock(journal.now, uptime)
    pace, bandwidth = _shared_limits(limits, crew, clock.steady)
    limiter = Limiter(limits.concurrency, limits.retries, pace, rng, clock.steady)
    pace.ready = limiter.serve
    sources = AllSources(limits.min_age_s, time.time)
    manifest = manifest.knowing(journal, sources.go_on)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(sources.close)
        images = None
        if plans and (limits.check_images or limits.max_pixels is not None):
            from .sources.images import Images

            memory = images_path(manifest, settings.state)
            images = Images(limits.check_images, limits.max_pixels, memory, remember=remember)
            stack.callback(images.close)
        embedded = manifest.endpoint == SANDBOX
        client = FlowsApi(None if embedded else manifest.endpoint, Key(settings.key), timeout_s=limits.timeout_s,
                          connections=limits.concurrency, bandwidth=bandwidth, ca_file=settings.ca_file,
                          rate_per_s=limits.rate_per_s)  # fmt: skip
        door = _Door(state_folder(manifest, settings.state) if embedded else None, client)
        stack.push_async_callback(door.close)
        await stack.enter_async_context(client)
        yield Operation(manifest, settings.options, journal, client, sources, clock, limiter,
                      ByteBudget(limits.memory_bytes), rng, report, images, events, key_wait_s=settings.key_wait_s,
                      crew=crew, open_endpoint=door.open)  # fmt: skip


def _shared_limits(limits: Limits, crew: Crew | None, steady: Callable[[], float]) -> tuple[Pace, Bandwidth]:
    """Of this run alone, or its part of what all runs may do together."""
    rate, bytes_per_s = limits.rate_per_s, limits.bandwidth_bytes_per_s
    if crew is None:
        return Pace(rate), Bandwidth(bytes_per_s, steady)
    pace = SharedPace(rate, partial(crew.reserve, "request"), steady) if rate else Pace(None)
    shared = SharedBandwidth(bytes_per_s, partial(crew.reserve, "byte"), steady) if bytes_per_s else Bandwidth(None, steady)
    return pace, shared


def _end_together(operation: Operation, journal: Journal, crew: Crew | None) -> None:
    """A database that stays away ends the operation; one that ends waits for no database."""
    shared = cast(SharedJournal, journal)
    shared.stopping = operation.halt
    operation.shutdown.on_stop(lambda stop: shared.halt())
    if crew is not None:
        operation.shutdown.on_stop(lambda stop: crew.halt())


@contextlib.asynccontextmanager
async def opened(
    manifest: Manifest, settings: Settings, journal: Journal | None, report: Report, started: Callable[[Operation], None],
    events: Events, *, plans: bool = True, joins: bool = False,
) -> AsyncIterator[Operation]:  # fmt: skip
    """The journal held, the edges open, the deadline set. `joins`: other runs may be at work, where the journal is in a
    database that several share."""
    manifest = fitting(manifest, events)
    own, crew = None, None
    if journal is None:
        run, state = run_name(), settings.state
        journal = own = open_journal(manifest, state, run=run, exclusive=not joins)
        if joins and isinstance(state, DatabaseAddress):
            held = held_at_once(manifest.limits.concurrency)
            crew = open_crew(manifest, state, run, lease_s=settings.lease_s, held=held)
    try:
        engines = open_engines(manifest, settings, journal, report, remember=True, plans=plans, events=events, crew=crew)
        async with engines as operation:
            if isinstance(settings.state, DatabaseAddress) and own is not None:
                _end_together(operation, own, crew)
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
        if crew is not None:
            await crew.close()
        if own is not None:
            own.close()
