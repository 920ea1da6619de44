"""What the page tells: the journal, held beside the manifest.

In: a manifest and a journal that is only looked at. Out: `PageData`, with every name made harmless. No network, no lock;
sources are looked at for their pictures only. Called by `batcher report`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final

from ...core.errors import BatcherError
from ...core.facts import FlowFacts
from ...core.measuring import FlowTimes
from ...core.model import NOTES, FileSource, Flow, Input, Limits, Manifest, Place, Problem
from ...core.report import Report
from ...journal.ports import JournalView
from ..batch_status import BatchSums, alive, attach, told
from ..flow_status import PAGE, FlowStatus, StatusLine, became, lines, lines_named
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
    """A flow on the page. `state`: its status as it is shown, with the service's progress. `gone`: it is no longer in the
    manifest. `inputs` is -1 where nobody has counted them. `folder`: where its outputs are."""

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
    collected: int = 0
    listed: int = 0
    folder: str = ""
    seen_at: float | None = None
    attempts: list[tuple[str, float | None, str]] = field(default_factory=list)  # id, when it was started, what became of it


@dataclass(frozen=True, slots=True)
class Run:
    """One run, as it was measured. `exit_code` is None while it is under way, or where it was killed."""

    began: float
    document: Mapping[str, Any]

    @property
    def command(self) -> str:
        return str(self.document.get("command", "run"))

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
    """All that the page tells. `runs`: the latest first, a collect among them; `measured`: the latest that uploaded. `flows`
    are at most `FLOWS_SHOWN`, the most urgent ones; `sums` are of all. `paid`: starts, earlier attempts among them."""

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
    sums: BatchSums
    paid: int
    limits: Limits

    @property
    def counts(self) -> Counter[FlowStatus]:
        return self.sums.counts

    @property
    def bad(self) -> int:
        """Flows that somebody has to look at."""
        return sum(self.counts[status] for status in FlowStatus if status.is_bad)


def gather(manifest: Manifest, journal: JournalView, now: float) -> PageData:
    """Read it all. Raises JournalError."""
    manifest = manifest.knowing(journal)
    sums = BatchSums(Report(manifest.name, manifest.endpoint))
    runs = [Run(began, document) for began, document in journal.runs()]
    of_flow, said = told(journal.runs())
    flows: list[FlowLine] = []
    for line, times, gone in _lines(manifest, journal):
        said += [problem for problem in attach(line, of_flow) if problem.kind in NOTES]
        sums.add(line)
        flows.append(_flow_line(line, times, gone))
        if len(flows) >= 2 * FLOWS_SHOWN:
            flows = _most_urgent(flows)
    report = sums.counted()
    last = runs[0] if runs else None
    under_way = last is not None and alive(last.began, last.document, now, journal.held)
    measured = next((run for run in runs if run.sent and run.command == "run"), None)
    facts = PageData(
        shown(manifest.name), shown(manifest.batch), shown(manifest.endpoint), now, report, _most_urgent(flows),
        [harmless(problem) for problem in said if problem.kind not in NOTES],
        [harmless(problem) for problem in said if problem.kind in NOTES], runs, measured, under_way, sums,
        journal.count_starts(), manifest.limits,
    )  # fmt: skip
    facts.problems += [flow.problem for flow in facts.flows if flow.problem is not None]
    _choose_pictures(manifest, facts)
    return facts


def _most_urgent(flows: list[FlowLine]) -> list[FlowLine]:
    return flows if len(flows) <= FLOWS_SHOWN else sorted(flows, key=lambda flow: flow.status)[:FLOWS_SHOWN]


def _lines(manifest: Manifest, journal: JournalView) -> Iterator[tuple[StatusLine, FlowTimes | None, bool]]:
    """The manifest's flows in its order, then those that only the journal has; some hundred at a time."""
    names: set[int] = set()  # hashes: of a million flows they take 60 MB
    known = 0
    flows = _of_manifest(manifest)
    while page := list(islice(flows, PAGE)):
        rows = lines_named(journal, [flow.name for flow in page])
        times = journal.flow_times(list(rows))
        known += len(rows)
        for flow in page:
            names.add(hash(flow.name))
            line = rows.get(flow.name) or StatusLine(FlowFacts(flow.name))
            if line.facts.inputs == 0:
                line.facts = replace(line.facts, inputs=_count(flow))
            yield line, times.get(flow.name), False
    if journal.count_flows() > known:
        for line in lines(journal):
            if hash(line.facts.name) not in names:
                yield line, journal.flow_times([line.facts.name]).get(line.facts.name), True


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


def _flow_line(line: StatusLine, times: FlowTimes | None, gone: bool) -> FlowLine:
    facts, end = line.facts, line.end
    passed = times or FlowTimes()
    if passed.started is None and facts.started_at is not None:
        passed.started = facts.started_at  # adopted, or by a batcher that measured nothing
    attempts = [(shown(one.flow_id), one.started_at, shown(became(seen)) if seen else "") for one, seen in line.attempts]
    problem = None if line.problem is None else harmless(line.problem)
    if problem is not None and problem.kind == "failed" and end is not None and end.reason:
        problem = replace(problem, message=shown(end.reason))  # that it failed is said beside it
    return FlowLine(
        shown(facts.name), line.status, shown(line.words), line.accepted, facts.inputs,
        facts.size_bytes or line.accepted_bytes, shown(facts.flow_id or ""), passed,
        problem, gone,
        collected=line.collected, listed=line.listed, folder=shown(line.folder),
        seen_at=end.seen_at if end is not None else None, attempts=attempts,
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
