"""The cards of the gallery: every input of a flow beside what came of it. No I/O.

In: flows of the manifest, how each stands, rows of the list of results. Out: `Card`s, in the manifest's order. Called by
`gather`; an input that has several outputs has a card for each, an output of no known input has one, too.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from ..core.collecting import End, end_of
from ..core.model import ABSENT, JSON, Absent, Flow, Input

MEMBERS: Final = 24  # of an `additional`; more are not shown
DEPTH: Final = 3
VALUE_CHARS: Final = 120


class State(IntEnum):
    """What there is to see of an input, the best first."""

    COLLECTED = 0
    MISSING = 1  # completed, and the file is not there
    FAILED = 2
    ABORTED = 3
    PROBLEM = 4  # not started: something is to be put right
    RUNNING = 5
    PENDING = 6

    @property
    def word(self) -> str:
        return ("collected", "missing", "failed", "aborted", "with a problem", "running", "not started")[self]


@dataclass(frozen=True, slots=True)
class CardState:
    """How a flow stands by the journal. `said`: why it failed, or what keeps it from being started."""

    state: State
    flow_id: str = ""
    said: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the list of results."""

    source: str
    flow_id: str
    asset_id: str
    output: str
    state: str
    size_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Card:
    """One input and one output; either may not be there. `unsure`: others of the flow's inputs have the same name, and which
    of them the output came from is not recorded. `earlier`: the output is of an attempt before the last one."""

    state: State
    source: Input | None
    row: Row | None
    said: str = ""
    unsure: bool = False
    earlier: bool = False
    members: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class OfFlow:
    """A flow with its cards; `inputs` counts those that the manifest gives it (-1: it is no longer there)."""

    name: str
    flow_id: str
    inputs: int
    cards: list[Card] = field(default_factory=list)


def cards_of(
    name: str, flow: Flow | None, inputs: Sequence[Input], rows: Sequence[Row], card_state: CardState | None
) -> OfFlow:
    """All cards of a flow; at least one."""
    found = OfFlow(name, _flow_id(rows, card_state), len(inputs) if flow is not None else -1)
    whole = _whole(rows, card_state)
    given = defaultdict[str, deque[Row]](deque)
    strays: list[Row] = []
    times = Counter(item.label for item in inputs)
    for row in rows:
        if row.source in times:
            given[row.source].append(row)
        elif row.output or row.source or row.asset_id:
            strays.append(row)  # a row without all of them tells of the flow
    for item in inputs:
        members = tuple(members_of(flow, item))
        mine = given[item.label]
        taken = [mine.popleft() for _ in range(1 if times[item.label] > 1 else len(mine)) if mine]
        found.cards += [_card(row, item, whole, members, times[item.label] > 1) for row in taken]
        if not taken:
            found.cards.append(Card(whole.state, item, None, whole.said, members=members))
    members = tuple(members_of(flow, None))
    rest = [*strays, *(row for left in given.values() for row in left)]
    found.cards += [_card(row, None, whole, members, False) for row in rest]
    if not found.cards:
        found.cards.append(Card(whole.state, None, None, whole.said, members=members))
    return found


def _flow_id(rows: Sequence[Row], card_state: CardState | None) -> str:
    if card_state is not None and card_state.flow_id:
        return card_state.flow_id
    return rows[0].flow_id if rows else ""


def _whole(rows: Sequence[Row], card_state: CardState | None) -> CardState:
    """How the flow stands as a whole: the journal knows of failures and problems, the list of ends."""
    if card_state is None:
        card_state = CardState(State.RUNNING if rows else State.PENDING)
    if card_state.state is not State.RUNNING:
        return card_state
    for row in rows:
        if row.flow_id in ("", card_state.flow_id) or not card_state.flow_id:
            end = end_of(row.state)
            if row.state in ("collected", "missing", "gone", "refused") or end is End.COMPLETED:
                return CardState(State.MISSING, card_state.flow_id, "it has no output")
            if end is not None:
                state = State.FAILED if end is End.FAILED else State.ABORTED
                return CardState(state, card_state.flow_id, row.reason)
    return card_state


def _card(row: Row, source: Input | None, whole: CardState, members: tuple[tuple[str, str], ...], unsure: bool) -> Card:
    earlier = bool(whole.flow_id) and row.flow_id != whole.flow_id
    match row.state:
        case "collected":
            state, said = State.COLLECTED, ""
        case "partial":  # what a flow left that failed or was aborted
            state = whole.state if whole.state in (State.FAILED, State.ABORTED) else State.FAILED
            said = row.reason or whole.said
        case "refused":
            state, said = State.FAILED, "the service shows this output in error"
        case "gone":
            state, said = State.MISSING, "it was deleted from the service, and is not in the folder"
        case _:
            state, said = State.MISSING, row.reason or "the service lists no output for this input"
    return Card(state, source, row, said, unsure, earlier, members)


def members_of(flow: Flow | None, source: Input | None) -> Iterator[tuple[str, str]]:
    """What is attached to the input, and to its flow, as names and values: the input's own first."""
    named: dict[str, str] = {}
    for value in (source.additional if source is not None else ABSENT, flow.additional if flow is not None else None):
        for member, text in _flat(value):
            named.setdefault(member, text)
    yield from list(named.items())[:MEMBERS]


def _flat(value: JSON | Absent | Mapping[str, JSON], name: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    if isinstance(value, Absent) or (value is None and not name):
        return
    if isinstance(value, Mapping) and depth < DEPTH:
        for member, inner in value.items():
            yield from _flat(inner, f"{name}.{member}" if name else member, depth + 1)
        return
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    yield (name or "additional")[:VALUE_CHARS], text[:VALUE_CHARS]
