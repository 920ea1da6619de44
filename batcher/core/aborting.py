"""What a flow's state says to somebody who wants it to end. No I/O.

In: states as the service shows them, lower case. Out: a `Phase`. Called by `pipeline.abort`. Transitions: flows-api, States.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from .collecting import Step, step

_ABORTING: Final = frozenset({"aborting", "cancelling", "canceling"})
_ABORTED: Final = frozenset({"aborted", "cancelled", "canceled"})


class Phase(Enum):
    UNSTARTED = "unstarted"
    RUNNING = "running"  # it can be aborted
    ABORTED = "aborted"  # or on the way there
    ENDED = "ended"
    UNKNOWN = "unknown"  # no state is shown


def phase(state: str) -> Phase:
    """The phase of a flow in this state. States that nobody knows are not the end: such a flow may cost money yet."""
    if not state:
        return Phase.UNKNOWN
    if state == "created":
        return Phase.UNSTARTED
    if state in _ABORTING or state in _ABORTED:
        return Phase.ABORTED
    return Phase.RUNNING if step(state) is Step.WAIT else Phase.ENDED
