"""What remains to be done, decided from what the manifest means and what the journal knows. No I/O.

In: facts of a flow and of its inputs, stats and digests of the sources. Out: a `Change` per input, an `Action` per flow.
Called by the planner, once per input and once per flow, in `plan` and `run` alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from .chosen import Chosen
from .facts import FileStat, FlowFacts, InputFacts
from .lifecycle import FlowState, InputState
from .media import other_spellings
from .model import JSON, Absent, Flow, Input, Problem
from .rows import row
from .tags import spec_digest

CHANGES_KEPT: Final = 1000  # labels per flow; the rest is counted


class Change(Enum):
    """How one meant input stands to what the journal knows of it."""

    NEW = "new"  # nothing of it is on the service: to be sent
    SAME = "same"  # what was sent, or may have been, is what is meant
    DIFFERS = "differs"  # something else was sent under its key
    HASH = "hash"  # unknown without reading the source


def change_of(
    facts: InputFacts | None, spec_digest: bytes, file_stat: FileStat, sha256: bytes | None, *, trust: bool
) -> Change:
    """Compare one input. `sha256` is None before the source has been read; `trust`: an unchanged stat will do."""
    if facts is None or facts.state in (InputState.PENDING, InputState.REFUSED):
        return Change.NEW
    if facts.spec_digest != spec_digest:
        return Change.DIFFERS
    if facts.sha256 is None:  # a stream was cut: what was sent came from a source with this stat, or is not ours to guess
        if facts.stat != file_stat:
            return Change.DIFFERS
        return Change.HASH if sha256 is None else Change.SAME
    if sha256 is None:
        return Change.SAME if trust and facts.stat == file_stat else Change.HASH
    return Change.SAME if facts.sha256 == sha256 else Change.DIFFERS


def digest_sent(facts: InputFacts | None, meant: bytes, plain: str, sent: str, additional: JSON | Absent) -> bytes:
    """The spec digest to be held against the row: `meant`, the plain type's; or the row's own, where it was taken over another
    spelling of that type, as the service wanted it (journals of up to now). `sent`: how it is spelled now."""
    if facts is not None and facts.spec_digest != meant:
        others = (spec_digest(other, additional) for other in (sent, *other_spellings(plain)))
        return facts.spec_digest if facts.spec_digest in others else meant
    return meant


class Action(Enum):
    """What a run does with one flow."""

    NEW = "new"
    RESUME = "resume"
    REBUILD = "rebuild"  # changed before it was started: abandoned, deleted, built anew
    REDO = "redo"  # paid for again, as asked
    DONE = "done"
    CHANGED = "changed"  # changed after it was started: reported
    WAITING = "waiting"  # a source is too young, as `min_age` asks
    BLOCKED = "blocked"  # something must be put right first

    @property
    def works(self) -> bool:
        """Whether a run has something to do for it."""
        return self in (Action.NEW, Action.RESUME, Action.REBUILD, Action.REDO)


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts over the inputs of one flow, filled while they are walked."""

    total: int = 0  # that can be sent
    faulty: int = 0  # something is wrong with the source
    total_bytes: int = 0
    new: int = 0
    new_bytes: int = 0
    same: int = 0
    differs: int = 0
    sent: int = 0  # of the same ones: those that are accepted
    sent_bytes: int = 0
    total_encoded: int = 0  # bytes of the data as they are sent: base64, but for texts
    new_encoded: int = 0
    unknown: int = 0  # of the same ones: those that no reply was seen to
    resent: int = 0  # of the new ones: sent before, answered with an error, and perhaps done all the same
    removed: int = 0  # of those that were sent: no longer in the manifest
    changes: list[tuple[Change, str]] = field(default_factory=list)  # labels of new and differing ones, the first thousand

    def count(self, item: InputPlan) -> None:
        """Add one input that can be sent."""
        size = item.stat.size
        encoded = size if item.mime == "text/plain" else 4 * ((size + 2) // 3)
        self.total += 1
        self.total_bytes += size
        self.total_encoded += encoded
        match item.change:
            case Change.NEW:
                self.new += 1
                self.new_bytes += size
                self.new_encoded += encoded
                self.resent += item.facts is not None and item.facts.resent
            case Change.DIFFERS:
                self.differs += 1
            case _:
                self.same += 1
                state = item.facts.state if item.facts is not None else None
                self.unknown += state in (InputState.SENDING, InputState.UNKNOWN)
                if state is InputState.ACCEPTED:
                    self.sent += 1
                    self.sent_bytes += size

    def take_for_sent(self) -> None:
        """Of a started flow that cannot be compared: all of them were sent, as they are now or otherwise."""
        self.same, self.sent, self.sent_bytes = self.total, self.total, self.total_bytes
        self.new = self.new_bytes = self.new_encoded = self.differs = self.unknown = self.resent = 0
        self.changes.clear()

    @property
    def there(self) -> int:
        """Those that may be on the service."""
        return self.same + self.differs + self.resent


@dataclass(frozen=True, slots=True)
class Options:
    """What the flags ask for: see `batcher run --help`."""

    resubmit_changed: bool = False
    redo: Callable[[str], bool] = lambda name: False
    redo_failed: bool = False
    only: Callable[[str], bool] = lambda name: True
    checksum: bool = False
    keep_going: bool = False
    start: bool = True
    adopt: bool = False

    def redoes(self, facts: FlowFacts) -> bool:
        """Whether --redo asks to pay for this flow again, in the attempt that it has now."""
        attempt = self.redo.attempt(facts.name) if isinstance(self.redo, Chosen) else None
        return self.redo(facts.name) and attempt in (None, facts.flow_id)

    def missed(self) -> list[Problem]:
        """What was chosen by name and is not there; complete once every flow was asked about."""
        return [problem for chosen in (self.only, self.redo) if isinstance(chosen, Chosen) for problem in chosen.missed()]


def elsewhere(facts: FlowFacts | None, given: str | None) -> bool:
    """Whether the manifest names another flow by its `flow_id` than the one that is known, or no longer names one."""
    if facts is None or facts.flow_id is None:
        return False
    return facts.flow_id != given and (facts.external or given is not None)


def is_comparable(facts: FlowFacts) -> bool:
    """Whether it is known what a started flow was started with. It is not where its row has no digest: its start came late,
    after it had been given up, or it was adopted and could not be compared. Such a flow never counts as changed."""
    return facts.spec_digest != b""


def decide(
    facts: FlowFacts | None, spec_digest: bytes, tally: Tally, on_service: int, problems: bool, waiting: bool, options: Options,
    given: str | None = None, *, failed: bool = False,
) -> Action:  # fmt: skip
    """The action for one flow whose inputs have been walked. `failed`: it failed or was aborted on the service.

    `on_service` counts the journal's rows of inputs that may be on the service; where it exceeds the walked ones
    (`Tally.there`), an input was taken out of the manifest. `given` is the `flow_id` that the manifest names.
    """
    state = facts.state if facts is not None else FlowState.PLANNED
    differs = tally.differs > 0 or (facts is not None and facts.spec_digest != spec_digest)
    another = elsewhere(facts, given)
    if facts is not None and state is FlowState.STARTED:
        if options.redoes(facts) or (failed and options.redo_failed):
            return Action.BLOCKED if problems else Action.REDO
        # What has gone since is no change: a started flow needs its sources no longer.
        if another or (is_comparable(facts) and (tally.new or differs)):
            return Action.CHANGED if problems or not options.resubmit_changed else Action.REDO
        return Action.DONE
    if state is FlowState.STARTING:  # whatever has become of its sources: it may be paid for
        return Action.RESUME
    if problems:
        return Action.BLOCKED
    if waiting:
        return Action.WAITING
    if state is FlowState.PLANNED:
        return Action.NEW
    taken_out = on_service > tally.there
    return Action.REBUILD if differs or another or taken_out else Action.RESUME


def of_external(flow: Flow, facts: FlowFacts, action: Action, options: Options, problems: list[Problem]) -> Action:
    """The action for a flow that was given by its id, which is never deleted, and can be started once; what is wrong joins the
    `problems`."""
    hint = "make a new flow on the service and name its id"
    if action is Action.REBUILD:
        message = f"its inputs changed after they were sent, and batcher does not delete the flow {flow.flow_id}"
        problems.append(Problem("unsettled", message, hint, flow.place, flow.name))
        return Action.BLOCKED
    if action is Action.REDO and options.redoes(facts):
        message = f"the flow {flow.flow_id} was started, and can be started once"
        problems.append(Problem("manifest", message, hint, flow.place, flow.name))
        return Action.BLOCKED
    return Action.CHANGED if action is Action.REDO else action


@row(frozen=True, slots=True)
class InputPlan:
    """One input with all that is known before it is read. `mime` is the type as it is sent; the digest is the plain type's."""

    input: Input
    key: bytes
    stat: FileStat
    mime: str
    spec_digest: bytes
    change: Change
    facts: InputFacts | None
    sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class FlowPlan:
    """One flow with what is to be done; `inputs()` walks its inputs, again if need be."""

    flow: Flow
    action: Action
    facts: FlowFacts | None
    spec_digest: bytes
    stat_digest: bytes
    tally: Tally
    problems: tuple[Problem, ...]
    inputs: Callable[[], Iterator[InputPlan | Problem]]

    @property
    def is_starting(self) -> bool:
        """Whether an earlier run has announced its start, and the outcome is not known."""
        return self.facts is not None and self.facts.is_starting

    @property
    def lacks_sources(self) -> bool:
        """Whether nothing but its sources is at fault: another host may have them."""
        return self.action is Action.BLOCKED and all(problem.kind == "source" for problem in self.problems)
