"""How a started flow's outputs are collected: what is asked for, when to fetch them, and what is missing. No I/O.

In: states as the service shows them, counts of inputs and outputs. Out: a `Step` per flow, a `Lack` of what is missing, delays.
Called by `pipeline.collect`. What an output is called stands in `output_names`, what it must be in `output_check`.
"""

from __future__ import annotations

import errno
import hashlib
from array import array
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import lru_cache
from itertools import groupby
from typing import Final

from .errors import Reason, Stop
from .facts import EndFacts
from .output_names import NamePattern
from .pauses import pause_after
from .retry import Chance

POLL_S: Final = (0.5, 1.0, 2.0, 4.0, 5.0, 7.0, 10.0, 14.0, 20.0, 30.0)  # the service asks for about 5 s; then it eases off
STILL_S: Final = 60.0  # so long an unknown state with a set end, or all of its progress, is held for one that goes on
CREATED_POLLS: Final = 4  # a flow that was started and is so often shown as `created` in a row was not started
LABELS: Final = 3  # of the inputs that an output is missing of, in a message


@dataclass(frozen=True, slots=True)
class CollectOptions:
    """What the flags of `collect` ask for. `wait_s` bounds the waiting for flows that run; None: until they have ended.
    `accept_fewer`: a completed flow that lists fewer outputs than it has inputs is whole nevertheless. `folder`: where the
    outputs go, for the journal to remember."""

    name: NamePattern
    wait_s: float | None = None
    delete_remote: bool = False
    accept_fewer: bool = False
    folder: str = ""


class Step(Enum):
    """What a flow's state asks for."""

    FETCH = "fetch"
    FETCH_APART = "fetch apart"  # it failed or was aborted: what it left is kept apart
    WAIT = "wait"


class End(Enum):
    """How a flow ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    ABORTED = "aborted"


# The service's three words first (flows-api, States), then those that other services have for the same.
_ENDS: Final = {
    End.COMPLETED: ("completed", "complete", "succeeded", "success", "successful", "done", "finished"),
    End.FAILED: ("failed", "failure", "error", "errored", "expired", "timeout", "timed_out"),
    End.ABORTED: ("aborted", "cancelled", "canceled", "terminated"),
}
_END_OF: Final = {word: end for end, words in _ENDS.items() for word in words}
UNDER_WAY: Final = frozenset({"", "created", "starting", "running", "aborting"})


@lru_cache(maxsize=256)  # services have a dozen words, and a look at a million flows asks for each a few times
def end_of(state: str) -> End | None:
    """How a flow ended whose state is `state`, lower case; None: by all that is known it has not. States that nobody
    knows are not the end."""
    return _END_OF.get(state.replace("-", "_").replace(" ", "_"))


def step(state: str) -> Step:
    """What to do about a flow whose state is `state`, lower case."""
    match end_of(state):
        case None:
            return Step.WAIT
        case End.COMPLETED:
            return Step.FETCH
        case _:
            return Step.FETCH_APART


def as_shown(
    old: EndFacts | None, flow_id: str, name: str, state: str, reason: str, progress: float, seen_at: float | None
) -> EndFacts:  # fmt: skip
    """The row of a flow that the service shows like this, `old` being what the journal has. Outputs that are listed stay so,
    unless the flow was completed after all."""
    why = reason if step(state) is Step.FETCH_APART else ""
    if old is None:
        return EndFacts(flow_id, name, state, reason=why, progress=progress, seen_at=seen_at)
    completed_later = end_of(state) is End.COMPLETED and end_of(old.state) is not End.COMPLETED
    if old.listed and not completed_later:
        return old
    why = why or (old.reason if old.state == state else "")
    return replace(old, state=state, listed=False, reason=why, progress=progress, seen_at=seen_at)


def stands_still(state: str, finished: bool, progress: float, unchanged_s: float, over: bool) -> bool:
    """Whether a flow in a state that nobody knows is to be waited for no longer: its end is set or its progress is 1, and
    nothing has changed for long. `over`: the waiting is, so that an end that is set has to do."""
    if state in UNDER_WAY or end_of(state) is not None:
        return False
    return (finished and over) or ((finished or progress >= 1.0) and unchanged_s >= STILL_S)


@dataclass(slots=True)
class Lack:
    """What the outputs of a completed flow leave open, counted while its inputs and its outputs are walked. `inputs`: as
    it was started; `unsourced`: outputs of nobody knows which input; `tagged` and `others`: inputs without an output, by
    whether an output of theirs would tell; `labels`: the first of the tagged ones."""

    inputs: int
    outputs: int = 0
    unsourced: int = 0
    tagged: int = 0
    others: int = 0
    labels: list[str] = field(default_factory=list)

    def add(self, label: str, tagged: bool) -> None:
        """An input that no output tells of."""
        self.tagged += tagged
        self.others += not tagged
        if tagged and len(self.labels) < LABELS:
            self.labels.append(label)

    @property
    def missing(self) -> int:
        """How many inputs have no output, at the least: one that tells of no input may be of any."""
        return max(0, self.inputs - self.outputs, self.tagged + self.others - self.unsourced)

    @property
    def named(self) -> int:
        """How many of them can be named."""
        return self.tagged if self.tagged <= self.missing else 0

    @property
    def words(self) -> str:
        whose = ", ".join(self.labels) if self.named else ""
        more = f" and {self.missing - len(self.labels):,} more" if whose and self.missing > len(self.labels) else ""
        verb = "is" if self.missing == 1 else "are"
        whose = f", of {whose}{more}" if whose else "; of which inputs cannot be told"
        return f"{self.missing:,} {verb} missing{whose}"


def poll_delay_s(quiet_rounds: int, rng: Chance) -> float:
    """Seconds until the states are asked for again, after so many rounds (from 0) in which nothing had moved."""
    return pause_after(quiet_rounds, POLL_S) * rng.uniform(0.8, 1.2)


def cannot_write(error: OSError) -> Stop:
    """What ends a run whose folder fails it: no other output could be written or checked either."""
    what = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return Stop(Reason.UNAVAILABLE, f"{what}too many files are open", "raise the limit (ulimit -n), or collect again later")
    return Stop(Reason.UNSETTLED, f"the folder of outputs cannot be used: {what}{error.strerror}",
                "free some space or check the folder's permissions, then collect again")  # fmt: skip


class Unplaceable(Exception):
    """One output cannot be written to its place, for something else is in the way; others can."""


class Ids:
    """How many different ids there are, and whether they are the same as others: 8 bytes for each that was added."""

    def __init__(self) -> None:
        self._all = array("Q")

    def add(self, asset_id: str) -> None:
        self._all.append(int.from_bytes(hashlib.blake2b(asset_id.encode(), digest_size=8).digest(), "big"))

    def distinct(self) -> array[int]:
        """In order, each once: a list may show an output twice."""
        return array("Q", (one for one, _ in groupby(sorted(self._all))))
