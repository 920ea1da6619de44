"""How many flows one run takes for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from batcher.core.crew import Heard, Job
from batcher.pipeline.hosts.job_feed import JobFeed

pytestmark = pytest.mark.anyio


class Queue:
    """One that never gets empty, and what else the feed asks for: of no flow there is anything to do yet."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    async def take(self, count: int) -> list[Job]:
        self.taken.append(count)
        return [Job(f"{len(self.taken)} {number}") for number in range(count)]

    async def claim(self, names: Sequence[str]) -> None: ...
    async def of_jobs(self, jobs: Sequence[Job]) -> tuple[list[object], list[str]]:
        return [], []


def heard(allotted: int) -> Heard:
    return Heard((), allotted, None, 1, planned=True, swept=False)


async def test_run_takes_four_flows_for_each_request_of_its_share() -> None:
    """As many as for all requests of the batch would leave the others idle, while they wait here."""
    queue, membership = Queue(), SimpleNamespace(heard=heard(6))
    end = SimpleNamespace(stop=None, on_stop=lambda stop: None)
    feed = JobFeed(*cast(Any, (queue, queue, membership, SimpleNamespace(failed=False), queue, None, end)))
    for _ in range(2):
        await asyncio.wait_for(feed.next_plans(read=False), 5)
    assert queue.taken == [24]
    membership.heard = heard(12)
    for _ in range(2):
        await asyncio.wait_for(feed.next_plans(read=False), 5)
    assert queue.taken == [24, 24], "another run has left: its share is larger now"
