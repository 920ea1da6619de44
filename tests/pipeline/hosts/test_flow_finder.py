"""Jobs are found by walking the manifest on from where it was left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from batcher.core.model import Flow, Limits, Manifest, Place, Problem
from batcher.pipeline.hosts.flow_finder import FlowFinder

HERE = Place("m.yaml", 1, 1)
FLOWS = 100


class Walked:
    """A manifest that counts how many of its flows are expanded."""

    def __init__(self) -> None:
        self.flows = 0
        self.finder = FlowFinder(Manifest("m.yaml", "/m.yaml", "/", "m", "", Limits(), self._flows), lambda: None)

    def _flows(self) -> Iterator[Flow | Problem]:
        for number in range(FLOWS):
            self.flows += 1
            yield Flow(f"{number}", "t", None, {}, None, HERE, lambda: iter(()))
            yield Problem("manifest", "a flow that cannot be told")

    def find(self, *numbers: int) -> int:
        """How many flows it took to find these."""
        before = self.flows
        names = {f"{number}" for number in numbers}
        assert self.finder.find(names).keys() == {name for name in names if int(name) < FLOWS}
        return self.flows - before


def test_manifest_is_walked_once_for_names_in_its_order() -> None:
    walked = Walked()
    assert [walked.find(number, number + 1) for number in range(0, FLOWS, 2)] == [2] * (FLOWS // 2)


@pytest.mark.parametrize("first", [10, 60])
def test_after_a_job_that_came_back_the_walk_goes_on_from_there(first: int) -> None:
    walked = Walked()
    walked.find(first)
    assert walked.find(5) == FLOWS - first - 1 + 6
    assert walked.find(6, 8) == 3
    assert walked.find(9) == 1


def test_what_the_manifest_does_not_have_is_looked_for_all_around() -> None:
    walked = Walked()
    walked.find(49)
    assert walked.find(50, FLOWS + 1) == FLOWS // 2 + FLOWS
    assert walked.find(0) == 1
