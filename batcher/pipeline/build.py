"""How the parts of an operation are put together: each is made once, when it is first asked for, of those that it needs.

In: an `Operation`. Out: what the public API calls: `run`, `collector`, `cleanup`, `abort`, `refresh`, and what `plan` looks at.
This is the one place, with `collect/parts.py` and `hosts/parts.py`, that sees everything; a part sees what stands in its line
here. What is not part of every run is imported where it is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from ..core.collecting import CollectOptions
from ..core.planning import Options
from .access import Access
from .adopt import Adoption
from .cleanup import Cleanup
from .flow_list import FlowList
from .key_rotation import KeyRotation
from .left_starts import LeftStarts
from .list_proof import ListProof
from .operation import Operation
from .orphans import Orphans
from .planner import Planner
from .ports import Folder
from .requests import Requests
from .retries import Retries
from .run import FLOWS_OPEN, BatchRun, Preparation, Stages
from .run_notes import RunNotes
from .survey import Surveyor
from .templates import Templates
from .unknown_flows import UnknownFlows

if TYPE_CHECKING:
    from .abort import Abort
    from .chunks import Chunks
    from .collect.collector import Collector
    from .finalizer import Finalizer
    from .opener import Opener
    from .producer import Plans
    from .refresh import Refresh
    from .schedule import Schedule


class Build:
    """Of one operation, in its loop."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self._journal = operation.journal
        self._clock = operation.clock
        self._reporter = operation.reporter
        self._shutdown = operation.shutdown
        self._batch = operation.manifest.batch
        self._settle_s = operation.limits.settle_s
        self._notes: RunNotes | None = None

    def notes(self, command: str) -> RunNotes:
        """What the journal is told of this operation; one for all of it."""
        self._notes = self._notes or RunNotes(self._journal, self._reporter, self._clock, command)
        return self._notes

    # ---- asking

    @cached_property
    def retries(self) -> Retries:
        return Retries(self._operation.limits.retries, self._operation.rng, self._shutdown, self._reporter)

    @cached_property
    def requests(self) -> Requests:
        operation = self._operation
        key = KeyRotation(operation.client, self._clock, self._shutdown, self._reporter, operation.key_wait_s)
        access = Access(key, self._clock)
        return Requests(operation.client, operation.limiter, self.retries, access, self._shutdown, self._reporter,
                        operation.manifest.endpoint, operation.open_endpoint)  # fmt: skip

    @cached_property
    def flow_list(self) -> FlowList:
        return FlowList(self.requests, self._journal, self._shutdown, self._clock, self._batch, self._settle_s)

    @cached_property
    def orphans(self) -> Orphans:
        return Orphans(self.requests, self._journal, self._reporter, self.retries, self._clock)

    @cached_property
    def cleanup(self) -> Cleanup:
        left_starts = LeftStarts(self._operation.manifest, self.requests, self._journal, self._reporter, self._shutdown,
                                 self._clock)  # fmt: skip
        return Cleanup(self.requests, self._journal, self.flow_list, self.orphans, left_starts, self._reporter)

    # ---- planning

    @cached_property
    def planner(self) -> Planner:
        return self.planner_with(self._operation.options)

    def planner_with(self, options: Options) -> Planner:
        operation = self._operation
        return Planner(operation.manifest, self._journal, operation.sources, options, self._templates, operation.images)

    @cached_property
    def _templates(self) -> Templates:
        return Templates(self.requests, self._shutdown, asyncio.get_running_loop())

    @cached_property
    def surveyor(self) -> Surveyor:
        return Surveyor(self.planner, self._journal, self._operation.images, self._reporter, self._shutdown, self._clock)

    # ---- a run

    async def run(self) -> None:
        """Bring the batch to done; the outcome is in the operation's report."""
        operation = self._operation
        notes = self.notes("run")
        if operation.crew is not None:
            from .hosts.parts import crew_run_of  # only where there are several

            await crew_run_of(operation, operation.crew, self).run(notes)
            return
        # Without starts there is nothing to count.
        starts_per_run = operation.limits.starts_per_run if operation.options.start else None
        run = BatchRun(self.preparation, self.stages, self.cleanup, self.requests, self._journal, self._reporter,
                       self._shutdown, starts_per_run=starts_per_run)  # fmt: skip
        await run.run(notes)

    @cached_property
    def preparation(self) -> Preparation:
        operation = self._operation
        adoption = Adoption(self.planner, self.surveyor, self.requests, self._journal, operation.sources, self._reporter,
                            self._clock, self._settle_s)  # fmt: skip
        unknown_flows = UnknownFlows(self.flow_list, self._journal, self.list_proof, adoption, self._reporter, self._batch,
                                     adopt=operation.options.adopt)  # fmt: skip
        return Preparation(self.surveyor, unknown_flows, self._reporter, self._shutdown, operation.options,
                           operation.limits)  # fmt: skip

    @cached_property
    def list_proof(self) -> ListProof:
        return ListProof(self.requests, self._journal, self.flow_list, self.orphans, self._shutdown, self._batch,
                         self._settle_s)  # fmt: skip

    def stages(self, plans: Callable[[Schedule, Chunks], Plans] | None = None) -> Stages:
        """New ones. `plans`: where they get their flows from (None: all that the planner finds to do)."""
        from .chunks import Chunks
        from .feeder import Feeder
        from .payloads import Payloads
        from .producer import Producer
        from .schedule import Schedule
        from .workers import Workers

        operation = self._operation
        width = operation.limits.concurrency
        payloads = Payloads(width)
        schedule = Schedule(max(FLOWS_OPEN, 4 * width), self._journal, self._reporter, self._shutdown)
        chunks = Chunks(self.planner, operation.sources, operation.budget, operation.limits.memory_bytes)
        feeder = Feeder(chunks, self._journal, self._reporter, self._shutdown, payloads)
        feed = plans(schedule, chunks) if plans is not None else chunks
        producer = Producer(feed, schedule, self.opener, feeder, self._reporter, self._shutdown)
        workers = Workers(payloads, self.requests, self._journal, operation.sources, operation.budget, self._reporter,
                          self._settle_s)  # fmt: skip
        return Stages(producer, payloads, workers, self.finalizer, schedule, width)

    @cached_property
    def opener(self) -> Opener:
        from .creator import Creator
        from .opener import Opener

        creator = Creator(self.requests, self._journal, self.flow_list, self.retries, self._shutdown, self._reporter,
                          self._batch, self._settle_s, 2 * self._operation.limits.concurrency)  # fmt: skip
        return Opener(creator, self.list_proof, self.orphans, self.requests, self._journal, self._reporter)

    @cached_property
    def finalizer(self) -> Finalizer:
        from .finalizer import Finalizer
        from .repair import Repair
        from .starter import Starter
        from .verifier import Verifier

        verifier = Verifier(self.requests, self._journal, self._batch)
        repair = Repair(self.requests, self._journal, self._reporter, self.retries, self.orphans, self._batch, self._settle_s)
        starter = Starter(self.requests, self._journal, self._reporter, self.retries, self._shutdown, self._clock,
                          self._batch, self._settle_s)  # fmt: skip
        return Finalizer(verifier, repair, starter, self._journal, self._reporter, self._shutdown,
                         starts=self._operation.options.start)  # fmt: skip

    # ---- after a run

    def abort(self) -> Abort:
        from .abort import Abort

        operation = self._operation
        return Abort(self.requests, self._journal, self._reporter, self._shutdown, self.retries, operation.options,
                     operation.limits)  # fmt: skip

    def refresh(self) -> Refresh:
        from .flow_states import FlowStates
        from .refresh import Refresh

        states = FlowStates(self.requests)
        return Refresh(states, self._journal, self._reporter, self._shutdown, self._clock, self._operation.options)

    def collector(self, folder: Folder, options: CollectOptions) -> Collector:
        from .collect.parts import collector_of  # 15 modules, some 17 ms: only where it is asked for

        return collector_of(self._operation, self.requests, self.retries, folder, options)
