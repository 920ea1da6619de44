"""What is wrong with a source is told with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from batcher.core.model import Problem
from batcher.host import process as host
from batcher.sources.dispatch import AllSources

from .conftest import PNG, no_file_left, plan, source

pytestmark = pytest.mark.anyio


async def test_too_many_open_files_are_not_the_files_fault(
    sources: AllSources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    one = plan(sources, source(path))
    monkeypatch.setattr(host, "PATIENCE_S", 0.1)
    with no_file_left(0.5):
        found = sources.body(one)
    assert isinstance(found, Problem)
    assert (found.kind, found.message) == ("unavailable", "a.png cannot be opened: too many files are open")
