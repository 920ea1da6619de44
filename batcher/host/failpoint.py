"""The points at which a death of the process matters most: between two effects that last.

In: the name of the point that is reached. Out: nothing, unless the tests have set `hook`, which dies there, one point
after another, to prove that the next run completes the batch. Called by the journal and by the client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

POINTS: Final = (
    "before commit",
    "after commit",  # what outlives the process, and nobody knows it yet
    "before sync",  # of what somebody waits for: it does not outlive a power cut yet
    "after sent marks",  # the marks of what is durable are gone
    "in migration",  # between two of its statements
    "in recovery",  # between two of its statements
    "before request",  # announced, and nothing has left
    "between chunks",  # of a body
    "leaving",  # marked as having left; the last bytes have not
    "after reply",  # read, and not recorded
)

hook: Callable[[str], None] | None = None


def failpoint(point: str) -> None:
    """Say that one of the `POINTS` has been reached. From any thread."""
    if hook is not None:
        hook(point)
