"""Collecting, brisker than in earnest."""

from __future__ import annotations

import pytest

from batcher.core import collecting, retry


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries and polls come ten times as soon as in earnest: what is tested is what they do."""
    monkeypatch.setattr(retry, "BACKOFF_BASE_S", 0.05)
    monkeypatch.setattr(collecting, "POLL_S", tuple(pause_s / 10 for pause_s in collecting.POLL_S))


@pytest.fixture
def quick_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batcher.pipeline.collect.output_list.RELIST_S", (0.02, 0.05, 0.1, 0.2, 0.4))


@pytest.fixture
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "POLL_S", (0.01,))
    monkeypatch.setattr("batcher.pipeline.collect.output_list.RELIST_S", (0.01,) * 6)
