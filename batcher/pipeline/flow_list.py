"""The service's list of flows, asked for once for all who need it at the same time.

In: requests, what the journal knows to be there. Out: `ListedFlows`, and why one proves nothing. Made once for each operation;
called by the creator, the proof of the list, the checks before a run and the sweep after it.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from ..core.errors import Reason, Stop
from ..core.names import Names
from ..core.remote import Listing, RemoteFlow
from ..core.retry import Call, Kind, Verdict
from ..journal.ports import Journal, JournalView
from .ports import Clock
from .requests import Requests
from .shutdown import Shutdown

KNOWN: Final = 16  # of its first flows, and as many of its last, must be on a list of flows that is to be believed
IDS_KEPT: Final = 1000  # of the beginning, and of the end, of such a list
STEP: Final = 500  # flows whose rows are asked for at once


@dataclass(slots=True)
class FlowIds:
    """The ids of a list of flows: hashes of all, in its order, and as text those at its two ends."""

    hashes: array[int] = field(default_factory=lambda: array("q"))
    first: list[str] = field(default_factory=list)
    last: deque[str] = field(default_factory=lambda: deque(maxlen=IDS_KEPT))

    def add(self, flow_id: str) -> None:
        self.hashes.append(id_hash(flow_id))
        if len(self.first) < IDS_KEPT:
            self.first.append(flow_id)
        else:
            self.last.append(flow_id)

    def distinct(self) -> tuple[Names, int]:
        """As a set, and how many they are."""
        names = Names()
        return names, sum(not names.add(value) for value in self.hashes)


def id_hash(flow_id: str | None) -> int:
    return hash(flow_id) or 1  # `Names` has no place for 0


@dataclass(frozen=True, slots=True)
class ListedFlows:
    """One list of flows. `flows` are the batch's, by their tags' `name`; `twins` those whose tag another one has, too;
    `unlisted` are ids that the journal knew before it was asked for, and that it does not show."""

    listing: Listing
    flows: Mapping[str, RemoteFlow]
    ids: FlowIds
    unlisted: tuple[str, ...]
    twins: tuple[RemoteFlow, ...] = ()

    @property
    def of_batch(self) -> Iterator[RemoteFlow]:
        """All of the batch."""
        return chain(self.flows.values(), self.twins)


class _FlowsTaken:
    """What an attempt at the list has shown so far."""

    def __init__(self, batch: str, known: frozenset[str]) -> None:
        self._batch = batch
        self.flows: dict[str, RemoteFlow] = {}
        self.twins: list[RemoteFlow] = []
        self.unlisted = set(known)
        self.ids = FlowIds()

    def take(self, flow: RemoteFlow) -> None:
        self.ids.add(flow.flow_id)
        self.unlisted.discard(flow.flow_id)
        if flow.tag is not None and flow.tag.batch == self._batch:
            known = self.flows.setdefault(flow.tag.name, flow)
            if known.flow_id != flow.flow_id:
                if known.gone:
                    self.flows[flow.tag.name], flow = flow, known
                self.twins.append(flow)


class FlowList:
    """`settle_s`: so long a list may lag behind what is known to be there."""

    def __init__(
        self, requests: Requests, journal: Journal, shutdown: Shutdown, clock: Clock, batch: str, settle_s: float
    ) -> None:
        self._requests = requests
        self._journal = journal
        self._shutdown = shutdown
        self._clock = clock
        self._batch = batch
        self._settle_s = settle_s
        self._lock = asyncio.Lock()
        self._asked_at = -1.0
        self._found: ListedFlows | Verdict = Verdict(Kind.UNAVAILABLE)

    async def read(self) -> ListedFlows | Verdict:
        """The batch's flows on the service, from a list that was asked for after this was called."""
        arrived = self._clock.steady()
        async with self._lock:
            if self._asked_at < arrived:
                self._asked_at = self._clock.steady()
                self._found = await self._read()
            return self._found

    async def read_surely(self) -> tuple[ListedFlows, str] | Verdict:
        """The list, and why it cannot prove that a flow is not there; "" where it can. What is known to be there and not
        listed yet is looked for again within the settling time."""
        pauses = self._shutdown.pauses(self._settle_s)
        while True:
            listed = await self.read()
            if isinstance(listed, Verdict):
                return listed
            why = await self._doubt(listed)
            if not why or not listed.listing.whole or pauses.over:
                return listed, why
            await pauses.wait()

    async def _doubt(self, listed: ListedFlows) -> str:
        """A list that is cut off without a word shows it by what is not on it."""
        if not listed.listing.whole:
            return not_whole(listed)
        for flow_id in listed.unlisted:
            found = await self._requests.flow(flow_id)
            if isinstance(found, RemoteFlow):
                return f"the list of flows is a part of them: it does not show the flow {flow_id}, which is there"
            if found.kind is not Kind.GONE:
                return f"the flow {flow_id} is not on the list of flows, and cannot be asked for: {found.message}"
        return ""

    async def _read(self) -> ListedFlows | Verdict:
        known = frozenset(await self._journal.look(lambda journal: journal.some_flow_ids(KNOWN)))
        found = await self._requests.ask_list(
            Call.FLOWS, lambda: _FlowsTaken(self._batch, known), lambda client, taken: client.flows(taken.take)
        )
        if isinstance(found, Verdict):
            return found
        taken, listing = found
        return ListedFlows(listing, taken.flows, taken.ids, tuple(sorted(taken.unlisted)), tuple(taken.twins))


def no_list(verdict: Verdict) -> Stop:
    """Why a command ends that needs the list of flows, where none can be had."""
    away = verdict.kind in (Kind.UNAVAILABLE, Kind.THROTTLED)
    message = f"the service's flows cannot be listed: {verdict.message}"
    return Stop(Reason.UNAVAILABLE if away else Reason.UNSETTLED, message, "run again later", verdict.status)


def not_whole(listed: ListedFlows) -> str:
    return f"the list of flows is not whole: {listed.listing.why}"


def unknown_flows(journal: JournalView, listed: ListedFlows) -> list[RemoteFlow]:
    """Flows of the batch on the list that the journal knows nothing of."""
    owner = journal.owner
    found = [flow for flow in listed.of_batch if flow.tag is not None and flow.tag.owner != owner]
    if found:  # those that were taken over have the tags of a journal that was lost
        known = {facts.flow_id for facts in journal.flows()} | {flow_id for flow_id, _ in journal.orphans()}
        attempts = journal.attempts(list({flow.tag.flow for flow in found if flow.tag is not None}))
        known |= {one.flow_id for of_flow in attempts.values() for one in of_flow}
        found = [flow for flow in found if flow.flow_id not in known]
    return found


def newer_flows(journal: JournalView, listed: ListedFlows) -> list[RemoteFlow]:
    """Flows on the list that were created with this journal, by their tags, and of which it knows nothing: then it is a copy
    from before. No other reason can be: `generation` is durable before the create leaves, it only grows, and no row of a flow
    is ever deleted. The list has to be asked for before the rows are."""
    owner = journal.owner
    ours = [(flow.tag, flow) for flow in listed.of_batch if flow.tag is not None and flow.tag.owner == owner]
    found: list[RemoteFlow] = []
    for at in range(0, len(ours), STEP):
        some = ours[at : at + STEP]
        rows = journal.flows_named([tag.flow for tag, _ in some])
        found += [flow for tag, flow in some if tag.number > (rows[tag.flow].generation if tag.flow in rows else 0)]
    return found
