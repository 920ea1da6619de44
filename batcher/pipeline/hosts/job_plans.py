"""Jobs as plans: which flow of the manifest each means, and what has to be done of it, as this host sees it now.

In: jobs. Out: plans. In a thread of its own, one thing at a time. Used by the job feed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ...core.crew import Job
from ...core.model import Flow
from ...core.planning import FlowPlan
from ..chunks import Chunks
from ..planner import Planner
from .flow_finder import FlowFinder

T = TypeVar("T")


class JobPlans:
    """`planner_of`: a planner for these jobs. `chunks`: which read what is sent of a plan."""

    def __init__(self, chunks: Chunks, finder: FlowFinder, planner_of: Callable[[Sequence[Job]], Planner]) -> None:
        self.chunks = chunks
        self._finder = finder
        self._planner_of = planner_of
        self._thread = ThreadPoolExecutor(1, "jobs")

    def close(self) -> None:
        self.chunks.close()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    async def of_jobs(self, jobs: Sequence[Job]) -> tuple[list[FlowPlan], list[str]]:
        """Their plans, and the names of those that the manifest does not have here. Raises Stop."""
        return await self.in_thread(lambda: self._of_jobs(jobs))

    async def one(self, job: Job, flow: Flow) -> FlowPlan:
        return await self.in_thread(lambda: self._planner_of([job]).flow(flow))

    def _of_jobs(self, jobs: Sequence[Job]) -> tuple[list[FlowPlan], list[str]]:
        flows = self._finder.find({job.name for job in jobs})
        plans = self._planner_of(jobs).some([flows[job.name] for job in jobs if job.name in flows])
        return plans, [job.name for job in jobs if job.name not in flows]
