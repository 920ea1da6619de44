"""What the journal knows of each flow, in the order in which people want to read it.

In: a journal that is only looked at. Out: `Line`s and `Sums`. Called by `status` and `report`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ..core.aborting import Phase, phase
from ..core.facts import EndFacts, FlowFacts
from ..core.lifecycle import FlowState, InputState
from ..core.model import JSON, Place, Problem
from ..core.report import Report
from ..journal.ports import JournalView

FRESH_S: Final = 75.0  # a run that has not ended notes its measurements twice a minute; an older note is a dead run's


class FlowStatus(IntEnum):
    """How a flow stands, the most urgent first."""

    PROBLEM = 0
    UNDER_WAY = 1
    PENDING = 2
    STARTED = 3

    @property
    def word(self) -> str:
        return ("problem", "under way", "pending", "started")[self]

    @property
    def of_many(self) -> str:
        """After a number of flows."""
        return "with a problem" if self is FlowStatus.PROBLEM else self.word


@dataclass(slots=True)
class Line:
    """One flow. Once it has been started it has a `problem` only where it failed or was aborted on the service: `end`."""

    facts: FlowFacts
    accepted: int
    accepted_bytes: int
    refused: int
    problem: Problem | None
    end: EndFacts | None = None

    @property
    def started(self) -> bool:
        return self.facts.state is FlowState.STARTED

    @property
    def status(self) -> FlowStatus:
        if self.started:
            return FlowStatus.STARTED if self.end is None else FlowStatus.PROBLEM
        if self.problem is not None:
            return FlowStatus.PROBLEM
        return FlowStatus.PENDING if self.facts.state is FlowState.PLANNED else FlowStatus.UNDER_WAY


def lines(journal: JournalView) -> Iterator[Line]:
    """Every flow that the journal knows, in its order."""
    tallies, ends = journal.tallies(), journal.bad_ends()
    for facts in journal.flows():
        tally = tallies.get(facts.name, {})
        accepted = tally.get(InputState.ACCEPTED, (0, 0))
        refused = tally.get(InputState.REFUSED, (0, 0))
        problem = problem_of(json.loads(facts.problem)) if facts.problem else None
        end = ends.get(facts.flow_id or "") if facts.state is FlowState.STARTED else None
        yield Line(facts, *accepted, refused[0], problem if end is None else _ended(end), end)


def _ended(end: EndFacts) -> Problem:
    """What `collect` has found of a flow that failed or was aborted."""
    what = "it was aborted on the service" if phase(end.state) is Phase.ABORTED else "it failed on the service"
    message = f"{what}: {end.reason}" if end.reason else what
    return Problem("failed", message, "--redo NAME pays for it again", flow=end.flow)


def alive(began: float, document: Mapping[str, JSON], now: float, held: bool | None) -> bool:
    """Whether the run that this was noted of is under way, as far as a journal shows it; `now` is wall-clock seconds, `held`
    whether a process holds the journal (None: unknown)."""
    fresh = now - began - float(str(document["elapsed_s"])) < FRESH_S
    return document["exit_code"] is None and held is not False and fresh


@dataclass(slots=True)
class BatchStatus:
    """What one look at a journal shows. A flow that has no row has a line where the last run found something wrong with it.
    `free`: what that run said of no flow, or of one that is started; `runs`: the latest first; `held`: whether a process
    holds it."""

    lines: list[Line]
    runs: Sequence[tuple[float, Mapping[str, JSON]]]
    free: list[Problem]
    held: bool | None = None

    @property
    def counts(self) -> dict[FlowStatus, int]:
        found = dict.fromkeys(FlowStatus, 0)
        for line in self.lines:
            found[line.status] += 1
        return found

    def under_way(self, now: float) -> bool:
        return bool(self.runs) and alive(*self.runs[0], now, self.held)

    def report(self, manifest: str, endpoint: str) -> Report:
        """Its sums and problems. The last run counted flows that have no row yet, too."""
        report = Report(manifest, endpoint)
        for line in self.lines:
            add(report, line)
        for problem in self.free:
            report.add(problem)
        if self.runs:
            report.flows.total = max(report.flows.total, _total(self.runs[0][1], "flows"))
            report.inputs.total = max(report.inputs.total, _total(self.runs[0][1], "inputs"))
        return settle(report)


def batch_status(journal: JournalView) -> BatchStatus:
    """Read it all."""
    held = journal.held
    found = BatchStatus(list(lines(journal)), journal.runs(), [], held)
    kept = found.runs[0][1]["problems"] if found.runs else []
    assert isinstance(kept, list)
    known = {line.facts.name: line for line in found.lines}
    for item in kept:
        assert isinstance(item, dict)
        problem = problem_of(item)
        line = known.get(problem.flow or "")
        if line is None and problem.flow is not None:  # nothing of it is on the service, and it has no row
            known[problem.flow] = line = Line(FlowFacts(problem.flow), 0, 0, 0, problem)
            found.lines.append(line)
        elif line is None or line.started:
            found.free.append(problem)
        elif line.problem is None:
            line.problem = problem
    return found


def problem_of(kept: Mapping[str, JSON]) -> Problem:
    """A problem as it was kept in a journal; its place as the manifest was then."""
    place = Place(str(kept["place"])) if kept.get("place") else None
    return Problem(
        kept["kind"], str(kept["message"]), str(kept["hint"]), place,  # type: ignore[arg-type]  # as it was written
        kept["flow"], kept["input"], kept["status"],  # type: ignore[arg-type]
    )  # fmt: skip


def add(report: Report, line: Line) -> None:
    """Count the flow in."""
    report.flows.total += 1
    report.flows.started += line.started
    report.inputs.total += line.facts.inputs
    report.inputs.uploaded += line.accepted
    report.inputs.bytes += line.accepted_bytes
    report.inputs.failed += line.refused
    if line.problem is not None:
        report.flows.failed += not line.started  # as `run` counts them
        report.add(line.problem)


def settle(report: Report) -> Report:
    """What is neither done nor failed is pending."""
    report.flows.pending = report.flows.total - report.flows.started - report.flows.failed
    report.inputs.pending = max(0, report.inputs.total - report.inputs.uploaded - report.inputs.failed)
    return report


def _total(document: Mapping[str, JSON], what: str) -> int:
    counts = document[what]
    assert isinstance(counts, dict)
    return int(str(counts["total"]))
