"""Which of several started flows of one name is taken over: all are paid for, and one is to count. No I/O.

In: how each one's inputs stand to the manifest's, its state, its number among the creates. Out: an order. Called by
`pipeline.adopt`.
"""

from __future__ import annotations

from enum import IntEnum

from .collecting import Step, step


class Match(IntEnum):
    """How a flow's inputs stand to the manifest's; the best first."""

    SAME = 0
    UNTOLD = 1  # nothing speaks against it, but not all of them can be compared
    DIFFERS = 2


def preference(match: Match, state: str, number: int) -> tuple[int, bool, int]:
    """The smallest comes first: what matches, then what has not failed, then the newest."""
    return match, step(state) is Step.FETCH_APART, -number
