"""One process at a time holds a journal, and others can tell."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batcher.core.errors import Locked
from batcher.journal.sqlite import SqliteJournal

pytestmark = pytest.mark.anyio


async def test_second_process_is_locked_out_and_files_are_the_owners_only(tmp_path: Path) -> None:
    path = tmp_path / "state" / "j.sqlite"
    journal = SqliteJournal(path, "b", 15)
    with pytest.raises(Locked):
        SqliteJournal(path, "b", 15)
    assert os.stat(path.parent).st_mode & 0o777 == 0o700
    assert all(os.stat(file).st_mode & 0o077 == 0 for file in path.parent.iterdir())
    journal.close()
    SqliteJournal(path, "b", 15).close()
