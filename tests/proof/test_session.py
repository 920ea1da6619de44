"""A slice of the matrix where aiohttp lacks what the wire and its pool take of its insides: all goes through the session, and
each connection is used once. The outcomes are the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from batcher.service import wire

from .cells import CELLS, play

CALLS = ("create", "upload", "start", "delete", "output")
ROWS = (
    "connection refused", "reset within the body", "reset after the commit", "no reply, and no end", "reply cut in half", "413",
    "500 after the commit", "504, then a commit beyond the settling time",
)  # fmt: skip
NAMES = [name for name, (scene, row) in CELLS.items() if scene.name in CALLS and row.name in ROWS]


@pytest.mark.parametrize("names", [NAMES[::4], pytest.param(NAMES, marks=pytest.mark.long)], ids=["a part", "all"])
def test_slice_of_the_matrix_through_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str]) -> None:
    monkeypatch.setattr(wire, "LACKING", ["a name"])
    monkeypatch.setattr(wire, "POOL_LACKING", ["a name"])
    assert len(NAMES) > 25
    for outcome in play(names, str(tmp_path)):
        assert not outcome.missed, outcome
        assert not outcome.wrong, outcome
