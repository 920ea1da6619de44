"""Pauses that grow, and stay as long as the last."""

from __future__ import annotations

from batcher.core.pauses import pause_after


def test_each_pause_in_turn_then_the_last_again_and_again() -> None:
    pauses_s = (0.2, 0.5, 1.0)
    assert [pause_after(looks, pauses_s) for looks in range(5)] == [0.2, 0.5, 1.0, 1.0, 1.0]
