"""Collecting: started flows are waited for, and each that has ended is handed to `bringing`.

In: the started flows. Out: the report, the lists of results, and what `bringing` brings. Called by the public API. No more
than a window of flows is held, however many there are.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import anyio
from anyio.abc import TaskGroup

from ...core.collecting import Step, cannot_write, step
from ...core.errors import Reason, Stop
from ..reporter import Reporter
from ..shutdown import Shutdown
from .bringing import Bringing
from .pacing import Deadline, FlowTurns
from .results import Results
from .started_flows import StartedFlows
from .unsettled_starts import UnsettledStarts
from .waiting import Waiting
from .watched import Watched

WINDOW: Final = 500  # flows that are waited for at a time; the others are not held
TAKEN_S: Final = 1.0  # between two looks at what others bring


class Window:
    """The flows that are waited for now. `late`: those that still ran when the waiting was over."""

    def __init__(
        self, started: StartedFlows, waiting: Waiting, bringing: Bringing, turns: FlowTurns, deadline: Deadline,
        shutdown: Shutdown,
    ) -> None:  # fmt: skip
        self._started = started
        self._waiting = waiting
        self._bringing = bringing
        self._turns = turns
        self._deadline = deadline
        self._shutdown = shutdown
        self._watched: dict[str, Watched] = {}
        self._more = True  # flows that were not waited for yet
        self._taken: list[Watched] = []  # by others, who bring them
        self.late = 0

    async def run(self, group: TaskGroup) -> None:
        """Until all have ended, or the waiting is over. Raises Stop."""
        quiet = 0  # rounds in which nothing had moved
        self._deadline.begin()
        while True:
            await self._fill(group)
            if not self._watched:
                await self._look_after(group)
                return
            ended, moved = await self._waiting.poll(self._watched)
            for watched in ended:
                await self._begin(group, watched)
            quiet = 0 if moved else quiet + 1
            left_s = self._deadline.left_s
            if self._watched and left_s is not None and left_s <= 0:
                for watched in self._watched.values():
                    self.late += not self._waiting.stands_still(watched, over=True)
                self._watched.clear()
            elif self._watched and not (self._more and ended):
                await self._waiting.pause(quiet, left_s)

    async def _fill(self, group: TaskGroup) -> None:
        while self._more and len(self._watched) < WINDOW:
            found = await self._started.next(WINDOW)
            self._more = len(found) == WINDOW
            for watched in found:
                if watched.end is not None and watched.end.listed and step(watched.end.state) is Step.FETCH:
                    await self._begin(group, watched)  # of the others, the service may have completed one since
                else:
                    self._watched[watched.flow_id] = watched

    async def _begin(self, group: TaskGroup, watched: Watched) -> None:
        if await self._turns.ours(watched.flow_id):
            await self._begin_ours(group, watched)
        else:
            self._taken.append(watched)

    async def _look_after(self, group: TaskGroup) -> None:
        """What others have taken is looked at once they are done with it, or have died."""
        while self._taken:
            left = []
            for watched in self._taken:
                self._shutdown.check()
                if await self._turns.ours(watched.flow_id):
                    watched.end = await self._turns.end_of(watched.flow_id)
                    await self._begin_ours(group, watched)
                else:
                    left.append(watched)
            self._taken = left
            if left:
                await self._shutdown.sleep(TAKEN_S)

    async def _begin_ours(self, group: TaskGroup, watched: Watched) -> None:
        await self._turns.take()
        if self._shutdown.stop is not None:
            self._turns.give()
            raise self._shutdown.stop
        self._waiting.end_seen()
        group.start_soon(self._bring, watched)

    async def _bring(self, watched: Watched) -> None:
        try:
            await self._bringing.bring(watched)
            await self._turns.brought(watched.flow_id)
        except Stop as stop:
            if self._shutdown.stop is None:  # the disk takes no more
                self._shutdown.halt(stop)
        except OSError as error:
            self._shutdown.halt(cannot_write(error))
        finally:
            self._turns.give()


class Collector:
    def __init__(
        self, started: StartedFlows, unsettled_starts: UnsettledStarts, window: Window, results: Results, reporter: Reporter,
        shutdown: Shutdown,
    ) -> None:  # fmt: skip
        self._started = started
        self._unsettled_starts = unsettled_starts
        self._window = window
        self._results = results
        self._reporter = reporter
        self._shutdown = shutdown

    async def run(self) -> None:
        """Bring what there is, and wait for what there will be; the outcome is in the report."""
        try:
            with self._shutdown.reported():
                await self._run()
        finally:
            self._started.close()

    async def _run(self) -> None:
        self._started.begun = await self._shutdown.in_time(self._unsettled_starts.begun())
        if not await self._started.survey():
            return  # names are given once: better none than others than were meant
        async with anyio.create_task_group() as outer:
            watcher = asyncio.ensure_future(self._shutdown.cancel_late(outer.cancel_scope))
            try:
                async with anyio.create_task_group() as group:
                    with contextlib.suppress(Stop):  # said in the report; what is under way comes to its end
                        await self._window.run(group)
            finally:
                watcher.cancel()
        try:
            await self._results.write()
        except OSError as error:
            raise cannot_write(error) from error
        late = self._window.late
        if late and self._reporter.report.stop is None:
            self._reporter.stopping(
                Stop(Reason.DEADLINE, f"the waiting is over, and {late} flow(s) still run", "collect again later")
            )
