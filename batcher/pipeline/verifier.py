"""The service's list of a flow's inputs, held against the journal before the flow is started.

In: a `FlowRun` whose payloads have all come back. Out: what `core.reconcile` decides of its list, or why there is none. Made
once for each run; called by the finalizer. A right list is recognised by its sum, in constant memory; only one that is not
right is held, and no more of it than was meant.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol, TypeVar

from ..core.facts import InputFacts
from ..core.model import Flow, Input
from ..core.reconcile import (
    Listed,
    Rebuild,
    Reconciled,
    Start,
    Unproven,
    expected_sum,
    listed_sum,
    reconcile,
)
from ..core.remote import RemoteInput
from ..core.retry import Call, Verdict
from ..core.tags import InputKeys, Multiset, can_carry_tag, read_input_tag, untagged_ident
from ..journal.ports import Journal
from .flow_run import FlowRun
from .requests import Requests

HELD: Final = 1000  # assets summed at a time; more than these are held only where the sum is not right
# Nothing ever leaves a flow, so a list with fewer is older than the one before it.
FEWER: Final = Reconciled(Rebuild("the service lists fewer inputs than a moment before"))


class _Taker(Protocol):
    def take(self, asset: RemoteInput) -> None: ...


L = TypeVar("L", bound=_Taker)


@dataclass(frozen=True, slots=True)
class _Expected:
    """What a right list comes to: `total` is its sum (None: a row is not plainly accepted). `untagged`: key → what an input
    without a tag is listed under; `digests`: asset id → that of its data, for those; `counted`: assets on the list that was
    read for them, 0 where there was none."""

    total: Multiset | None
    untagged: Mapping[bytes, bytes] = field(default_factory=dict)
    digests: Mapping[str, bytes] = field(default_factory=dict)
    counted: int = 0


class _Summed:
    """A list as it comes: its sum, and no more of it than `HELD` assets."""

    def __init__(self, digests: Mapping[str, bytes]) -> None:
        self._digests = digests
        self._part: list[Listed] = []
        self.total = Multiset()
        self.ready = True  # every asset that was summed is

    def take(self, asset: RemoteInput) -> None:
        self._part.append(_listed(asset, self._digests))
        if len(self._part) >= HELD:
            self._add()

    def end(self) -> list[Listed] | None:
        """The list, where no part of it was let go; it is summed as a whole now."""
        whole = list(self._part) if self.total.count == 0 else None
        self._add()
        return whole

    def _add(self) -> None:
        self.ready = listed_sum(self._part, self.total) and self.ready
        self._part.clear()


class _Held:
    """The list itself, up to one asset more than was meant: that is proof enough that it is wrong."""

    def __init__(self, meant: int, digests: Mapping[str, bytes]) -> None:
        self._meant = meant
        self._digests = digests
        self.assets: list[Listed] = []
        self.count = 0

    def take(self, asset: RemoteInput) -> None:
        self.count += 1
        if len(self.assets) <= self._meant:
            self.assets.append(_listed(asset, self._digests))


class _Bare:
    """The ids of assets without a tag, up to one more than were meant."""

    def __init__(self, meant: int) -> None:
        self._meant = meant
        self.ids: list[str] = []
        self.count = 0

    def take(self, asset: RemoteInput) -> None:
        self.count += 1
        if len(self.ids) <= self._meant and read_input_tag(asset.additional) is None:
            self.ids.append(asset.asset_id)


class _Undecided(Exception):
    """No list can be compared; `outcome` is what came of it instead."""

    def __init__(self, outcome: Reconciled | Verdict) -> None:
        super().__init__()
        self.outcome = outcome


class Verifier:
    """`batch`: the batch's name."""

    def __init__(self, requests: Requests, journal: Journal, batch: str) -> None:
        self._requests = requests
        self._journal = journal
        self._batch = batch

    async def compare(self, flow: FlowRun) -> Reconciled | Verdict:
        """List, and hold against the journal.

        A list that shows what was meant, with no sign of another page, is taken for all there is. What it could hide is an
        input of somebody else's, or one that was sent twice; and batcher sends one again only where the service has answered
        the first with an error, and a list did not show it."""
        try:
            return await self._compare(flow)
        except _Undecided as end:
            return end.outcome

    async def _compare(self, flow: FlowRun) -> Reconciled:
        """By sums, which a right list of any length passes in constant memory; by the assets themselves where they differ."""
        flow_id = flow.facts.flow_id
        assert flow_id is not None
        at_hand = flow.expected
        if at_hand is None:
            await self._journal.record()  # all outcomes that were posted are rows now
        now = self._journal.now()  # before the list is asked for: what comes later is not on it
        expected = _Expected(at_hand) if at_hand is not None else await self._expected(flow, flow_id)
        summed = await self._list(flow_id, partial(_Summed, expected.digests))
        whole = summed.end()
        total = summed.total
        if total.count < expected.counted:
            return FEWER
        early = flow.facts.start_after is not None and now < flow.facts.start_after
        if expected.total == total and total.count == flow.plan.tally.total and summed.ready and not early:
            return Reconciled(Start())
        listed = whole if whole is not None else await self._listed_again(flow, flow_id, expected.digests, total.count)
        if at_hand is not None:
            await self._journal.record()
        rows = await self._journal.look(lambda journal: list(journal.input_rows(flow.name)))
        meant, start_after = flow.plan.tally.total, flow.facts.start_after
        return reconcile(rows, expected.untagged, listed, meant=meant, now=now, start_after=start_after)

    async def _list(self, flow_id: str, new: Callable[[], L]) -> L:
        """The flow's inputs on the service, as `new()` takes them. Raises _Undecided where no whole list can be had."""
        found = await self._requests.ask_list(Call.INPUTS, new, lambda client, taken: client.inputs(flow_id, taken.take))
        if isinstance(found, Verdict):
            raise _Undecided(found)
        taken, listing = found
        if not listing.whole:
            raise _Undecided(Reconciled(Unproven(f"the list of its inputs is not whole: {listing.why}")))
        return taken

    async def _expected(self, flow: FlowRun, flow_id: str) -> _Expected:
        """From the rows; where some inputs have no tag, from the manifest, and from the data of the assets without one, too."""
        bare: list[InputFacts] = []  # without a tag; mostly none
        total = await self._journal.look(lambda journal: expected_sum(_tagged(journal.input_rows(flow.name), bare), {}))
        if not bare:
            return _Expected(total)
        untagged = await asyncio.to_thread(_untagged, self._batch, flow.plan.flow, bare)
        digests: dict[str, bytes] = {}
        counted = await self._digests(flow_id, flow.plan.tally.total, digests)
        others = expected_sum(bare, untagged)
        return _Expected(None if total is None or others is None else total + others, untagged, digests, counted)

    async def _digests(self, flow_id: str, meant: int, digests: dict[str, bytes]) -> int:
        """The data's digest of every asset that has no tag, one asset at a time; of none where there are more than were meant.
        Returns how many assets are listed in all. Raises _Undecided."""
        bare = await self._list(flow_id, partial(_Bare, meant))
        if len(bare.ids) > meant:
            return bare.count  # whatever they hold, the list is wrong
        for asset_id in bare.ids:
            if asset_id and asset_id not in digests:
                digests[asset_id] = await self._digest(flow_id, asset_id)
        return bare.count

    async def _digest(self, flow_id: str, asset_id: str) -> bytes:
        digest = await self._requests.ask(Call.INPUT, lambda client: client.input_digest(flow_id, asset_id))
        if isinstance(digest, Verdict):
            raise _Undecided(digest)
        return digest

    async def _listed_again(
        self, flow: FlowRun, flow_id: str, digests: Mapping[str, bytes], counted: int
    ) -> list[Listed]:  # fmt: skip
        """The list once more, to be looked at asset by asset; `counted`: how many it showed before. Raises _Undecided."""
        held = await self._list(flow_id, partial(_Held, flow.plan.tally.total, digests))
        if held.count < counted:
            raise _Undecided(FEWER)
        return held.assets


