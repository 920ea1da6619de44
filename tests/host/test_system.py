"""What a system lacks is done another way, and what fails is never taken for what is lacking."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from batcher.core.errors import UsageError
from batcher.host import system
from batcher.sources.encode_worker import stat_fields

SIZE = 200_000


@pytest.fixture(params=["posix_fallocate", "refused", "missing"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "not on this file system")

    if request.param == "missing":
        monkeypatch.delattr(os, "posix_fallocate")
    elif request.param == "refused":
        monkeypatch.setattr(os, "posix_fallocate", refuse)
    return request.param


@pytest.mark.parametrize("before", [b"", b"short", b"x" * (SIZE + 7)])
def test_room_is_made_for_all_of_a_file_and_what_has_its_length_is_kept(tmp_path: Path, kind: str, before: bytes) -> None:
    path = tmp_path / "f"
    path.write_bytes(before)
    for content in (None, b"y" * SIZE):
        if content is not None:
            path.write_bytes(content)
        with path.open("r+b") as file:
            system.allocate(file.fileno(), SIZE)
            found = os.fstat(file.fileno())
            assert found.st_size == SIZE
            assert found.st_blocks * 512 >= SIZE, "a hole"
    assert path.read_bytes() == b"y" * SIZE


def test_full_disk_is_no_lack_of_a_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with (tmp_path / "f").open("w+b") as file:
        monkeypatch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match="No space"):
            system.allocate(file.fileno(), SIZE)
        monkeypatch.delattr(os, "posix_fallocate")
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space"):
            system.allocate(file.fileno(), SIZE)


@pytest.mark.parametrize(("number", "falls_back"), [(errno.ENOTSUP, True), (errno.EINVAL, True), (errno.EIO, False)])
def test_disk_that_fails_is_told_from_a_file_system_without_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, falls_back: bool
) -> None:
    synced: list[int] = []

    def control(file: int, command: int) -> None:
        assert command == fcntl.F_FULLFSYNC  # type: ignore[attr-defined]
        raise OSError(number, "no")

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", control)
    monkeypatch.setattr(os, "fsync", synced.append)
    with (tmp_path / "f").open("wb") as file:
        if falls_back:
            system.to_disk(file.fileno())
            assert synced == [file.fileno()]
        else:
            with pytest.raises(OSError, match="no"):
                system.to_disk(file.fileno())
            assert not synced


def test_folder_that_cannot_be_asked_is_left_to_its_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = OSError(errno.EINVAL, "Invalid argument")

    def fail(_: int) -> None:
        raise failing

    system.folder_to_disk(tmp_path)
    monkeypatch.setattr(os, "fsync", fail)
    system.folder_to_disk(tmp_path)
    failing = OSError(errno.EIO, "Input/output error")
    with pytest.raises(OSError, match="Input/output"):
        system.folder_to_disk(tmp_path)


def test_lock_that_cannot_be_had_is_a_matter_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "LOCKS", False)
    with (tmp_path / "f").open("w") as file, pytest.raises(UsageError, match="no fcntl"):
        system.lock(file.fileno())


@pytest.mark.parametrize("mtime_ns", [0, -1, -(1 << 62), 1 << 62, (1 << 63) - 1, 1 << 63, -(1 << 63), 1 << 66, -(1 << 66) + 5])
@pytest.mark.parametrize("inode", [1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_stat_fits_the_journals_integers_and_is_the_one_that_the_encoder_takes(mtime_ns: int, inode: int) -> None:
    """The encoder is a script of its own and imports nothing of batcher: what it sees is held against what was planned here."""
    values = [0] * 10
    values[1], values[6] = inode, 5  # of a stat's tuple: the inode, the size
    found = os.stat_result(values, {"st_mtime_ns": mtime_ns})
    stat = system.stat_of(found)
    assert (stat.size, stat.mtime_ns, stat.inode) == stat_fields(found)
    assert all(-(1 << 63) <= value < 1 << 63 for value in (stat.mtime_ns, stat.inode))
