"""The errors that a caller of batcher may meet, and whose fault each is.

    BatcherError
    ├── ManifestError         the manifest is wrong; `problems` lists all of it        (exit code 2)
    ├── UsageError            flags, folders or the environment are wrong              (2)
    ├── JournalError          the journal is damaged, newer, or cannot be written      (12)
    │   └── ClaimLost         other runs have gone on with the flows of this one
    ├── Locked                another run holds this manifest                          (11)
    └── Stop                  the run ends early; `reason` says why                    (2, 5, 7, 10, 12, 129, 130, 143)

Anything else that is raised is a bug in batcher (1).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final

from .model import Problem


class BatcherError(Exception):
    """The root: `hint` says what to do next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ManifestError(BatcherError):
    """The manifest is wrong. `problems` holds everything that was found, in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UsageError(BatcherError):
    """Flags, folders or the environment are wrong."""


class JournalError(BatcherError):
    """The journal is damaged, was written by a newer batcher, or cannot be written: what was paid for is unknown."""


class ClaimLost(JournalError):
    """Others have gone on with the flows of this run: it may write nothing of them, and send nothing, any more."""

    def __init__(self) -> None:
        super().__init__("this run was away for longer than its lease, and others went on with its flows",
                         "they finish them; run again to join in")  # fmt: skip


class Locked(BatcherError):
    """Another run holds this manifest's journal."""


class Reason(Enum):
    """Why a run ends before everything is done."""

    USAGE = "usage"  # the address, a certificate or a proxy is wrong; nothing was written
    FATAL = "fatal"
    UNAVAILABLE = "unavailable"
    UNSETTLED = "unsettled"
    DEADLINE = "deadline"
    LIMIT = "limit"  # as many flows were started as one run may start
    SIGHUP = "sighup"
    SIGINT = "sigint"
    SIGTERM = "sigterm"


SIGNALS: Final = frozenset({Reason.SIGHUP, Reason.SIGINT, Reason.SIGTERM})
PLANNED: Final = SIGNALS | {Reason.DEADLINE, Reason.LIMIT}  # somebody asked for it: nothing is wrong with the batch


class Stop(BatcherError):
    """The run ends early; what is durable stays, and the next run resumes."""

    def __init__(self, reason: Reason, message: str, hint: str = "", status: int | None = None) -> None:
        super().__init__(message, hint)
        self.reason = reason
        self.status = status
