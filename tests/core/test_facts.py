"""Rows as values: an event changes the state of one, and nothing else of it."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from batcher.core.facts import FileStat, InputFacts
from batcher.core.lifecycle import IllegalTransition, InputEvent, InputState, input_next

FULL = InputFacts(b"k" * 16, InputState.PENDING, b"s" * 32, b"m", FileStat(1, 2, 3), False, 4.0, True, True)


@pytest.mark.parametrize("event", InputEvent)
@pytest.mark.parametrize("state", InputState)
def test_event_changes_the_state_and_nothing_else(state: InputState, event: InputEvent) -> None:
    default = InputFacts(FULL.key)
    others = [field.name for field in fields(FULL) if field.name not in ("key", "state")]
    assert all(getattr(FULL, name) != getattr(default, name) for name in others), "a member that would not be missed"
    row = replace(FULL, state=state)
    try:
        after = input_next(state, event)
    except IllegalTransition:
        with pytest.raises(IllegalTransition):
            row.on(event)
        return
    assert row.on(event) == replace(row, state=after)
    assert row.on(event, settle_deadline=9.0) == replace(row, state=after, settle_deadline=9.0)
