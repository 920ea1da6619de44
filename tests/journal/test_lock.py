"""One process at a time holds a journal, and others can tell."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from batcher.core.errors import Locked, UsageError
from batcher.journal.lock import hold, inodes_of, is_held, is_in_place, log_of
from batcher.journal.sqlite import SqliteJournal


def test_second_process_is_locked_out_and_files_are_the_owners_only(tmp_path: Path) -> None:
    path = tmp_path / "state" / "j.sqlite"
    journal = SqliteJournal(path, "b", 15)
    with pytest.raises(Locked):
        SqliteJournal(path, "b", 15)
    assert os.stat(path.parent).st_mode & 0o777 == 0o700
    assert all(os.stat(file).st_mode & 0o077 == 0 for file in path.parent.iterdir())
    journal.close()
    SqliteJournal(path, "b", 15).close()


def test_others_can_tell_whether_it_is_held(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    assert is_held(path) is None, "nobody has held it yet"
    file = hold(path)
    assert is_held(path) is True
    os.close(file)
    assert is_held(path) is False


def test_it_dies_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        hold(path)
        os.write(told, b"!")
        os.read(os.pipe()[0], 1)
        os._exit(0)
    os.read(ready, 1)
    assert is_held(path) is True
    with pytest.raises(Locked):
        hold(path)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    os.close(hold(path))
    os.close(ready)
    os.close(told)


def test_failed_attempts_leave_no_file_open(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    file = hold(path)
    before = len(os.listdir("/dev/fd"))
    for _ in range(3):
        with pytest.raises(Locked):
            hold(path)
    assert len(os.listdir("/dev/fd")) == before
    os.close(file)


def test_folder_that_cannot_be_made_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot be written: (Not a directory|File exists)"):
        hold(tmp_path / "file" / "j.sqlite")


def test_it_holds_although_its_file_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    journal = SqliteJournal(path, "b", 15)
    for _ in range(2):
        path.with_suffix(".lock").unlink()  # the second time that of whoever was refused
        assert is_held(path) is True
        with pytest.raises(Locked):
            SqliteJournal(path, "b", 15)
    journal.close()
    assert is_held(path) is False
    SqliteJournal(path, "b", 15).close()


def test_a_log_that_a_killed_process_has_left_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    pid = os.fork()
    if pid == 0:
        SqliteJournal(path, "b", 15)
        os._exit(9)
    os.waitpid(pid, 0)
    path.with_suffix(".lock").unlink()
    assert log_of(path).exists()
    assert is_held(path) is False
    SqliteJournal(path, "b", 15).close()


def test_journal_is_in_place_as_long_as_its_path_names_what_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "state" / "j.sqlite"
    with closing(SqliteJournal(path, "b", 15)):
        inodes = inodes_of(path)
        assert is_in_place(inodes)
        path.parent.rename(tmp_path / "elsewhere")
        assert not is_in_place(inodes)
        with closing(SqliteJournal(path, "b", 15)):
            assert not is_in_place(inodes)
