"""One command's work with one journal and one service: what it was given, and the way to end it.

In: the ports, opened by the public API. Out: `Operation`, which `build` makes the stages of; nobody else sees all of it.
Whoever called the API has it, too, from the beginning on: `halt` ends the work in order.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from ..core.errors import Stop
from ..core.events import SILENT, Events
from ..core.model import Limits, Manifest
from ..core.planning import Options
from ..core.report import Report
from ..journal.ports import Journal
from .hosts.ports import Crew
from .ports import BudgetPort, Client, Clock, ImageLook, LimiterPort, Sources
from .reporter import Reporter
from .shutdown import Shutdown


@dataclass(slots=True, eq=False)
class Operation:
    """`key_wait_s`: so long another key is waited for, where one is refused. `crew`: the other runs of the batch, where there
    may be some. `open_endpoint`: called before the first request, where the endpoint is opened for it. A port may be replaced
    until the work begins."""

    manifest: Manifest
    options: Options
    journal: Journal
    client: Client
    sources: Sources
    clock: Clock
    limiter: LimiterPort
    budget: BudgetPort
    rng: random.Random
    report: Report
    images: ImageLook | None = None
    events: Events = SILENT
    key_wait_s: float = 0.0
    crew: Crew | None = None
    open_endpoint: Callable[[], Awaitable[None]] | None = None
    reporter: Reporter = field(init=False)
    shutdown: Shutdown = field(init=False)

    def __post_init__(self) -> None:
        self.reporter = Reporter(self.report, self.events, self.clock)
        self.shutdown = Shutdown(self.clock, self.reporter)
        self.shutdown.on_stop(self.limiter.close)
        self.shutdown.on_stop(self.sources.interrupt)

    @property
    def limits(self) -> Limits:
        return self.manifest.limits

    def halt(self, stop: Stop) -> None:
        """No new work from now on; what is in flight is drained."""
        self.shutdown.halt(stop)
