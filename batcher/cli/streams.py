"""What is said, and the results, where they cannot be written: a full disk, a reader that has gone, nothing there at all.

In: the process's own streams. Out: ones that never fail; what a run has done does not hang on who reads of it. Called by
`main`, before and after a command.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import BinaryIO


class Stream(io.TextIOWrapper):
    """Text to one of the process's descriptors. `lost` is why some of it could not be written; then the rest goes nowhere."""

    lost: OSError | None = None

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._abandon(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._abandon(error)

    def write_bytes(self, content: bytes) -> None:
        """As they are, after the text so far."""
        self.flush()
        try:
            self.buffer.write(content)
        except OSError as error:
            self._abandon(error)
        self.flush()

    def _abandon(self, error: OSError) -> None:
        self.lost = self.lost or error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())  # what is still held must not fail again when the process ends
        os.close(nowhere)


def prepare() -> None:
    """Make stdout and stderr such streams; a descriptor that is closed is opened on nothing: no file may get its number."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest one that is free
    sys.stdout = _prepared(sys.stdout, 1)
    sys.stderr = _prepared(sys.stderr, 2)
    vars(sys)["__stdout__"] = sys.stdout  # the old one is taken apart, and `shutil.get_terminal_size` asks it for its width


def _prepared(stream, descriptor: int):  # type: ignore[no-untyped-def]
    if stream is None:
        buffer: BinaryIO = open(descriptor, "wb", closefd=False)  # noqa: SIM115 - as long as the process
        return Stream(buffer, "utf-8", "backslashreplace", line_buffering=True)
    if not isinstance(stream, io.TextIOWrapper):
        return stream  # somebody else's
    encoding, lines = stream.encoding, stream.line_buffering
    # A name that the terminal's encoding cannot show is no error.
    return Stream(stream.detach(), encoding, "backslashreplace", line_buffering=lines)


def lost() -> str | None:
    """Why results could not be written; None where they were, and where a reader had seen enough."""
    with contextlib.suppress(ValueError):
        sys.stdout.flush()
    error = getattr(sys.stdout, "lost", None)
    return None if error is None or error.errno == errno.EPIPE else str(error.strerror)
