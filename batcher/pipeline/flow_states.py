"""The states of many flows on the service, asked for with as few requests as may be.

In: ids of flows. Out: each as the service shows it, or why it does not. Called by the waiting of `collect` and by `refresh`;
it reads, and writes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Set
from itertools import islice
from typing import Final

from ..core.collecting import Step, step
from ..core.remote import Listing, RemoteFlow
from ..core.retry import Call, Fault, Reply, Verdict
from .ports import Client
from .requests import Requests

LIST_FROM: Final = 64  # from so many flows on, one list is asked for instead of each flow,
LIST_PAYS: Final = 20  # as long as it is not so many times longer than what is asked about


class FlowStates:
    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._list_pays = True

    async def shown(
        self, flow_ids: Collection[str], *, explained: Set[str] = frozenset(), single: int | None = None
    ) -> dict[str, RemoteFlow | Verdict]:
        """Every flow as the service shows it: by one list where there are many, and each that this does not show for itself.
        So is one that failed and does not say why, for that may stand in its own reply only, unless it is among the
        `explained`. `single`: so many at most are asked for by themselves; the others are left out. Raises Stop."""
        shown: dict[str, RemoteFlow | Verdict] = {}
        if len(flow_ids) >= LIST_FROM and self._list_pays:
            await self._read_list(flow_ids, shown)
        mute = {flow_id for flow_id, flow in shown.items() if isinstance(flow, RemoteFlow) and _is_mute(flow)} - explained
        rest = [flow_id for flow_id in flow_ids if flow_id not in shown or flow_id in mute]
        rest = list(islice(rest, single))
        asked = (self._requests.flow(flow_id) for flow_id in rest)
        for flow_id, found in zip(rest, await asyncio.gather(*asked, return_exceptions=True), strict=True):
            if isinstance(found, BaseException):
                raise found
            if flow_id not in mute or not isinstance(found, Verdict):
                shown[flow_id] = found
        return shown

    async def _read_list(self, flow_ids: Collection[str], shown: dict[str, RemoteFlow | Verdict]) -> None:
        """What a list shows of them, though it may break off."""
        seen = 0

        def take(flow: RemoteFlow) -> None:
            nonlocal seen
            seen += 1
            if flow.flow_id in flow_ids and not flow.gone:  # that one is asked for by itself
                shown[flow.flow_id] = flow

        async def listing(client: Client) -> Listing | Reply | Fault:
            nonlocal seen
            seen = 0
            return await client.flows(take)

        listed = await self._requests.ask(Call.FLOWS, listing)
        self._list_pays = not isinstance(listed, Verdict) and seen <= LIST_PAYS * len(flow_ids)


def _is_mute(flow: RemoteFlow) -> bool:
    """Whether it failed or was aborted, and does not say why."""
    return not flow.reason and step(flow.state) is Step.FETCH_APART
