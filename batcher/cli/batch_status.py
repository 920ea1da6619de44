"""What one look at a journal comes to: counts of all flows, the lines that are worth listing, sums, how the last run went.

In: a journal that is only looked at. Out: `BatchStatus`. Called by `status`; its sums also by `report`. However many flows
there are, no more lines are held than are listed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ..core.collecting import Step, step
from ..core.facts import FlowFacts, OutputState
from ..core.lifecycle import FlowState
from ..core.model import JSON, NOTES, Manifest, Problem
from ..core.report import EndCounts, OutputCounts, Report
from ..journal.ports import JournalView
from .flow_status import FlowStatus, StatusLine, lines, problem_of

if TYPE_CHECKING:
    from ..pipeline.refresh import Refreshed

FRESH_S: Final = 75.0  # a run that has not ended notes its measurements twice a minute; an older note is a dead run's
FIRST: Final = 1000  # lines that are kept in any case, for the document
OF_STATUS: Final = 50  # that are kept of each status beyond them
FOLDERS: Final = 1000  # of outputs that are told apart

Runs = Sequence["tuple[float, Mapping[str, JSON]]"]  # when each began (wall-clock seconds), and its document
ProblemsByFlow = dict[str, "list[tuple[Problem, bool]]"]  # by flow: a problem, and whether outputs were collected then


def alive(began: float, document: Mapping[str, JSON], now: float, held: bool | None) -> bool:
    """Whether the run that this was noted of is under way, as far as a journal shows it; `now` is wall-clock seconds, `held`
    whether a process holds the journal (None: unknown)."""
    fresh = now - began - float(str(document["elapsed_s"])) < FRESH_S
    return document["exit_code"] is None and held is not False and fresh


def telling(runs: Runs) -> list[Mapping[str, JSON]]:
    """The documents that say what is wrong now: the last one's, and where that is a collect's, the last run's before it."""
    last = [document for _, document in runs[:1]]
    if last and last[0].get("command") == "collect":
        last += [document for _, document in runs[1:] if document.get("command") != "collect"][:1]
    return last


def told(runs: Runs) -> tuple[ProblemsByFlow, list[Problem]]:
    """The problems that stand in them: by flow, and those of no flow."""
    of_flow: ProblemsByFlow = {}
    free: list[Problem] = []
    for document in telling(runs):
        kept = document["problems"]
        assert isinstance(kept, list)
        for item in kept:
            assert isinstance(item, dict)
            problem = problem_of(item)
            if problem.flow is None:
                free.append(problem)
            else:
                of_flow.setdefault(problem.flow, []).append((problem, "ends" in document))
    return of_flow, free


def attach(line: StatusLine, of_flow: ProblemsByFlow) -> list[Problem]:
    """Give the line what was said of its flow; what is only worth a word, or was said before its start, is returned."""
    left: list[Problem] = []
    for problem, collecting in of_flow.pop(line.facts.name, ()):
        if problem.kind in NOTES or (line.started and not collecting):
            left.append(problem)
        elif line.problem is None:
            line.problem = problem
    return left


