"""How often something is tried again, and after which pause.

In: the number of a failed attempt. Out: a wait, or that it was the last. Made once for each operation; asked by `requests` for
every attempt, and by the stages that send a write again because the service answered and did not do it.
"""

from __future__ import annotations

import random

from ..core.model import Problem
from ..core.retry import RetryBudget, backoff_s
from .flow_run import FlowRun
from .reporter import Reporter
from .shutdown import Shutdown


class Retries:
    """`most` after the first attempt."""

    def __init__(self, most: int, rng: random.Random, shutdown: Shutdown, reporter: Reporter) -> None:
        self.most = most
        self._rng = rng
        self._shutdown = shutdown
        self._reporter = reporter
        self._budget = RetryBudget()

    def request_done(self) -> None:
        """A request was done: it earns the operation a part of a retry."""
        self._budget.earn()

    async def pause_of_request(self, attempt: int) -> None:
        """Wait after a request's failed attempt, from 1; longer while the operation has spent its retries. Raises Stop."""
        await self._shutdown.sleep(backoff_s(self._budget.patience(attempt), self._rng))

    async def pause(self, attempt: int) -> None:
        """Wait after failed attempt number `attempt`, from 1, of anything else. Raises Stop."""
        await self._shutdown.sleep(backoff_s(attempt, self._rng))

    async def try_again(self, flow: FlowRun, what: str) -> bool:
        """Whether a write that was answered and not done may be sent once more; waits before it. Bounded by `most`, for all
        writes of the flow together."""
        tries = flow.retrying()
        if tries > self.most:
            message, label, status = f"{what}, {tries} times", None, None
            if flow.last_unknown is not None:
                label, said = flow.last_unknown
                message, status = f"{message}; the last time it said {said.message}", said.status
            problem = Problem("unavailable", message, "run again later", flow.plan.flow.place, flow.name, label, status)
            self._reporter.flow_failed(flow, problem)
            return False
        await self.pause(tries)
        return True
