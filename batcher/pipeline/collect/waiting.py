"""Waiting for started flows: what state each is in, until it has ended, or is waited for no longer.

In: `Watched` flows. Out: those at their end. Made once for each collecting; called by `collector`.
"""

from __future__ import annotations

import random
from dataclasses import replace

from ...core.collecting import CREATED_POLLS, UNDER_WAY, Step, poll_delay_s, stands_still, step
from ...core.facts import EndFacts, PutEnd
from ...core.remote import RemoteFlow
from ...core.retry import Kind, Verdict
from ...journal.ports import Journal
from ..flow_states import FlowStates
from ..ports import Clock
from ..shutdown import Shutdown
from .watched import CollectReporter, Watched


class Waiting:
    def __init__(
        self, states: FlowStates, journal: Journal, reporter: CollectReporter, shutdown: Shutdown, clock: Clock,
        rng: random.Random,
    ) -> None:  # fmt: skip
        self._states = states
        self._journal = journal
        self._reporter = reporter
        self._shutdown = shutdown
        self._clock = clock
        self._rng = rng

    async def poll(self, waiting: dict[str, Watched]) -> tuple[list[Watched], bool]:
        """Ask for the states once. Those at their end, and whether anything has moved; what ended, and what is waited for no
        longer, is taken out of `waiting`."""
        ended: list[Watched] = []
        moved = False
        for flow_id, found in (await self._states.shown(waiting)).items():
            watched = waiting[flow_id]
            if isinstance(found, Verdict) and not watched.listed:
                del waiting[flow_id]
                self._unknown(watched, found)
                continue
            if isinstance(found, Verdict):  # how it ended is known
                ended.append(waiting.pop(flow_id))
                continue
            moved = self._note(watched, found) or moved
            if step(found.state) is not Step.WAIT or (watched.listed and found.state not in UNDER_WAY):
                ended.append(waiting.pop(flow_id))
            elif self.stands_still(watched):
                del waiting[flow_id]
            elif watched.created >= CREATED_POLLS:
                del waiting[flow_id]
                self._reporter.no_end()
                message = f"the journal says that it was started, and the service that the flow {flow_id} is `created`"
                self._reporter.problem(watched, "unsettled", message, "look at it on the service; --redo NAME builds it anew")
        self._reporter.progress(len(ended) + sum(watched.progress for watched in waiting.values()))
        return ended, moved

    async def pause(self, quiet: int, left_s: float | None) -> None:
        """Until the next poll, after so many in which nothing had moved; at most so long. Raises Stop."""
        delay_s = poll_delay_s(quiet, self._rng)
        await self._shutdown.sleep(delay_s if left_s is None else min(delay_s, left_s))

    def end_seen(self) -> None:
        """One more flow is at its end, or past it."""
        self._reporter.end_seen()

    def _note(self, watched: Watched, found: RemoteFlow) -> bool:
        """Whether it has moved since it was looked at last."""
        moved = (found.state, found.progress) != (watched.state, watched.progress)
        if moved:
            watched.since = self._clock.steady()
        watched.state, watched.progress, watched.finished = found.state, found.progress, found.finished
        watched.template, watched.reason, watched.seen_at = found.template, found.reason, self._clock.wall()
        watched.created = watched.created + 1 if found.state == "created" else 0
        if moved and not watched.listed and found.state not in ("", "created") and step(found.state) is Step.WAIT:
            self._journal.post(PutEnd(watched.as_ended()))  # for those who look at the journal meanwhile
        return moved

    def stands_still(self, watched: Watched, over: bool = False) -> bool:
        """Whether a flow in a state that nobody knows is waited for no longer; it is said then. `over`: the waiting is."""
        unchanged_s = self._clock.steady() - watched.since
        if not stands_still(watched.state, watched.finished, watched.progress, unchanged_s, over):
            return False
        self._reporter.no_end()
        end = EndFacts(watched.flow_id, watched.name, watched.state)
        self._journal.post(PutEnd(end if watched.end is None else replace(watched.end, state=watched.state)))
        why = "its end time is set" if watched.finished else "its progress is 1"
        message = f"the flow {watched.flow_id} has been “{watched.state}” for {unchanged_s:.0f} s, and {why}"
        hint = "batcher does not know this state: look at the flow on the service, then collect again"
        self._reporter.problem(watched, "unsettled", message, hint)
        return True

    def _unknown(self, watched: Watched, verdict: Verdict) -> None:
        self._reporter.no_end()
        if verdict.kind is Kind.GONE:
            message = f"the service does not know the flow {watched.flow_id}, which was started"
            self._reporter.problem(watched, "unsettled", message, "another account's key? was it deleted there?", 404)
        else:
            self._reporter.problem_from_verdict(watched, verdict, "its state cannot be asked for")