@dataclass(slots=True)
class BatchSums:
    """Of all flows, whether they are listed or not. `unknown`: uploads without an outcome, `unsettled`: creates and starts
    without one. `folders`: how many outputs were collected to each."""

    report: Report
    counts: Counter[FlowStatus] = field(default_factory=Counter)
    unknown: int = 0
    unsettled: int = 0
    folders: Counter[str] = field(default_factory=Counter)
    progress: float = 0.0  # of those that run, summed up

    def __post_init__(self) -> None:
        self.report.outputs, self.report.ends = OutputCounts(), EndCounts()

    def add(self, line: StatusLine) -> FlowStatus:
        """Count the flow in; how it stands."""
        report, status = self.report, line.status
        self.counts[status] += 1
        report.flows.total += 1
        report.flows.started += line.started
        report.inputs.total += line.facts.inputs
        report.inputs.uploaded += line.accepted
        report.inputs.bytes += line.accepted_bytes
        report.inputs.failed += line.refused
        if line.problem is not None:
            report.flows.failed += not line.started  # as `run` counts them
            report.add(line.problem)
        self.unknown += line.unknown
        self.unsettled += line.facts.state in (FlowState.CREATING, FlowState.STARTING)
        self._add_outputs(line, status)
        return status

    def _add_outputs(self, line: StatusLine, status: FlowStatus) -> None:
        outputs, ends = self.report.outputs, self.report.ends
        assert outputs is not None
        assert ends is not None
        if line.end is not None:
            outputs.total += line.listed
            outputs.collected += line.collected
            outputs.bytes += line.collected_bytes
            outputs.failed += line.outputs.get(OutputState.REFUSED, (0, 0))[0]
            outputs.missing += line.end.missing
            if line.folder and (line.folder in self.folders or len(self.folders) < FOLDERS):
                self.folders[line.folder] += line.collected
        match status:
            case FlowStatus.FAILED:
                ends.failed += 1
            case FlowStatus.ABORTED:
                ends.aborted += 1
            case FlowStatus.RUNNING:
                ends.running += 1
                self.progress += line.end.progress if line.end is not None else 0.0
            case FlowStatus.DELETED:
                ends.completed += 1
                ends.deleted += 1
            case FlowStatus.COMPLETED | FlowStatus.COLLECTED:
                ends.completed += 1
            case FlowStatus.PROBLEM if line.end is not None and step(line.end.state) is Step.FETCH:
                ends.completed += 1
            case _ if line.started:
                ends.unknown += 1

    def counted(self) -> Report:
        """The report, once all are counted: what is neither done nor failed is pending."""
        report, ends = self.report, self.report.ends
        report.count_pending()
        if ends is not None:
            done = ends.completed + ends.failed + ends.aborted
            ends.progress = round((done + self.progress) / max(1, report.flows.started), 3)
        return report


@dataclass(slots=True)
class BatchStatus:
    """`lines`: those that are listed, in the journal's order; `counts` are of all. A flow that has no row has a line where the
    last run found something wrong with it. `free`: what that run said of no flow, or of one that is started; `runs`: the
    latest first; `held`: whether a process holds it. `paid`: starts, those of earlier attempts among them. `at_work`: flows
    that runs which share the journal work on, each with the host and process of its run."""

    lines: list[StatusLine]
    sums: BatchSums
    runs: Runs
    free: list[Problem]
    held: bool | None = None
    paid: int = 0
    at_work: Mapping[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> Counter[FlowStatus]:
        return self.sums.counts

    @property
    def report(self) -> Report:
        return self.sums.report

    def under_way(self, now: float) -> bool:
        return bool(self.runs) and alive(*self.runs[0], now, self.held)


def batch_status(
    journal: JournalView, manifest: Manifest, asked: Refreshed | None = None, problems: Sequence[Problem] = (),
    *, most: int | None = OF_STATUS,
) -> BatchStatus:  # fmt: skip
    """Read it all. `asked`: what the service has just shown, with the `problems` of asking it. `most`: lines that are kept of
    each status, beyond the first (None: all)."""
    sums = BatchSums(Report(manifest.name, manifest.endpoint))
    found = BatchStatus([], sums, journal.runs(), [], journal.held, journal.count_starts(), journal.at_work())
    of_flow, found.free = told(found.runs)
    for problem in problems:
        if problem.flow is None:
            found.free.append(problem)
        else:
            of_flow.setdefault(problem.flow, []).insert(0, (problem, True))

    def keep(line: StatusLine) -> None:
        status = sums.add(line)
        if most is None or len(found.lines) < FIRST or sums.counts[status] <= most:
            found.lines.append(line)

    for line in lines(journal, asked.newest) if asked is not None else lines(journal):
        found.free += attach(line, of_flow)
        keep(line)
    for name in list(of_flow):  # nothing of it is on the service, and it has no row
        line = StatusLine(FlowFacts(name))
        found.free += attach(line, of_flow)
        if line.problem is not None:
            keep(line)
    _round_off(found)
    return found


def _round_off(found: BatchStatus) -> None:
    """The last run counted flows that have no row yet, too."""
    report = found.sums.report
    for problem in found.free:
        report.add(problem)
    for document in telling(found.runs):
        for what, counts in (("flows", report.flows), ("inputs", report.inputs)):
            of_run = document[what]
            assert isinstance(of_run, dict)
            counts.total = max(counts.total, int(str(of_run["total"])))
    found.sums.counted()
