"""Waiting for started flows: what state each is in, until it has ended, or is waited for no longer.

In: `Watched` flows. Out: those at their end. Made once for each collecting; called by `collector`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from ...core.collecting import CREATED_POLLS, UNDER_WAY, Step, poll_delay_s, stands_still, step
from ...core.facts import EndFacts, PutEnd
from ...core.remote import Listing, RemoteFlow
from ...core.retry import Call, Fault, Kind, Reply, Verdict
from ...journal.ports import Journal
from ..ports import Client, Clock
from ..requests import Requests
from ..shutdown import Shutdown
from .watched import CollectReporter, Watched

LIST_FROM: Final = 64  # from so many waiting flows on, one list is asked for instead of each flow,
LIST_PAYS: Final = 20  # as long as it is not so many times longer than what is waited for


class Waiting:
    def __init__(
        self, requests: Requests, journal: Journal, reporter: CollectReporter, shutdown: Shutdown, clock: Clock,
        rng: random.Random,
    ) -> None:  # fmt: skip
        self._requests = requests
        self._journal = journal
        self._reporter = reporter
        self._shutdown = shutdown
        self._clock = clock
        self._rng = rng
        self._list_pays = True

    async def poll(self, waiting: dict[str, Watched]) -> tuple[list[Watched], bool]:
        """Ask for the states once. Those at their end, and whether anything has moved; what ended, and what is waited for no
        longer, is taken out of `waiting`."""
        ended: list[Watched] = []
        moved = False
        for flow_id, found in (await self._shown(waiting)).items():
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
        watched.template, watched.reason = found.template, found.reason
        watched.created = watched.created + 1 if found.state == "created" else 0
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

    async def _shown(self, waiting: Mapping[str, Watched]) -> dict[str, RemoteFlow | Verdict]:
        """Every flow as the service shows it: by one list where many are waited for, else each for itself."""
        shown: dict[str, RemoteFlow | Verdict] = {}
        if len(waiting) >= LIST_FROM and self._list_pays:
            await self._read_list(waiting, shown)  # what it does not show is asked for below
        # Why a flow failed may stand in its own reply only.
        mute = {flow_id for flow_id, flow in shown.items() if isinstance(flow, RemoteFlow) and _is_mute(flow)}
        rest = [flow_id for flow_id in waiting if flow_id not in shown or flow_id in mute]
        asked = (self._requests.flow(flow_id) for flow_id in rest)
        for flow_id, found in zip(rest, await asyncio.gather(*asked, return_exceptions=True), strict=True):
            if isinstance(found, BaseException):
                raise found
            if flow_id not in mute or not isinstance(found, Verdict):
                shown[flow_id] = found
        return shown

    async def _read_list(self, waiting: Mapping[str, Watched], shown: dict[str, RemoteFlow | Verdict]) -> None:
        """What a list shows of them, though it may break off."""
        seen = 0

        def take(flow: RemoteFlow) -> None:
            nonlocal seen
            seen += 1
            if flow.flow_id in waiting:
                shown[flow.flow_id] = flow

        async def listing(client: Client) -> Listing | Reply | Fault:
            nonlocal seen
            seen = 0
            return await client.flows(take)

        listed = await self._requests.ask(Call.FLOWS, listing)
        self._list_pays = not isinstance(listed, Verdict) and seen <= LIST_PAYS * len(waiting)


def _is_mute(flow: RemoteFlow) -> bool:
    """Whether it failed or was aborted, and does not say why."""
    return not flow.reason and step(flow.state) is Step.FETCH_APART
