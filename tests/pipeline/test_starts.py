"""How many flows one run may start: who has a place, who gives it back."""

from __future__ import annotations

from batcher.core.lifecycle import FlowState
from batcher.pipeline.starts import Starts


def test_without_a_bound_there_is_always_a_place() -> None:
    starts = Starts(None, 3)
    assert all(starts.take(unsettled) for unsettled in (False, True) * 50)


def test_a_place_is_given_back_by_what_was_not_started() -> None:
    starts = Starts(2, 0)
    assert [starts.take(False) for _ in range(3)] == [True, True, False]
    starts.free(announced=False, state=FlowState.OPEN)
    assert [starts.take(False), starts.take(False)] == [True, False]
    for state in (FlowState.STARTED, FlowState.OPEN):
        starts.free(announced=True, state=state)
    assert not starts.take(False), "an announced start counts, whatever came of it"
    assert starts.admitted == 3


def test_flows_whose_start_is_not_settled_have_their_places_before_others() -> None:
    starts = Starts(3, 2)
    assert [starts.take(False), starts.take(False)] == [True, False]
    starts.close()
    assert not starts.over, "the two may come later in the manifest"
    assert [starts.take(True), starts.take(True)] == [True, True]
    assert starts.over
    starts.free(announced=False, state=FlowState.STARTED)  # an earlier run had started it
    assert starts.take(False)
    starts.free(announced=False, state=FlowState.STARTING)  # still not known: it may run
    assert not starts.take(False)


def test_more_unsettled_flows_than_places_wait_for_each_other() -> None:
    starts = Starts(1, 3)
    assert [starts.take(False), starts.take(True), starts.take(True)] == [False, True, False]
    starts.free(announced=False, state=FlowState.STARTED)
    assert starts.take(True)
