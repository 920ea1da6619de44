"""What the journal knows, as frozen values, and the records that change it.

In: nothing. Out: `FlowFacts` and `InputFacts` (the rows), and the `Record`s that stages hand to the journal.
A record replaces a row as a whole; which row may follow which is `lifecycle`'s affair, and settled before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Protocol, TypeAlias

from .lifecycle import FlowEvent, FlowState, InputEvent, InputState, flow_next, input_next
from .measuring import FlowTimes
from .model import JSON
from .rows import row

WATCH_S: Final = 7 * 86400.0  # a create is not expected to be done later than a week after it was sent


@row(frozen=True, slots=True)
class FileStat:
    """A file's stat, by which unchanged content is recognised without reading: bytes, nanoseconds, inode number.

    A text has its length in bytes and zeros. An object has 63 bits of its ETag (`core.objects.mark_of`) for an inode number and
    no time; where the store gives no ETag, the time of its last change, in whole seconds, or 63 bits of its content."""

    size: int
    mtime_ns: int = 0
    inode: int = 0


@row(frozen=True, slots=True)
class FlowFacts:
    """One flow as journaled. Times are wall-clock seconds since 1970, so that they outlive a process.

    `generation` counts the creates that were ever announced. `settle_deadline`: from then on an unknown create that no list
    shows is sent again; an unknown start that no state shows never is: the flow is given up. `start_after` holds a start back
    until an answered, unseen upload can no longer arrive. `stat_digest` sums up the sources' file stats, as of the start;
    `content` is always empty, and stays because the sums of old rows cover it. `external`: it came as `flow_id` and is never
    deleted by us.
    `problem` is the last one, as JSON text for `status`.
    """

    name: str
    state: FlowState = FlowState.PLANNED
    flow_id: str | None = None
    generation: int = 0
    external: bool = False
    spec_digest: bytes = b""
    stat_digest: bytes = b""
    content: bytes = b""
    settle_deadline: float | None = None
    start_after: float | None = None
    inputs: int = 0
    size_bytes: int = 0
    started_at: float | None = None
    problem: str | None = None

    @property
    def is_started(self) -> bool:
        """It is paid for."""
        return self.state is FlowState.STARTED

    @property
    def is_starting(self) -> bool:
        """A start of it is announced, and what came of that is not known."""
        return self.state is FlowState.STARTING

    @property
    def maybe_paid(self) -> bool:
        return self.state in (FlowState.STARTED, FlowState.STARTING)

    def on(self, event: FlowEvent, **changes: object) -> FlowFacts:
        """The row after the event. Raises IllegalTransition."""
        return replace(self, state=flow_next(self.state, event), **changes)  # type: ignore[arg-type]  # named fields


@row(frozen=True, slots=True)
class InputFacts:
    """One input as journaled. `sha256` is None while it is not known what was sent (a stream that was cut).

    `settle_deadline`: from then on an unknown upload that no list shows makes its flow be given up; `answered` tells that the
    service had answered it.
    `resent`: an earlier request for it, into the same flow, was answered and not seen; it may yet be done.
    """

    key: bytes
    state: InputState = InputState.PENDING
    sha256: bytes | None = None
    spec_digest: bytes = b""
    stat: FileStat = FileStat(0)
    tagged: bool = True
    settle_deadline: float | None = None
    answered: bool = False
    resent: bool = False

    @property
    def may_be_there(self) -> bool:
        """Whether it is, or may be, on the service. (In SQL: `count_inputs`.)"""
        return self.resent or self.state not in (InputState.PENDING, InputState.REFUSED)

    def on(self, event: InputEvent, **changes: object) -> InputFacts:
        """The row after the event. Raises IllegalTransition."""
        state = input_next(self.state, event)
        if not changes:  # as `replace` does, at a third of its cost
            return InputFacts(self.key, state, self.sha256, self.spec_digest, self.stat, self.tagged,
                              self.settle_deadline, self.answered, self.resent)
        return replace(self, state=state, **changes)  # type: ignore[arg-type]  # named fields


class Remote(Enum):
    """What has become of a flow on the service after its end."""

    KEPT = "kept"
    DELETING = "deleting"  # announced: from now on a 404 means that it is done
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class EndFacts:
    """How a flow on the service ended; of one that has not, what the service has last shown of it. `listed`: all of its
    outputs have rows, and each row its place; it is not asked for them again.

    `state` is the service's word for it, lower case; `reason` what it says on why, "" where nothing. `missing`: how many of
    its inputs have no output, for a completed flow; `accepted`: that this was said to be right. `progress` is 0 to 1, as of
    `seen_at` (wall-clock seconds; None: not known). `folder`: where its outputs were last collected to, "" where nowhere."""

    flow_id: str
    flow: str
    state: str
    listed: bool = False
    remote: Remote = Remote.KEPT
    missing: int = 0
    accepted: bool = False
    reason: str = ""
    progress: float = 0.0
    seen_at: float | None = None
    folder: str = ""


@dataclass(frozen=True, slots=True)
class AttemptFacts:
    """A flow that was started, and has been paid for again since: what it was on the service. `generation` 0 and no time:
    it is known by its end only."""

    flow: str
    flow_id: str
    generation: int = 0
    started_at: float | None = None


class OutputState(Enum):
    LISTED = "listed"  # the service has it
    COLLECTED = "collected"  # checked and, unless the process died just then, renamed to its path
    REFUSED = "refused"  # the service says that it is in error


@row(frozen=True, slots=True)
class OutputFacts:
    """One output as journaled. `key` is its input's, by the tag (None: it has none); `source` the input's label (""
    where it is not known). `place` is its path without the ending, "" while it has none; `path` is relative to the
    folder that it was collected into; `stat` the file's stat when it was verified."""

    flow_id: str
    asset_id: str
    key: bytes | None = None
    state: OutputState = OutputState.LISTED
    source: str = ""
    place: str = ""
    path: str = ""
    sha256: bytes | None = None
    stat: FileStat = FileStat(0)


