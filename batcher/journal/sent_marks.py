"""The sent marks: a small mapped file beside the journal that tells which announced requests may have left.

In: the key of a request, just before its last byte leaves, and once its outcome is durable. Out: after a kill, the keys of
what had left; how many commits there were. The kernel holds the file's pages, so it survives kill -9, and is trusted only
while the machine has not been started anew. Called by the journal, when it is opened and for each write.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
from pathlib import Path
from typing import Final

from ..core.tags import KEY_BYTES
from ..host.system import allocate
from .clock import BOOT_BYTES

SLOTS: Final = 4096  # requests that have left and whose outcome is not durable yet; far above any concurrency
BOOT: Final = BOOT_BYTES
HEAD: Final = 64  # the boot's name, how many commits there were, how many are on the disk (8 bytes each), then the slots
SIZE: Final = HEAD + SLOTS * KEY_BYTES


def read_sent_marks(path: Path, boot: bytes) -> frozenset[bytes] | None:
    """What the file tells of the process that wrote it last, in this boot of the machine. None: nothing is known."""
    with contextlib.suppress(OSError):
        content = path.read_bytes()
        if boot and len(content) == SIZE and content[:BOOT] == boot:
            keys = (content[start : start + KEY_BYTES] for start in range(HEAD, len(content), KEY_BYTES))
            return frozenset(keys) - {bytes(KEY_BYTES)}
    return None


class SentMarks:
    """The mapped file. `mark` before the last byte leaves, `clear` once the outcome is durable. `boot`: as `boot_name` tells
    it. Raises OSError."""

    def __init__(self, path: Path, boot: bytes) -> None:
        # Unknown: a name that is never equal, so all that was announced counts as left.
        self._boot = boot or secrets.token_bytes(BOOT)
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            known = os.fstat(fd).st_size == SIZE
            allocate(fd, SIZE)
            self._map = mmap.mmap(fd, SIZE)
        finally:
            os.close(fd)
        self._same_boot = known and self._map[:BOOT] == self._boot
        self.left = read_sent_marks(path, boot) if self._same_boot else None  # None: nothing is known
        self._of: dict[bytes, int] = {}
        self._free = list(range(SLOTS - 1, -1, -1))

    @property
    def commits(self) -> int:
        """How many commits the journal must have: it is damaged where it knows of fewer. What was not on the disk yet when
        the machine went down is rightly gone."""
        start = BOOT if self._same_boot else BOOT + 8
        return int.from_bytes(self._map[start : start + 8], "big")

    def committed(self, count: int) -> None:
        self._map[BOOT : BOOT + 8] = count.to_bytes(8, "big")

    def synced(self, count: int) -> None:
        self._map[BOOT + 8 : HEAD] = count.to_bytes(8, "big")

    def begin(self) -> None:
        """Forget what an earlier process left; called once that is durable in the journal."""
        self._map[:BOOT] = bytes(BOOT)  # while it is half-written it says nothing
        self._map[HEAD:] = bytes(SLOTS * KEY_BYTES)
        self._map[:BOOT] = self._boot

    def mark(self, key: bytes) -> None:
        if key in self._of:
            return
        if not self._free:
            self._map[:BOOT] = bytes(BOOT)  # more than can be told: from now on the file says nothing
            return
        index = self._of[key] = self._free.pop()
        start = HEAD + index * KEY_BYTES
        self._map[start : start + KEY_BYTES] = key

    def clear(self, key: bytes) -> None:
        index = self._of.pop(key, None)
        if index is not None:
            start = HEAD + index * KEY_BYTES
            self._map[start : start + KEY_BYTES] = bytes(KEY_BYTES)
            self._free.append(index)

    def close(self) -> None:
        self._map.close()
