"""The third stage: each flow whose payloads have all come back is listed, compared, and only then started.

In: `FlowRun`s. Out: flows started, given up (and back to the producer), or left with a problem. Made once for each run; they
are finalized side by side, and the limiter bounds their requests.
"""

from __future__ import annotations

from typing import Final

from ..core.reconcile import (
    Incomplete,
    Rebuild,
    Reconciled,
    Refused,
    SendAgain,
    Start,
    Unproven,
    Wait,
)
from ..core.retry import Verdict
from ..journal.ports import Journal
from .flow_run import FlowRun
from .problems import problem_of, unsettled
from .repair import Repair
from .reporter import Reporter
from .shutdown import Pauses, Shutdown
from .starter import NextStep, Starter
from .verifier import Verifier

PROCESSING_S: Final = 600.0  # so long inputs may be processed


class Finalizer:
    """`starts`: flows are to be started, too, not only verified."""

    def __init__(
        self, verifier: Verifier, repair: Repair, starter: Starter, journal: Journal, reporter: Reporter, shutdown: Shutdown,
        *, starts: bool,
    ) -> None:  # fmt: skip
        self._verifier = verifier
        self._repair = repair
        self._starter = starter
        self._journal = journal
        self._reporter = reporter
        self._shutdown = shutdown
        self._starts = starts

    async def finalize(self, flow: FlowRun) -> bool:
        """Whether the producer is to plan the flow again. Raises Stop."""
        if self._shutdown.stop is not None:
            return False
        if flow.facts.is_starting:
            return await self._follow(flow, await self._starter.settle(flow))
        if flow.trouble is not None:
            await self._repair.explain(flow)
        if flow.failed or flow.facts.flow_id is None:
            await self._repair.keep(flow)
            return False
        pauses = self._shutdown.pauses(PROCESSING_S)
        while True:
            found = await self._verifier.compare(flow)
            if isinstance(found, Verdict):
                flow.in_trouble(found)
                await self._repair.explain(flow)
                await self._repair.keep(flow)
                return False
            await self._repair.record_seen(flow, found)
            decided = await self._act(flow, found, pauses)
            if decided is not None:
                return decided

    async def _act(self, flow: FlowRun, found: Reconciled, pauses: Pauses) -> bool | None:
        """As the decision says; None: look at the list again."""
        match found.decision:
            case Start():
                return await self._start(flow)
            case Wait(until=until, why=why):
                if until is not None:
                    await self._shutdown.sleep(until - self._journal.now())
                    return None
                if pauses.over:
                    await self._repair.fail(flow, unsettled(flow, f"{why}, after {PROCESSING_S:.0f} s"))
                    return False
                await pauses.wait()
                return None
            case SendAgain(keys=keys, start_after=start_after):
                return await self._repair.send_again(flow, keys, start_after)
            case Refused(keys=keys):
                await self._repair.refused(flow, keys)
                return False
            case Rebuild(why=why):
                return await self._repair.rebuild(flow, why)
            case Unproven(why=why):
                message = f"{why}; nothing was started, sent again or given up on its word"
                hint = f"look at the flow {flow.facts.flow_id} on the service; batcher clean --yes gives up what is not started"
                await self._repair.fail(flow, problem_of(flow, message, hint))
                return False
            case Incomplete():
                flow.planned_again()
                return True

    async def _start(self, flow: FlowRun) -> bool:
        self._reporter.flow_verified(flow)
        if not self._starts:
            return False
        return await self._follow(flow, await self._starter.start(flow))

    async def _follow(self, flow: FlowRun, outcome: NextStep) -> bool:
        return await self._repair.rebuild(flow, outcome.why) if isinstance(outcome, Rebuild) else outcome