class CollectedView(Protocol):
    """What a journal knows of results: enough to tell them from sources."""

    def collected(self) -> Iterator[FileStat]:
        """The file stats of the files that were collected, in the order of their inode numbers."""

    def end(self, flow_id: str) -> EndFacts | None: ...
    def name_of(self, flow_id: str) -> str | None: ...


@row(frozen=True, slots=True)
class PutFlow:
    """The flow's row is now this."""

    facts: FlowFacts


@row(frozen=True, slots=True)
class PutInput:
    """The row of an input of the flow with this name is now this."""

    flow: str
    facts: InputFacts


@dataclass(frozen=True, slots=True)
class ForgetInputs:
    """All rows of inputs of the flow are gone: it is built anew."""

    flow: str


@dataclass(frozen=True, slots=True)
class AddOrphan:
    """A flow on the service that is to be deleted; `flow` is the name it had."""

    flow_id: str
    flow: str


@dataclass(frozen=True, slots=True)
class ReleaseFlow:
    """A flow that was given by this id, and that inputs were sent into, is no longer ours to fill: they may yet arrive."""

    flow_id: str


@dataclass(frozen=True, slots=True)
class ClearOrphan:
    """It is gone from the service."""

    flow_id: str


@dataclass(frozen=True, slots=True)
class Watch:
    """Until then each run looks for twins: a create was lost, and may have been done, or may be done late."""

    until: float


@dataclass(frozen=True, slots=True)
class UnknownFlowsChecked:
    """The service has been asked for flows of this batch that the journal does not know; all were taken over."""


@dataclass(frozen=True, slots=True)
class PutTimes:
    """When the flow with this name passed its stations in this run; joined to what an earlier run had put."""

    flow: str
    times: FlowTimes


@dataclass(frozen=True, slots=True)
class PutRun:
    """The run that began then (wall-clock seconds) has come to this so far. The last `RUNS_KEPT` runs are kept, and of
    those that sent nothing only the last: a night with nothing to do pushes no measurement out."""

    began: float
    requests: int
    document: Mapping[str, JSON]


RUNS_KEPT: Final = 20


@dataclass(frozen=True, slots=True)
class PutEnd:
    """The row of the end of a flow is now this."""

    facts: EndFacts


@dataclass(frozen=True, slots=True)
class PutAttempt:
    """The flow is paid for again; this is what it was before."""

    facts: AttemptFacts


@row(frozen=True, slots=True)
class SeeOutput:
    """The service lists this output. Its row is made; one that is there, and not collected, takes the state only."""

    facts: OutputFacts


@dataclass(frozen=True, slots=True)
class PutOutput:
    """The row of this output is now this."""

    facts: OutputFacts


Record: TypeAlias = (
    PutFlow | PutInput | ForgetInputs | AddOrphan | ReleaseFlow | ClearOrphan | Watch | UnknownFlowsChecked | PutTimes | PutRun
    | PutEnd | PutAttempt | SeeOutput | PutOutput
)
