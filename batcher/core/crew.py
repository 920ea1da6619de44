"""What the runs of one batch tell each other, as frozen values. No I/O.

In: nothing. Out: a `Job` of the queue; what a run tells from time to time (`Heartbeat`), and hears (`Heard`). Used by the
pipeline's `hosts` and by the engine behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Job:
    """One flow that waits to be worked on. `redo_of`: the id of the started flow that is to be paid for again (None: nothing
    is); where the flow has another id by then, that was done."""

    name: str
    redo_of: str | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """The batch as the run that planned it has counted it: flows and inputs of the manifest, and what was done before."""

    flows: int = 0
    inputs: int = 0
    started: int = 0
    uploaded: int = 0
    uploaded_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """What one run has done itself, so far."""

    started: int = 0
    uploaded: int = 0
    uploaded_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a run tells of itself. `in_flight`: requests at this moment, or as many as it lets go at once, if that is more.
    `failed_probes`: in the outage that it sees; None: it sees none. `follows`: another asks whether the service is back."""

    in_flight: int
    done: Done
    failed_probes: int | None
    follows: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    """A run that is alive. `where`: its host and process, for people."""

    id: str
    where: str
    lacking: bool = False  # it lacks sources of the batch, so that it does not plan


@dataclass(frozen=True, slots=True)
class Heard:
    """What a run hears. `session`: its number; `planned`: all that is to be done in it waits in the queue; `swept`: nothing is
    left to do in it. `allotted`: requests that it may have in flight. `probes`: whether it is the one that asks whether the
    service is back, and how many probes have failed in all, while there is an outage (None: there is none)."""

    members: Sequence[Member]
    allotted: int
    probes: tuple[bool, int] | None
    session: int
    planned: bool
    swept: bool
    totals: Totals = field(default_factory=Totals)
    done: Done = field(default_factory=Done)  # by all of its runs together


def share_of(most: int, members: int, index: int) -> int:
    """How many of `most` requests in flight are the share of the run at this place (from 0) among so many. The shares of all
    come to `most` exactly."""
    return most // members + (index < most % members)
