"""What the service lists, held against what was meant: may the flow be started, and if not, what first?

In: the journal's rows of one flow (`InputFacts`), the listing (`Listed`), the time. Out: one `Decision`. Called by the
verifier, for every list that is not simply the sum of what was sent. The start is the commit point, so a doubt here never
ends in a start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from .facts import InputFacts
from .lifecycle import InputState
from .rows import row
from .tags import Multiset

READY_STATUSES: Final = frozenset({"available", "ready", "processed", "completed", "done", ""})
ERROR_STATUSES: Final = frozenset({"error", "failed", "rejected", "invalid"})

SENT: Final = frozenset({InputState.ACCEPTED, InputState.UNKNOWN})


@row(frozen=True, slots=True)
class Listed:
    """One asset as the service lists it.

    `ident` is the tag's key, or for one without a tag what its data and `additional` come to (`tags.untagged_ident`);
    `sha256` is the tag's, or of the data. `status` is "" where none is shown.
    """

    ident: bytes
    sha256: bytes
    status: str
    tagged: bool = True

    @property
    def ready(self) -> bool:
        return self.status in READY_STATUSES


@dataclass(frozen=True, slots=True)
class Start:
    """The list is exactly what was meant."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again then (wall-clock seconds; None: soon, for inputs are still being processed)."""

    until: float | None
    why: str


@dataclass(frozen=True, slots=True)
class SendAgain:
    """These were answered, are not there, and may be sent again; the start waits until then."""

    keys: tuple[bytes, ...]
    start_after: float


@dataclass(frozen=True, slots=True)
class Refused:
    """The service accepted these and then found fault with them."""

    keys: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Beyond repair; it is free to abandon the flow, since nothing was started."""

    why: str


@dataclass(frozen=True, slots=True)
class Incomplete:
    """The rows are not the manifest's inputs, all sent: to be planned again. A start would be early."""


@dataclass(frozen=True, slots=True)
class Unproven:
    """The list does not show what is there: nothing is sent, abandoned or started because of it."""

    why: str


