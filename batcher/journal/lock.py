"""The lock on a journal: a file beside it, held by the kernel for as long as its process lives.

In: the journal's path. Out: a descriptor that holds the lock, or whether somebody holds it. Called when a journal is opened,
and by whoever only looks.
"""

from __future__ import annotations

import os
import time
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
        if not _taken(file):
            raise Locked("another run holds this manifest", "wait for it to end")
    except BaseException:
        os.close(file)
        raise
    return file


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
    try:
        held = os.open(path.with_suffix(".lock"), os.O_RDONLY)
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
