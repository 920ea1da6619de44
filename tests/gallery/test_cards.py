"""Which output is shown beside which input, and how it is said to stand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from batcher.core.model import ABSENT, JSON, Absent, FileSource, Flow, Input, Place
from batcher.gallery.cards import DEPTH, MEMBERS, Card, CardState, OfFlow, Row, State, cards_of, members_of

HERE = Place("m.yaml", 1, 1)


def source(label: str, additional: JSON | Absent = ABSENT) -> Input:
    return Input(label, FileSource(f"/x/{label}"), None, additional, HERE)


def flow(additional: dict[str, JSON] | None = None) -> Flow:
    return Flow("chairs", "t", None, {}, additional, HERE, lambda: iter(()))


def row(label: str = "", asset: str = "", state: str = "collected", *, flow_id: str = "f1", reason: str = "") -> Row:
    return Row(label, flow_id, asset, f"{asset}.glb" if state in ("collected", "partial") else "", state, 9, reason)


STARTED = CardState(State.RUNNING, "f1")


def made(inputs: Sequence[Input], rows: Sequence[Row], card_state: CardState | None = STARTED) -> OfFlow:
    return cards_of("chairs", flow(), inputs, rows, card_state)


def pairs(of_flow: OfFlow) -> list[tuple[str, str, State]]:
    return [(c.source.label if c.source else "", c.row.asset_id if c.row else "", c.state) for c in of_flow.cards]


def test_each_input_is_beside_its_output_in_the_order_of_the_manifest() -> None:
    found = made([source("a"), source("b"), source("c")], [row("c", "3"), row("a", "1"), row("b", "2")])
    assert pairs(found) == [("a", "1", State.COLLECTED), ("b", "2", State.COLLECTED), ("c", "3", State.COLLECTED)]
    assert (found.flow_id, found.inputs) == ("f1", 3)


def test_an_input_with_several_outputs_has_a_card_for_each() -> None:
    found = made([source("a"), source("b")], [row("a", "1"), row("a", "2")])
    assert pairs(found) == [("a", "1", State.COLLECTED), ("a", "2", State.COLLECTED), ("b", "", State.MISSING)]


def test_inputs_of_one_name_take_turns_and_it_is_said_that_this_is_a_guess() -> None:
    found = made([source("a"), source("a"), source("b")], [row("a", "1"), row("a", "2"), row("b", "3")])
    assert pairs(found) == [("a", "1", State.COLLECTED), ("a", "2", State.COLLECTED), ("b", "3", State.COLLECTED)]
    assert [card.unsure for card in found.cards] == [True, True, False]


def test_an_output_of_no_known_input_is_shown_too() -> None:
    found = made([source("a")], [row("", "9"), row("no longer there", "8"), row("a", "1")])
    assert pairs(found) == [("a", "1", State.COLLECTED), ("", "9", State.COLLECTED), ("", "8", State.COLLECTED)]


@pytest.mark.parametrize(
    ("rows", "card_state", "state", "said"),
    [
        ([], None, State.PENDING, ""),
        ([], CardState(State.PENDING), State.PENDING, ""),
        ([], CardState(State.PROBLEM, "", "a.png is missing"), State.PROBLEM, "a.png is missing"),
        ([], STARTED, State.RUNNING, ""),
        ([row(state="running")], STARTED, State.RUNNING, ""),
        ([row(state="failed", reason="too dark")], STARTED, State.FAILED, "too dark"),
        ([row(state="failed")], CardState(State.FAILED, "f1", "too dark"), State.FAILED, "too dark"),
        ([row(state="cancelled")], STARTED, State.ABORTED, ""),
        ([row(state="completed")], STARTED, State.MISSING, "it has no output"),
        ([row("a", "1", "missing")], STARTED, State.MISSING, "the service lists no output for this input"),
        ([row("a", "1", "refused")], STARTED, State.FAILED, "the service shows this output in error"),
        ([row("a", "1", "partial")], CardState(State.ABORTED, "f1", "by hand"), State.ABORTED, "by hand"),
        ([row("a", "1", "gone")], STARTED, State.MISSING,
         "it was deleted from the service, and is not in the folder"),
    ],
)  # fmt: skip
def test_states_and_reasons(rows: list[Row], card_state: CardState | None, state: State, said: str) -> None:
    (card,) = made([source("a")], rows, card_state).cards
    assert (card.state, card.said) == (state, said)


def test_what_an_earlier_attempt_left_is_said_to_be_of_it_and_tells_nothing_of_the_last() -> None:
    (card,) = made([source("a")], [row("a", "1", flow_id="f0")], STARTED).cards
    assert card.earlier
    (card,) = made([source("a")], [row(state="failed", flow_id="f0")], STARTED).cards
    assert card.state is State.RUNNING


def test_a_flow_that_the_manifest_no_longer_has_is_shown_with_what_it_made() -> None:
    found = cards_of("old", None, (), [row("a", "1")], None)
    assert (found.inputs, pairs(found)) == (-1, [("", "1", State.COLLECTED)])


def test_a_flow_without_anything_has_a_card_all_the_same() -> None:
    assert made([], [], None).cards == [Card(State.PENDING, None, None)]


def test_members_are_flat_bounded_and_the_inputs_own_come_first() -> None:
    nested = {"sku": "CH-2", "dims": {"w": 40, "deep": {"er": {"x": 1}}}, "tags": ["a", 1], "none": None}
    found = dict(members_of(flow({"sku": "other", "campaign": "autumn"}), source("a", nested)))
    assert found == {"sku": "CH-2", "dims.w": "40", "dims.deep.er": '{"x": 1}', "tags": '["a", 1]', "none": "null",
                     "campaign": "autumn"}  # fmt: skip
    assert DEPTH == 3
    assert dict(members_of(None, source("a", "plain"))) == {"additional": "plain"}
    assert list(members_of(None, source("a"))) == []
    assert len(list(members_of(flow({f"m{n}": n for n in range(99)}), None))) == MEMBERS
