"""How each flow stands, from its plan to its collected outputs, as the journal knows it.

In: a journal that is only looked at, rows that the service has just shown. Out: a `StatusLine` for each flow. Called by
`status`, `report` and `gallery`. Flows are read some hundred at a time, with all that goes with them, so that a million of
them are walked in bounded memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import islice
from typing import Final

from ..core.aborting import Phase, phase
from ..core.collecting import Step, step
from ..core.facts import AttemptFacts, EndFacts, FlowFacts, OutputState, Remote
from ..core.lifecycle import FlowState, InputState
from ..core.model import JSON, Place, Problem
from ..journal.ports import JournalView
from .readable import counted

PAGE: Final = 500  # flows whose rows are asked for at once

InputTally = Mapping[InputState, "tuple[int, int]"]
OutputTally = Mapping[OutputState, "tuple[int, int]"]
Newest = Callable[[str, "EndFacts | None"], "EndFacts | None"]  # of a flow's id and row: what is to be shown
Attempts = Sequence["tuple[AttemptFacts, EndFacts | None]"]  # each with what the service has shown of it last


class FlowStatus(IntEnum):
    """How a flow stands, the most urgent first: what needs a look, then the stations of the way."""

    PROBLEM = 0  # before its start, or with its outputs
    FAILED = 1
    ABORTED = 2
    UPLOADING = 3
    PLANNED = 4
    STARTED = 5  # the service has not been asked since
    RUNNING = 6
    COMPLETED = 7  # not all of its outputs are collected
    COLLECTED = 8
    DELETED = 9  # from the service, once it was collected

    @property
    def word(self) -> str:
        return self.name.lower()

    @property
    def of_many(self) -> str:
        """After a number of flows."""
        return "with a problem" if self is FlowStatus.PROBLEM else self.word

    @property
    def is_bad(self) -> bool:
        """Whether somebody has to look at it."""
        return self <= FlowStatus.ABORTED

    @property
    def is_started(self) -> bool:
        return self >= FlowStatus.STARTED or self in (FlowStatus.FAILED, FlowStatus.ABORTED)


@dataclass(slots=True)
class StatusLine:
    """One flow. `end` is what the service has shown of it, once it was started; its `problem` is then about how it ended, or
    about its outputs. `unknown`: uploads without an outcome. `attempts`: what it was before it was paid for again."""

    facts: FlowFacts
    accepted: int = 0
    accepted_bytes: int = 0
    refused: int = 0
    unknown: int = 0
    problem: Problem | None = None
    end: EndFacts | None = None
    outputs: OutputTally = field(default_factory=dict)
    attempts: Attempts = ()

    @property
    def started(self) -> bool:
        return self.facts.is_started

    @property
    def status(self) -> FlowStatus:
        if not self.started:
            if self.problem is not None:
                return FlowStatus.PROBLEM
            return FlowStatus.PLANNED if self.facts.state is FlowState.PLANNED else FlowStatus.UPLOADING
        if self.end is not None and step(self.end.state) is Step.FETCH_APART:
            return FlowStatus.ABORTED if phase(self.end.state) is Phase.ABORTED else FlowStatus.FAILED
        if self.problem is not None:
            return FlowStatus.PROBLEM
        if self.end is None:
            return FlowStatus.STARTED
        if step(self.end.state) is Step.WAIT:
            return FlowStatus.RUNNING
        if self.end.remote is Remote.DELETED:
            return FlowStatus.DELETED
        return FlowStatus.COLLECTED if self.end.listed and self.collected == self.listed else FlowStatus.COMPLETED

    @property
    def words(self) -> str:
        """Its state as it is shown; of one that runs with the service's own word and its progress."""
        status = self.status
        if status is not FlowStatus.RUNNING or self.end is None:
            return status.word
        progress = f" {self.end.progress:.0%}" if self.end.progress else ""
        return f"{self.end.state}{progress}"

    @property
    def listed(self) -> int:
        """Outputs that the service lists, and those that are missing, unless that was said to be right."""
        missing = self.end.missing if self.end is not None and not self.end.accepted else 0
        return sum(number for number, _ in self.outputs.values()) + missing

    @property
    def collected(self) -> int:
        return self.outputs.get(OutputState.COLLECTED, (0, 0))[0]

    @property
    def collected_bytes(self) -> int:
        return self.outputs.get(OutputState.COLLECTED, (0, 0))[1]

    @property
    def folder(self) -> str:
        """Where its outputs were collected to, "" where nowhere."""
        return self.end.folder if self.end is not None and self.collected else ""


