"""What a run comes to: counts, problems, and the exit code that follows from them.

In: what the stages add while they work. Out: `Report`, its JSON document, its exit code (docs/reference.md).
Called by the pipeline (adds), the command line and the Python API (reads).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Final, TypeAlias

from .errors import BatcherError, JournalError, Reason, Stop
from .exit_codes import OF_KIND, OF_REASON, ExitCode, first_of
from .model import JSON, Problem, ProblemKind
from .price import Price

PROBLEMS_KEPT: Final = 1000  # the rest is counted: a report stays small, however much goes wrong


@dataclass(slots=True)
class FlowCounts:
    """Flows of the manifest. `pending`: neither started nor failed yet, those that wait for `min_age` among them.
    `rebuilt`: how often one was given up before its start and built anew in this run, at no cost."""

    total: int = 0
    started: int = 0
    started_now: int = 0
    pending: int = 0
    failed: int = 0
    changed: int = 0
    rebuilt: int = 0


@dataclass(slots=True)
class InputCounts:
    """Inputs of the manifest. `bytes` are those of the sources (not encoded) that are uploaded; `_now`: by this run."""

    total: int = 0
    uploaded: int = 0
    uploaded_now: int = 0
    pending: int = 0
    failed: int = 0
    bytes: int = 0
    bytes_now: int = 0


@dataclass(slots=True)
class OutputCounts:
    """Outputs that the service has listed so far, for `collect`. `collected` are on disk and checked; `_now`: by this
    run. `failed` could not be had. `shared_names`: inputs that a short key tells apart, for they ask for one name.
    `without_source`: outputs whose input is not known; they are named by their ids. `missing`:
    inputs of completed flows that have no output; `longer`: GLBs collected by this run that have bytes after their end."""

    total: int = 0
    collected: int = 0
    collected_now: int = 0
    failed: int = 0
    bytes: int = 0
    bytes_now: int = 0
    shared_names: int = 0
    without_source: int = 0
    missing: int = 0
    longer: int = 0


@dataclass(slots=True)
class EndCounts:
    """Started flows by what the service says of them, for `collect`. `progress` is the mean of all, 0 to 1; `deleted`
    are those that `--delete-remote` removed there, now or earlier; `unknown` those whose state cannot be had."""

    running: int = 0
    completed: int = 0
    failed: int = 0
    aborted: int = 0
    unknown: int = 0
    deleted: int = 0
    progress: float = 0.0


@dataclass(slots=True)
class RequestCounts:
    """Requests of this run: all that left, those of them that were a second or later attempt, and replies that asked
    to slow down."""

    sent: int = 0
    retried: int = 0
    throttled: int = 0


# Flows started, changed, failed; inputs uploaded, bytes of those, inputs failed.
Surveyed: TypeAlias = "tuple[int, int, int, int, int, int]"
NOT_SURVEYED: Final[Surveyed] = (0, 0, 0, 0, 0, 0)


@dataclass(slots=True)
class Report:
    """What a run, or a look at the journal, comes to."""

    manifest: str
    endpoint: str
    flows: FlowCounts = field(default_factory=FlowCounts)
    inputs: InputCounts = field(default_factory=InputCounts)
    requests: RequestCounts = field(default_factory=RequestCounts)
    outputs: OutputCounts | None = None  # with these two: outputs are collected
    ends: EndCounts | None = None
    elapsed_s: float = 0.0
    problems: list[Problem] = field(default_factory=list)
    problems_total: int = 0
    kinds: set[ProblemKind] = field(default_factory=set)
    stop: Stop | None = None
    price: Price | None = None  # of a start, where the manifest says it
    trouble: tuple[float, str] | None = None  # since when (steady seconds) no request was done, and what the first came to
    paid: int = 0  # starts that the journal knows of, earlier runs' and attempts among them

    def add(self, problem: Problem) -> None:
        """Note a problem; beyond the first thousand they are counted."""
        self.problems_total += 1
        self.kinds.add(problem.kind)
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append(problem)

    def end_with(self, error: BatcherError, clean: Callable[[str], str] = str) -> None:
        """Note the error that ended a command. `clean` takes secrets out of its words."""
        message, hint = clean(error.message), clean(error.hint)
        if isinstance(error, Stop):
            self.stop = Stop(error.reason, message, hint, error.status)
        else:
            self.add(Problem("unsettled" if isinstance(error, JournalError) else "manifest", message, hint))

    def surveyed(self) -> Surveyed:
        """What a look at the whole batch has counted so far: for `put_surveyed`."""
        flows, inputs = self.flows, self.inputs
        return flows.started, flows.changed, flows.failed, inputs.uploaded, inputs.bytes, inputs.failed

    def put_surveyed(self, counts: Surveyed = NOT_SURVEYED) -> None:
        """Put these in the place of what a look at the whole batch has counted."""
        flows, inputs = self.flows, self.inputs
        flows.started, flows.changed, flows.failed, inputs.uploaded, inputs.bytes, inputs.failed = counts

    def count_pending(self) -> None:
        """What is neither done nor failed, by the other counts."""
        flows, inputs = self.flows, self.inputs
        flows.pending = max(0, flows.total - flows.started - flows.failed)
        inputs.pending = max(0, inputs.total - inputs.uploaded - inputs.failed)

    @property
    def exit_code(self) -> int:
        """The exit code for this report."""
        codes = {OF_KIND[kind] for kind in self.kinds if kind in OF_KIND}
        if self.stop is not None:
            codes.add(OF_REASON[self.stop.reason])
            if self.stop.reason is Reason.UNAVAILABLE:
                codes.discard(ExitCode.UNSETTLED)  # a service that cannot be reached is 5, even with outcomes still open
        return int(first_of(codes))

    def json(self) -> dict[str, JSON]:
        """The document that `--json` prints."""
        problems: list[JSON] = [problem_json(problem) for problem in self.problems]
        if self.stop is not None:
            problems.append(
                {"flow": None, "input": None, "kind": self.stop.reason.value, "status": self.stop.status,
                 "message": self.stop.message, "hint": self.stop.hint}
            )  # fmt: skip
        collected: dict[str, JSON] = {}
        if self.outputs is not None and self.ends is not None:
            collected = {"outputs": asdict(self.outputs), "ends": asdict(self.ends)}
        return {
            "manifest": self.manifest,
            "endpoint": self.endpoint,
            "exit_code": self.exit_code,
            "flows": asdict(self.flows),
            "inputs": asdict(self.inputs),
            **collected,
            "requests": asdict(self.requests),
            **({} if self.price is None else {"cost": self._cost(self.price)}),
            "elapsed_s": round(self.elapsed_s, 3),
            "problems": problems,
            "problems_total": self.problems_total + (self.stop is not None),
        }

    def _cost(self, price: Price) -> dict[str, JSON]:
        now, paid = self.flows.started_now, self.paid
        return {"price_per_start": str(price), "starts_now": now, "paid_now": price.times(now), "starts": paid,
                "paid": price.times(paid)}  # fmt: skip


def problem_json(problem: Problem) -> dict[str, JSON]:
    """One problem as it stands in the JSON documents and in the journal."""
    document: dict[str, JSON] = {
        "flow": problem.flow,
        "input": problem.input,
        "kind": problem.kind,
        "status": problem.status,
        "message": problem.message,
        "hint": problem.hint,
    }
    if problem.place is not None:
        document["place"] = str(problem.place)
    return document
