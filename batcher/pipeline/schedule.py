"""Which flows are under way: how many there may be, which come again, and how each ended for this run.

In: flows as the producer begins them and the finalizer ends them. Out: leave to begin one, and word that something has changed.
Made once for each run.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from ..core.facts import PutTimes
from ..core.lifecycle import FlowState
from ..journal.ports import Journal
from .flow_run import FlowRun
from .reporter import Reporter
from .shutdown import Shutdown
from .starts import Starts


class Schedule:
    """`most`: flows worked on at once."""

    def __init__(self, most: int, journal: Journal, reporter: Reporter, shutdown: Shutdown) -> None:
        self._slots = asyncio.Semaphore(most)
        self._journal = journal
        self._reporter = reporter
        self._shutdown = shutdown
        self._again: deque[FlowRun] = deque()
        self._changed = asyncio.Event()
        self.starts = Starts(None, 0)
        self.ended: Callable[[FlowRun, FlowState], None] = lambda flow, state: None  # that was all of it for this run
        self.active = 0  # flows that are worked on
        shutdown.on_stop(lambda stop: self._changed.set())

    async def begin(self) -> None:
        """Wait for a place for one more flow."""
        await self._slots.acquire()
        self.active += 1

    def end(self, flow: FlowRun, comes_again: bool) -> None:
        """A flow has had its turn: it is to be planned anew, or that was all for this run."""
        self._journal.post(PutTimes(flow.name, flow.times))
        if comes_again:
            self._again.append(flow)
        else:
            self.over(flow, flow.facts.state)
            if flow.failed and flow.problem is None and self._shutdown.stop is None:
                self._reporter.report.flows.failed += 1
        self.active -= 1
        self._slots.release()
        self._changed.set()

    def over(self, flow: FlowRun, state: FlowState) -> None:
        """That was all of the flow for this run."""
        self.starts.free(flow.history.start_announced, state)
        self.ended(flow, state)

    def next_again(self) -> FlowRun | None:
        """A flow that is to be planned anew, if there is one."""
        return self._again.popleft() if self._again else None

    async def change(self) -> None:
        """Wait until a flow has ended, or the run is to end."""
        self._changed.clear()
        await self._changed.wait()