def lines(journal: JournalView, newest: Newest = lambda flow_id, end: end) -> Iterator[StatusLine]:
    """Every flow that the journal knows, in its order. `newest`: see `pipeline.refresh`."""
    rows = journal.flows_and_ends()
    while page := list(islice(rows, PAGE)):
        yield from _of_page(journal, [(facts, newest(facts.flow_id or "", end)) for facts, end in page])


def lines_named(journal: JournalView, names: Iterable[str]) -> Mapping[str, StatusLine]:
    """Those of these flows, some hundred at most, that the journal knows."""
    rows = journal.flows_named(list(names))
    ends = journal.ends([facts.flow_id for facts in rows.values() if facts.flow_id is not None])
    page = [(facts, ends.get(facts.flow_id or "")) for facts in rows.values()]
    return {line.facts.name: line for line in _of_page(journal, page)}


def _of_page(journal: JournalView, page: Sequence[tuple[FlowFacts, EndFacts | None]]) -> Iterator[StatusLine]:
    # All inputs of a started flow are accepted: its row says how many they are.
    tallies = journal.tallies([facts.name for facts, _ in page if not facts.is_started or not facts.inputs])
    ended = [end.flow_id for _, end in page if end is not None and step(end.state) is not Step.WAIT]
    outputs = journal.output_tallies(ended)
    attempts = journal.attempts([facts.name for facts, _ in page])
    ends = journal.ends([one.flow_id for of_flow in attempts.values() for one in of_flow])
    for facts, end in page:
        before = [(one, ends.get(one.flow_id)) for one in attempts.get(facts.name, ())]
        yield _line(facts, end, tallies.get(facts.name), outputs.get(facts.flow_id or "", {}), before)


def _line(
    facts: FlowFacts, end: EndFacts | None, inputs: InputTally | None, outputs: OutputTally, attempts: Attempts
) -> StatusLine:
    if not facts.is_started:
        end, outputs = None, {}
    line = StatusLine(facts, end=end, outputs=outputs, attempts=attempts)
    if inputs is None and facts.is_started:
        line.accepted, line.accepted_bytes = facts.inputs, facts.size_bytes
    elif inputs is not None:
        line.accepted, line.accepted_bytes = inputs.get(InputState.ACCEPTED, (0, 0))
        line.refused = inputs.get(InputState.REFUSED, (0, 0))[0]
        line.unknown = sum(inputs.get(state, (0, 0))[0] for state in (InputState.SENDING, InputState.UNKNOWN))
    line.problem = problem_of(json.loads(facts.problem)) if facts.problem else None
    if end is not None:
        line.problem = _of_end(line, end) or line.problem
    return line


def _of_end(line: StatusLine, end: EndFacts) -> Problem | None:
    """What is wrong with how a flow ended, or with its outputs, as far as the rows tell."""
    if step(end.state) is Step.FETCH_APART:
        what = "it was aborted on the service" if phase(end.state) is Phase.ABORTED else "it failed on the service"
        message = f"{what}: {end.reason}" if end.reason else what
        return Problem("failed", message, "run --redo-failed pays for it again", flow=end.flow)
    if step(end.state) is not Step.FETCH:
        return None
    refused = line.outputs.get(OutputState.REFUSED, (0, 0))[0]
    if refused:
        message = f"it is completed, and the service shows {counted(refused, 'output')} of it in error"
        return Problem("refused", message, "--redo NAME pays for it again", flow=end.flow)
    if end.missing and not end.accepted:
        message = f"it is completed, and {counted(end.missing, 'output')} {'is' if end.missing == 1 else 'are'} missing"
        hint = "collect again later; with --accept-fewer where its template makes fewer outputs than it takes inputs"
        return Problem("unsettled", message, hint, flow=end.flow)
    return None


def became(end: EndFacts) -> str:
    """What has become of a flow, in the service's words."""
    return f"{end.state}: {end.reason}" if end.reason else end.state


def problem_of(kept: Mapping[str, JSON]) -> Problem:
    """A problem as it was kept in a journal; its place as the manifest was then."""
    place = Place(str(kept["place"])) if kept.get("place") else None
    return Problem(
        kept["kind"], str(kept["message"]), str(kept["hint"]), place,  # type: ignore[arg-type]  # as it was written
        kept["flow"], kept["input"], kept["status"],  # type: ignore[arg-type]
    )  # fmt: skip
