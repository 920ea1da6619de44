"""One started flow while it is collected, and what is told of it.

In: its rows, what the service shows. Out: `Watched`, which goes from `started_flows` through `waiting` to `bringing`; counts
and problems, by `CollectReporter`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...core.collecting import End, as_shown, end_of
from ...core.facts import EndFacts, FlowFacts, OutputFacts, Remote
from ...core.model import Flow, Problem, ProblemKind
from ...core.output_check import OUTPUT_TYPES
from ...core.report import EndCounts, OutputCounts
from ...core.retry import Kind, Verdict
from ..reporter import Reporter


@dataclass(slots=True, eq=False)
class Watched:
    """One started flow. `flow` is None where the manifest no longer has it. `waiting` changes what the service shows of it,
    `output_list` changes `part`, and `fetching` with its parts `missing`."""

    facts: FlowFacts
    flow_id: str
    flow: Flow | None
    end: EndFacts | None
    state: str = ""
    progress: float = 0.0
    reason: str = ""
    created: int = 0  # polls in a row that showed it as not started
    part: str = ""  # why the list of its outputs is not whole
    finished: bool = False  # an end time is set
    seen_at: float | None = None  # when (wall-clock seconds) it was last looked at
    since: float = 0.0  # when (steady seconds) it was last seen to change
    template: str = ""  # as the service names it
    missing: set[str] = field(default_factory=set)  # asset ids of outputs that are not on disk

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def listed(self) -> bool:
        """Whether the journal has it as ended, and has all of its outputs."""
        return self.end is not None and self.end.listed

    def as_ended(self) -> EndFacts:
        """Its row: the journal's, unless it is to be listed anew, for it had not ended then, or was completed later."""
        return as_shown(self.end, self.flow_id, self.name, self.state, self.reason, self.progress, self.seen_at)

    @property
    def makes(self) -> str | None:
        """The template, where it is known what that makes."""
        names = (self.flow.template if self.flow is not None else None, self.template)
        return next((name for name in names if name in OUTPUT_TYPES), None)


class CollectReporter:
    """Counts and problems of one collecting, in the report."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.outputs = reporter.report.outputs = OutputCounts()
        self.ends = reporter.report.ends = EndCounts()
        self._started = 0
        self._ended = 0

    # ---- what is wrong

    def problem(self, watched: Watched, kind: ProblemKind, message: str, hint: str, status: int | None = None) -> None:
        place = watched.flow.place if watched.flow is not None else None
        self._reporter.problem(Problem(kind, message, hint, place, watched.name, status=status))

    def problem_from_verdict(self, watched: Watched, verdict: Verdict, what: str) -> None:
        kind, hint = kind_of(verdict)
        self.problem(watched, kind, f"{what}: {verdict.message}", hint, verdict.status)

    def output_failed(
        self, watched: Watched, row: OutputFacts, kind: ProblemKind, message: str, hint: str, status: int | None = None
    ) -> None:
        """It could not be collected."""
        self.outputs.failed += 1
        place = watched.flow.place if watched.flow is not None else None
        message = f"the output {row.asset_id} could not be collected: {message}"
        self._reporter.problem(Problem(kind, message, hint, place, watched.name, row.source or None, status))

    # ---- counts

    def download_again(self) -> None:
        """One came to its end, and is not what it should be."""
        self._reporter.report.requests.retried += 1

    def output_collected(self, watched: Watched, row: OutputFacts, more: int) -> None:
        """By this run. `more`: bytes after a GLB's declared end."""
        counts = self.outputs
        counts.longer += more > 0
        self._reporter.emit("output_collected", watched.name, path=row.path, bytes=row.stat.size, bytes_after_end=more)
        counts.collected += 1
        counts.collected_now += 1
        counts.bytes += row.stat.size
        counts.bytes_now += row.stat.size

    def started(self, count: int) -> None:
        """So many flows are to be collected."""
        self._started = self.ends.running = count

    def end_seen(self) -> None:
        """One more flow is at its end, or past it."""
        self._ended += 1
        self.progress(0.0)

    def progress(self, under_way: float) -> None:
        """The flows that are waited for have come so far, together; each that is done counts 1."""
        self.ends.progress = round(min(1.0, (self._ended + under_way) / max(1, self._started)), 3)

    def ended(self, end: EndFacts) -> None:
        self.ends.running -= 1
        self.ends.completed += end_of(end.state) is End.COMPLETED
        self.ends.failed += end_of(end.state) is End.FAILED
        self.ends.aborted += end_of(end.state) is End.ABORTED
        self.ends.deleted += end.remote is Remote.DELETED

    def no_end(self) -> None:
        """It is waited for no longer, and how it ends is not known."""
        self.ends.running -= 1
        self.ends.unknown += 1


def kind_of(verdict: Verdict) -> tuple[ProblemKind, str]:
    """The kind of problem that a verdict is for a flow that was started, and what to do."""
    match verdict.kind:
        case Kind.REFUSED if verdict.status not in (402, 403):  # those may be given to another key
            return "refused", "the service refuses it; look at the flow there"
        case Kind.THROTTLED | Kind.UNAVAILABLE:
            return "unavailable", "collect again later"
        case _:
            return "unsettled", "look at the flow on the service, then collect again"
