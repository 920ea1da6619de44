"""What the page tells: the journal, held beside the manifest.

In: a manifest and a journal that is only looked at. Out: `PageData`, with every name made harmless. No network, no lock;
sources are looked at for their pictures only. Called by `batcher report`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final

from ...core.errors import BatcherError
from ...core.facts import FlowFacts
from ...core.measuring import FlowTimes
from ...core.model import NOTES, FileSource, Flow, Input, Manifest, Place, Problem
from ...core.report import Report
from ...journal.ports import JournalView
from ..flow_status import FlowStatus, Line, add, alive, lines, problem_of, settle
from ..readable import shown

FLOWS_SHOWN: Final = 50_000  # 8 MB of page; a browser is ready within a second
PICTURED: Final = 200  # flows whose inputs are looked at for pictures
PICTURES_OF_FLOW: Final = 12


@dataclass(frozen=True, slots=True)
class Picture:
    """A file among a flow's inputs that may be a picture."""

    label: str
    path: str


@dataclass(slots=True)
class FlowLine:
    """A flow on the page. `gone`: it is no longer in the manifest. `inputs` is -1 where nobody has counted them."""

    name: str
    status: FlowStatus
    state: str
    accepted: int
    inputs: int
    size_bytes: int
    flow_id: str
    times: FlowTimes
    problem: Problem | None
    gone: bool = False
    pictures: list[Picture] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Run:
    """One run, as it was measured. `exit_code` is None while it is under way, or where it was killed."""

    began: float
    document: Mapping[str, Any]

    @property
    def exit_code(self) -> int | None:
        code = self.document["exit_code"]
        return None if code is None else int(code)

    @property
    def elapsed_s(self) -> float:
        return float(self.document["elapsed_s"])

    @property
    def sent(self) -> int:
        return int(self.document["requests"]["sent"])

    @property
    def bytes_per_s(self) -> float:
        """Of the sources that were accepted, on average."""
        return float(sum(self.document["measures"]["sent_bytes"])) / max(self.elapsed_s, 0.001)


@dataclass(slots=True)
class PageData:
    """All that the page tells. `runs`: the latest first; `measured`: the latest of them that sent something. `flows` are at
    most `FLOWS_SHOWN`, the most urgent ones; `counts` is of all."""

    manifest: str
    batch: str
    endpoint: str
    now: float
    report: Report
    flows: list[FlowLine]
    problems: list[Problem]  # one for each flow that has one, and those of no flow
    notes: list[Problem]
    runs: list[Run]
    measured: Run | None
    under_way: bool
    counts: dict[FlowStatus, int]


def gather(manifest: Manifest, journal: JournalView, now: float) -> PageData:
    """Read it all. Raises JournalError."""
    held = journal.held
    manifest = manifest.knowing(journal)
    report = Report(manifest.name, manifest.endpoint)
    known = {line.facts.name: line for line in lines(journal)}
    times = journal.flow_times()
    runs = [Run(began, document) for began, document in journal.runs()]
    of_flow, free, notes = _said(runs[0] if runs else None)
    flows: list[FlowLine] = []
    for flow in _of_manifest(manifest):
        line = known.pop(flow.name, None) or Line(FlowFacts(flow.name), 0, 0, 0, None)
        if line.problem is None and not line.started:
            line.problem = of_flow.get(flow.name)
        if line.facts.inputs == 0:
            line.facts = replace(line.facts, inputs=_count(flow))
        flows.append(_flow_line(line, times))
        add(report, line)
    for line in known.values():
        flows.append(replace(_flow_line(line, times), gone=True))
        add(report, line)
    settle(report)
    listed = [flow.problem for flow in flows if flow.problem is not None]
    last = runs[0] if runs else None
    fresh = last is not None and alive(last.began, last.document, now, held)
    counts = dict.fromkeys(FlowStatus, 0)
    for each in flows:
        counts[each.status] += 1
    if len(flows) > FLOWS_SHOWN:
        flows = sorted(flows, key=lambda flow: flow.status)[:FLOWS_SHOWN]
    facts = PageData(
        shown(manifest.name), shown(manifest.batch), shown(manifest.endpoint), now, report, flows,
        [*free, *listed], notes, runs, next((run for run in runs if run.sent), None), fresh, counts,
    )  # fmt: skip
    _choose_pictures(manifest, facts)
    return facts


def _said(run: Run | None) -> tuple[dict[str, Problem], list[Problem], list[Problem]]:
    """What the last run said, of flows that the journal may not know yet, of no flow, and what is worth a note only."""
    of_flow: dict[str, Problem] = {}
    free: list[Problem] = []
    notes: list[Problem] = []
    for kept in run.document["problems"] if run is not None else ():
        problem = harmless(problem_of(kept))
        if problem.kind in NOTES:
            notes.append(problem)
        elif problem.flow is None:
            free.append(problem)
        else:
            of_flow[str(kept["flow"])] = problem
    return of_flow, free, notes


def harmless(problem: Problem) -> Problem:
    """The problem with all of its words fit to be shown."""
    return replace(
        problem,
        message=shown(problem.message),
        hint=shown(problem.hint),
        place=None if problem.place is None else Place(shown(str(problem.place))),
        flow=None if problem.flow is None else shown(problem.flow),
        input=None if problem.input is None else shown(problem.input),
    )


def _of_manifest(manifest: Manifest) -> Iterator[Flow]:
    with suppress(BatcherError, OSError):  # a pattern that cannot be expanded today: what the journal knows remains
        for item in manifest.flows():
            if isinstance(item, Flow):
                yield item


def _inputs(flow: Flow) -> Iterator[Input]:
    with suppress(BatcherError, OSError):
        for item in flow.inputs():
            if isinstance(item, Input):
                yield item


def _count(flow: Flow) -> int:
    return sum(1 for _ in _inputs(flow))


def _flow_line(line: Line, times: Mapping[str, FlowTimes]) -> FlowLine:
    facts = line.facts
    passed = times.get(facts.name) or FlowTimes()
    if passed.started is None and facts.started_at is not None:
        passed.started = facts.started_at  # adopted, or by a batcher that measured nothing
    return FlowLine(
        shown(facts.name), line.status, facts.state.value, line.accepted, facts.inputs,
        facts.size_bytes or line.accepted_bytes, shown(facts.flow_id or ""), passed,
        None if line.problem is None else harmless(line.problem),
    )  # fmt: skip


def _choose_pictures(manifest: Manifest, facts: PageData) -> None:
    """The inputs of the first flows, in the order in which they are listed, problems first."""
    first = sorted(range(len(facts.flows)), key=lambda n: (facts.flows[n].status, n))[:PICTURED]
    wanted = {facts.flows[n].name: facts.flows[n] for n in first if not facts.flows[n].gone}
    for flow in _of_manifest(manifest):
        if not wanted:
            return
        line = wanted.pop(shown(flow.name), None)
        if line is not None:
            inputs = [(item.label, item.source) for item in islice(_inputs(flow), PICTURES_OF_FLOW)]
            line.pictures = [Picture(label, source.path) for label, source in inputs if isinstance(source, FileSource)]
            if line.problem is not None:  # what it is about comes first
                line.pictures.sort(key=lambda item: shown(item.label) != line.problem.input)  # type: ignore[union-attr]


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key by which chair-2 comes before chair-10."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [(0, len(part.lstrip("0")), part.lstrip("0")) if n % 2 else (1, 0, part) for n, part in enumerate(parts)]
