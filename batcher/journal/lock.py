"""The lock on a journal: on a file beside it and on its log, held by the kernel for as long as its process lives.

In: the journal's path. Out: a descriptor that holds the lock, whether somebody holds it, and whether the journal still lies
where it was opened. Called when a journal is opened, before it counts as written, and by whoever only looks.

The file beside it is there before the journal is, but may be removed while it is held. The log (`-wal`) may not: it is a part
of the journal. SQLite keeps it as long as anybody has the journal open, and holds no lock of its own on it; on the database it
does, and those would be gone once any descriptor of it is closed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from ..core.errors import Locked, UsageError
from ..host.process import NOT_YOURS
from ..host.system import lock


def hold(path: Path) -> int:
    """Take the lock of the journal at `path`, whose folder is made; close the descriptor to let go of it. Raises Locked
    while another process holds it, UsageError where the folder cannot be written."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        hint = NOT_YOURS if isinstance(error, PermissionError) else "see --state"
        raise UsageError(f"the state folder {path.parent} cannot be written: {error.strerror}", hint) from error
    try:
        hold_open(file)
    except BaseException:
        os.close(file)
        raise
    return file


def hold_open(file: int) -> None:
    """Take the lock on an open file, as long as it stays open. Raises Locked while another process holds it."""
    if not _taken(file):
        raise Locked("another run holds this manifest", "wait for it to end")


def log_of(path: Path) -> Path:
    """SQLite's log of the journal at `path`."""
    return path.with_name(f"{path.name}-wal")


def _taken(file: int) -> bool:
    """Whether it could be taken. Asked for a few times: `is_held` has it for some microseconds."""
    for pause_s in (0.01, 0.05, 0.0):
        try:
            lock(file)
            return True
        except OSError:
            time.sleep(pause_s)
    return False


def is_held(path: Path) -> bool | None:
    """Whether a process holds the journal. None: it cannot be told."""
    found = [_is_held(path.with_suffix(".lock")), _is_held(log_of(path))]
    return True if True in found else False if False in found else None


def _is_held(file: Path) -> bool | None:
    try:
        held = os.open(file, os.O_RDONLY)
    except OSError:
        return None
    try:
        lock(held, shared=True)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(held)  # which lets go of it
    return False


def inodes_of(path: Path) -> dict[Path, tuple[int, int]]:
    """The files that the journal consists of while it is open: the device and the inode number of each. Raises OSError."""
    found = {file: os.stat(file) for file in (path, log_of(path))}
    return {file: (stat.st_dev, stat.st_ino) for file, stat in found.items()}


def is_in_place(inodes: Mapping[Path, tuple[int, int]]) -> bool:
    """Whether these files still lie where `inodes_of` found them: what is written to others is read by nobody. What cannot be
    told counts as in place."""
    for file, inode in inodes.items():
        try:
            found = os.stat(file)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            continue
        if (found.st_dev, found.st_ino) != inode:
            return False
    return True
