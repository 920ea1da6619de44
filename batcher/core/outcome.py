"""What an exit code asks of those who watch over a batch: the contract's column "a cron job should", as a table. No I/O.

In: an exit code. Out: an `Outcome`, None where nobody is to be told. Called by the command line for pings and hooks.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from .errors import PLANNED, Reason
from .report import OF_REASON

Outcome: TypeAlias = Literal["success", "problem", "failure"]

IGNORED = 11  # another run holds the manifest, and tells of itself
RUN_AGAIN = frozenset(OF_REASON[reason] for reason in (Reason.UNAVAILABLE, *PLANNED))


def outcome_of(exit_code: int) -> Outcome | None:
    """`problem`: not done, and the next run resumes by itself. `failure`: somebody has to look at it."""
    if exit_code == IGNORED:
        return None
    if exit_code == 0:
        return "success"
    return "problem" if exit_code in RUN_AGAIN else "failure"
