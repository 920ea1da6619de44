"""The two tables: what they allow happens, everything else raises, and the promises that they make hold on every walk."""

from __future__ import annotations

import re
from enum import Enum

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from batcher.core.facts import FlowFacts, InputFacts
from batcher.core.lifecycle import (
    FLOW,
    INPUT,
    FlowEvent,
    FlowState,
    IllegalTransition,
    InputEvent,
    InputState,
    diagram,
    flow_next,
    input_next,
)


@pytest.mark.parametrize("state", list(FlowState))
def test_every_event_of_a_flow_is_in_the_table_or_raises(state: FlowState) -> None:
    for event in FlowEvent:
        if (state, event) in FLOW:
            assert flow_next(state, event) is FLOW[state, event]
        else:
            with pytest.raises(IllegalTransition, match=event.value):
                flow_next(state, event)


@pytest.mark.parametrize("state", list(InputState))
def test_every_event_of_an_input_is_in_the_table_or_raises(state: InputState) -> None:
    for event in InputEvent:
        if (state, event) in INPUT:
            assert input_next(state, event) is INPUT[state, event]
        else:
            with pytest.raises(IllegalTransition, match=event.value):
                input_next(state, event)


def test_replies_to_writes_come_only_after_they_were_announced() -> None:
    """The states from which the outcome of a request is taken are those that an announcement leads to; the others are
    named here: taken over from the service's own list, or settled by it."""
    adopted = {(FlowState.PLANNED, FlowEvent.CREATED), (FlowState.PLANNED, FlowEvent.START_SEEN)}
    replies = {FlowEvent.CREATED, FlowEvent.NOT_CREATED, FlowEvent.START_SEEN, FlowEvent.NOT_STARTED}
    announced = {b for (_, event), b in FLOW.items() if event in (FlowEvent.ANNOUNCE_CREATE, FlowEvent.ANNOUNCE_START)}
    assert {a for a, event in FLOW if event in replies and (a, event) not in adopted} == announced
    outcomes = {a for a, event in INPUT if event in (InputEvent.ACCEPT, InputEvent.LOSE)}
    assert outcomes == {b for (_, event), b in INPUT.items() if event is InputEvent.ANNOUNCE} | {InputState.UNKNOWN}


def test_every_state_is_reached_and_everything_leads_to_started() -> None:
    def reached(states: set[FlowState]) -> set[FlowState]:
        more = states | {b for (a, _), b in FLOW.items() if a in states}
        return states if more == states else reached(more)

    assert reached({FlowState.PLANNED}) == set(FlowState)
    assert all(FlowState.STARTED in reached({state}) for state in FlowState)
    assert [event for state, event in FLOW if state is FlowState.STARTED] == [FlowEvent.REDO]


@pytest.mark.parametrize(("table", "first"), [(FLOW, FlowState.PLANNED), (INPUT, InputState.PENDING)])
def test_diagram_is_the_table(table: dict[tuple[Enum, Enum], Enum], first: Enum) -> None:
    """Read back as Mermaid reads it: every transition is drawn, and nothing else."""
    kind, begin, *lines = diagram(table, first).splitlines()
    assert (kind, begin) == ("stateDiagram-v2", f"    [*] --> {first.value}")
    drawn = {tuple(re.fullmatch(r"    (\w+) --> (\w+): ([\w ]+)", line).groups()) for line in lines}  # type: ignore[union-attr]
    assert drawn == {(a.value, b.value, event.name.lower().replace("_", " ")) for (a, event), b in table.items()}
    assert len(lines) == len(table)



class Walk(RuleBasedStateMachine):
    """Any events in any order on rows as the journal keeps them: a refused one changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = FlowFacts("a flow", generation=0)
        self.row = InputFacts(b"k" * 16)
        self.starts_paid = 0
        self.redos = 0
        self.create_announced = self.start_announced = self.upload_announced = False

    @rule(event=st.sampled_from(list(FlowEvent)))
    def flow_takes(self, event: FlowEvent) -> None:
        before = self.flow
        if (before.state, event) not in FLOW:
            with pytest.raises(IllegalTransition):
                before.on(event, generation=before.generation + 1)
            assert self.flow is before
            return
        self.flow = before.on(event, generation=before.generation + (event is FlowEvent.ANNOUNCE_CREATE))
        if before.state is FlowState.STARTED:
            assert event is FlowEvent.REDO, "started is left only where the user asks for it"
            self.redos += 1
        self.starts_paid += self.flow.state is FlowState.STARTED
        self.create_announced = self.flow.state is FlowState.CREATING
        self.start_announced = self.flow.state is FlowState.STARTING
        assert self.flow.generation >= before.generation

    @rule(event=st.sampled_from(list(InputEvent)))
    def input_takes(self, event: InputEvent) -> None:
        before = self.row
        if (before.state, event) not in INPUT:
            with pytest.raises(IllegalTransition):
                before.on(event)
            return
        self.row = before.on(event)
        self.upload_announced = event is InputEvent.ANNOUNCE
        if event is InputEvent.LOSE:
            assert before.state is InputState.SENDING, "nothing is lost that was not announced"

    @precondition(lambda self: self.row.state is InputState.UNKNOWN)
    @rule()
    def an_unknown_input_is_not_announced_again(self) -> None:
        with pytest.raises(IllegalTransition):
            self.row.on(InputEvent.ANNOUNCE)

    @precondition(lambda self: self.flow.state is not FlowState.STARTING)
    @rule()
    def an_open_flow_is_started_only_by_an_announcement(self) -> None:
        if self.flow.state is not FlowState.PLANNED:  # there it may be taken over
            with pytest.raises(IllegalTransition):
                self.flow.on(FlowEvent.START_SEEN)

    @invariant()
    def a_flow_is_paid_for_once_and_again_only_when_asked(self) -> None:
        assert self.starts_paid <= 1 + self.redos

    @invariant()
    def requests_under_way_were_announced(self) -> None:
        assert (self.flow.state is FlowState.CREATING) == self.create_announced
        assert (self.flow.state is FlowState.STARTING) == self.start_announced
        if self.row.state is InputState.SENDING:
            assert self.upload_announced


TestWalk = Walk.TestCase
TestWalk.settings = settings(max_examples=60, stateful_step_count=40)
