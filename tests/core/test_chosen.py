"""Flows chosen by name: a name that is not there is a slip that is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from batcher.core.chosen import Chosen, literal
from batcher.core.facts import FlowFacts
from batcher.core.lifecycle import FlowState
from batcher.core.planning import Options


def test_names_and_patterns_match_and_the_rest_is_missed() -> None:
    chosen = Chosen("--only", ["chair-1", "stool-*", "[odd]", "chiar-2", "zzz"])
    names = ["chair-1", "chair-2", "stool-1", "stool-2", "[odd]"]
    assert [name for name in names if chosen(name)] == ["chair-1", "stool-1", "stool-2", "[odd]"]
    first, second = chosen.missed()
    assert str(first) == "--only chiar-2: there is no such flow (did you mean chair-2?)"
    assert "there are: chair-1, chair-2, stool-1, stool-2, [odd])" in str(second)


def test_among_no_flows_at_all_it_says_so() -> None:
    assert "the manifest has no flows" in str(Chosen("--redo", ["x"]).missed()[0])


def test_what_was_found_is_not_asked_for_again() -> None:
    chosen = Chosen("--only", ["a"])
    assert chosen("a")
    assert not chosen("b")
    assert chosen.missed() == []


@pytest.mark.parametrize("name", ["a*", "b?", "c[1]", "plain", "*?["])
def test_a_name_is_spelled_as_a_pattern_that_stands_for_it_alone(name: str) -> None:
    chosen = Chosen("--redo", [literal(name)])
    assert chosen(name)
    assert not chosen(name + "x")


def test_list_that_says_the_attempt_means_that_one_only() -> None:
    chosen = Chosen("--redo", ["chair", "stool"], attempts={"chair": "id-1"})
    options = Options(redo=chosen)
    started = FlowFacts("chair", FlowState.STARTED, "id-1")
    assert options.redoes(started)
    assert not options.redoes(replace(started, flow_id="id-2")), "it was made again since, perhaps a moment ago"
    assert options.redoes(FlowFacts("stool", FlowState.STARTED, "id-7"))
    assert not options.redoes(FlowFacts("sofa", FlowState.STARTED, "id-8"))