def _tagged(rows: Iterable[InputFacts], others: list[InputFacts]) -> Iterator[InputFacts]:
    for row in rows:
        if row.tagged:
            yield row
        else:
            others.append(row)


def _listed(asset: RemoteInput, digests: Mapping[str, bytes]) -> Listed:
    tag = read_input_tag(asset.additional)
    if tag is not None:
        return Listed(tag[0], tag[1], asset.status)
    if can_carry_tag(asset.additional) and asset.additional is not None:
        return Listed(b"unknown", b"", asset.status, tagged=False)
    sha256 = digests.get(asset.asset_id, b"")
    try:
        return Listed(untagged_ident(sha256, asset.additional), sha256, asset.status, tagged=False)
    except RecursionError:  # deeper than anything that was sent
        return Listed(b"unknown", b"", asset.status, tagged=False)


def _meant(batch: str, flow: Flow) -> Iterator[tuple[bytes, Input]]:
    """The flow's inputs with their keys, from the manifest alone: no source is looked at. In a thread: it may be long."""
    keys = InputKeys(batch, flow.name)
    for item in flow.inputs():
        if isinstance(item, Input):
            yield keys.next(item), item


def labels(batch: str, flow: Flow, keys: Collection[bytes]) -> dict[bytes, str]:
    """The names of these inputs, which only the manifest has. In a thread."""
    return {key: source.label for key, source in _meant(batch, flow) if key in keys}


def _untagged(batch: str, flow: Flow, rows: list[InputFacts]) -> dict[bytes, bytes]:
    """key → what an input without a tag is listed under; its `additional` is only in the manifest."""
    wanted = {row.key: row.sha256 or b"" for row in rows}
    found: dict[bytes, bytes] = {}
    for key, source in _meant(batch, flow):
        if key in wanted and not can_carry_tag(source.additional):
            assert not isinstance(source.additional, dict)
            found[key] = untagged_ident(wanted[key], source.additional)  # type: ignore[arg-type]
    return {key: found.get(key, b"not in the manifest") for key in wanted}