Decision: TypeAlias = Incomplete | Start | Wait | SendAgain | Refused | Rebuild | Unproven


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The decision, and what is now known of single inputs: seen (unknown ones that are accepted after all) and
    vanished (accepted ones that the list does not show, for the first time)."""

    decision: Decision
    seen: tuple[bytes, ...] = ()
    vanished: tuple[bytes, ...] = ()


def ident(facts: InputFacts, untagged: Mapping[bytes, bytes]) -> bytes:
    """What the input is listed under: its key, or its entry in `untagged` (key → untagged_ident)."""
    return facts.key if facts.tagged else untagged[facts.key]


def expected_sum(rows: Iterable[InputFacts], untagged: Mapping[bytes, bytes]) -> Multiset | None:
    """The sum that a right list comes to, in constant memory; None where a row is not plainly accepted. Walks to the end."""
    total = Multiset()
    plain = True
    for facts in rows:
        if not facts.may_be_there:
            continue  # it may be of an input that has left the manifest since
        if facts.state is not InputState.ACCEPTED or facts.sha256 is None:
            plain = False
        else:
            total.add(ident(facts, untagged), facts.sha256)
    return total if plain else None


def listed_sum(listed: Iterable[Listed], total: Multiset) -> bool:
    """Add a listing, or a part of one, to `total`; False where an asset is not ready."""
    ready = True
    for asset in listed:
        total.add(asset.ident, asset.sha256)
        ready = ready and asset.ready
    return ready


def reconcile(
    expected: Sequence[InputFacts],
    untagged: Mapping[bytes, bytes],
    listed: Sequence[Listed],
    *,
    meant: int,
    now: float,
    start_after: float | None,
) -> Reconciled:
    """Hold the listing against the rows, which must be as many as the manifest means, with their digests."""
    expected = [facts for facts in expected if facts.may_be_there]
    if len(expected) != meant or any(f.state not in SENT or f.sha256 is None for f in expected):
        return Reconciled(Incomplete())
    by_ident: dict[bytes, list[InputFacts]] = {}
    for facts in expected:
        by_ident.setdefault(ident(facts, untagged), []).append(facts)
    shown = Counter(asset.ident for asset in listed)
    wrong = _wrong(listed, by_ident, shown)
    if wrong is not None:
        return Reconciled(wrong)
    seen: list[InputFacts] = []
    missing: list[InputFacts] = []
    earliest_start = start_after or 0.0
    for name, owners in by_ident.items():
        # Equal inputs without tags look the same: the accepted ones are taken to be the ones that are shown, then those
        # that were answered, for a silent one must not be counted as seen and sent again in the place of another. Once one of
        # them was sent again, any that is shown may be its first attempt; nor is one that is shown done with before its time.
        owners.sort(key=lambda facts: (facts.state is not InputState.ACCEPTED, not facts.answered))
        here = [facts for facts in owners[: shown[name]] if facts.state is InputState.UNKNOWN]
        if len(owners) > 1:
            again = any(facts.resent for facts in owners)
            earliest_start = max([earliest_start, *(facts.settle_deadline or 0.0 for facts in here if facts.answered)])
            here = [replace(facts, resent=again) for facts in here]
        seen += here
        missing += owners[shown[name] :]
    return _judge(seen, missing, listed, by_ident, now=now, start_after=earliest_start)


def _wrong(
    listed: Sequence[Listed], by_ident: Mapping[bytes, Sequence[InputFacts]], shown: Mapping[bytes, int]
) -> Rebuild | None:
    """What the list shows and must not."""
    for asset in listed:
        owners = by_ident.get(asset.ident)
        if owners is None:
            return Rebuild("the service lists an input that is not ours")
        if owners[0].sha256 != asset.sha256:
            return Rebuild("the service lists other content for an input")
        if shown[asset.ident] > len(owners):
            return Rebuild("the service lists an input twice")
    return None


def _judge(
    seen: list[InputFacts],
    missing: list[InputFacts],
    listed: Sequence[Listed],
    by_ident: Mapping[bytes, list[InputFacts]],
    *,
    now: float,
    start_after: float,
) -> Reconciled:
    """The first of these that asks for something: errors, accepted inputs that are not listed, inputs whose outcome is not
    known, inputs that are being processed, requests that may yet be done. `missing`: not listed, whatever their state."""
    vanished = [facts for facts in missing if facts.state is InputState.ACCEPTED]
    newly = tuple(facts.key for facts in vanished if facts.settle_deadline is None)
    pending = [facts for facts in seen if facts.resent and facts.answered and now < (facts.settle_deadline or 0.0)]
    uncertain = {facts.key for facts in pending}
    certain = tuple(facts.key for facts in seen if facts.key not in uncertain)
    errors = tuple(by_ident[a.ident][0].key for a in listed if a.status in ERROR_STATUSES)
    quiet_at = max([facts.settle_deadline or 0.0 for facts in pending] + [start_after])
    decision: Decision | None
    if errors:
        decision = Refused(errors)
    elif vanished:
        decision = _of_vanished(vanished, len(listed), now)
    else:
        decision = _of_uncertain(seen, missing, now, start_after)
    if decision is None and any(not asset.ready for asset in listed):
        decision = Wait(None, "inputs are being processed")
    if decision is None and now < quiet_at:
        decision = Wait(quiet_at, "an earlier request may yet be done")
    return Reconciled(decision or Start(), certain, newly)


def _of_vanished(vanished: Sequence[InputFacts], listed: int, now: float) -> Unproven | Wait:
    """The service took them, and nothing leaves a flow: the list lags, or is one page of many. Then it tells nothing of the
    others either, and the next flow would be listed no better: it is not built anew."""
    if any(facts.settle_deadline is not None and facts.settle_deadline <= now for facts in vanished):
        return Unproven(f"{len(vanished):,} input(s) that the service accepted are not on its list, which shows {listed:,}")
    return Wait(None, "an accepted input is not listed yet")


def _of_uncertain(
    seen: Sequence[InputFacts], missing: Sequence[InputFacts], now: float, start_after: float
) -> Rebuild | SendAgain | Wait | None:
    """What unknown inputs ask for; None: nothing."""
    if any(facts.resent and not facts.answered for facts in seen):  # one of two is listed, and the other may yet be done
        return Rebuild("an input was sent again without an answer, and may yet arrive twice")
    unknown = [facts for facts in missing if facts.state is InputState.UNKNOWN]
    deadlines = [facts.settle_deadline or 0.0 for facts in unknown if not facts.answered]
    if deadlines and min(deadlines) <= now:
        # Sending it again could make it arrive twice, however late: a new flow cannot be reached by the old request.
        return Rebuild("an input that was sent without an answer is not listed, and may yet arrive")
    answered = [facts for facts in unknown if facts.answered]
    if answered:
        start_after = max([facts.settle_deadline or 0.0 for facts in answered] + [start_after])
        return SendAgain(tuple(facts.key for facts in answered), start_after)
    return Wait(min(deadlines), "an input was sent without an answer") if deadlines else None
