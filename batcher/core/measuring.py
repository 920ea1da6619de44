"""What a run measures of itself, in a fixed amount of memory: throughput and requests in flight over time, latencies.

In: each request as it leaves and ends, each input as it is accepted; times in seconds of a clock that never jumps. Out: a
JSON document of at most some 20 kB, however long the run was. Called by the pipeline for every request, so it costs about a
microsecond each; what is kept of it is written by `run`, rarely. A series has at most `BUCKETS` buckets: when they are full,
neighbours are put together and the width doubles, so that a run of a minute shows tenths of a second, one of a day minutes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, TypeVar

from .model import JSON
from .report import Report
from .retry import Call, Kind

BUCKETS: Final = 600
WIDTH_S: Final = 0.1  # of a bucket at first: 0.1, 0.2, 0.4 …
LATENCY_BASE_S: Final = 0.001  # the first bucket ends there
LATENCY_STEPS: Final = 4  # buckets for each doubling: a percentile is right within a fifth
LATENCY_BUCKETS: Final = 80  # the last begins at 2^19.75 ms, a quarter of an hour
PROBLEMS_KEPT: Final = 50  # in a run's document; those of its flows stand in their rows, too

N = TypeVar("N", int, float)


@dataclass(slots=True)
class FlowTimes:
    """When one flow passed its stations, in wall-clock seconds since 1970; None: not yet, or not in a run that measured.

    `begun`: a run took it up; `opened`: it has an id; the first and the last upload that was accepted; `verified`: the
    service's list was right; `started`.
    """

    begun: float | None = None
    opened: float | None = None
    first_upload: float | None = None
    last_upload: float | None = None
    verified: float | None = None
    started: float | None = None

    def uploaded(self, now: float) -> None:
        """One more input was accepted."""
        if self.first_upload is None:
            self.first_upload = now
        self.last_upload = now

    def after(self, earlier: FlowTimes | None) -> FlowTimes:
        """These joined to those of an earlier run. A flow that was opened in this one began anew."""
        if earlier is None or self.opened is not None:
            return self
        first = earlier.first_upload if earlier.first_upload is not None else self.first_upload
        return FlowTimes(
            earlier.begun if earlier.begun is not None else self.begun,
            earlier.opened,
            first,
            self.last_upload if self.last_upload is not None else earlier.last_upload,
            self.verified if self.verified is not None else earlier.verified,
            self.started if self.started is not None else earlier.started,
        )


@dataclass(slots=True)
class Latency:
    """How long the requests of one kind took, and what came of them."""

    counts: list[int] = field(default_factory=lambda: [0] * LATENCY_BUCKETS)
    sum_s: float = 0.0
    max_s: float = 0.0
    outcomes: dict[str, int] = field(default_factory=dict)


class Measures:
    """One run, measured. `origin` is the clock's reading when it began, in seconds."""

    __slots__ = (
        *("_edge", "_index", "_last", "_origin", "busy_s", "flying", "inputs", "latency", "requests", "sent_bytes"),
        *("slowed", "width_s"),
    )

    def __init__(self, origin: float) -> None:
        self._origin = origin
        self._last = origin  # when something was last booked
        self._index = 0  # of the bucket that it fell into
        self._edge = origin + WIDTH_S  # and where that ends
        self.flying = 0  # requests in flight now
        self.width_s = WIDTH_S
        self.busy_s = [0.0] * BUCKETS  # request-seconds; over the width: requests in flight on average
        self.requests = [0] * BUCKETS  # that ended
        self.slowed = [0] * BUCKETS  # of them: that the service throttled, or was unavailable for
        self.inputs = [0] * BUCKETS  # accepted
        self.sent_bytes = [0] * BUCKETS  # of their sources, not encoded
        self.latency: dict[str, Latency] = {}  # by the call's value

    def elapsed_s(self, now: float) -> float:
        """Since the run began."""
        return now - self._origin

    def leaves(self, now: float) -> None:
        """A request leaves."""
        self._advance(now)
        self.flying += 1

    def ends(self, now: float, call: Call, took_s: float, kind: Kind | None) -> None:
        """It has ended; `kind` is its verdict's (None: it was cut short by ourselves)."""
        index = self._advance(now)
        self.flying -= 1
        if kind is None:
            return
        self.requests[index] += 1
        if kind is Kind.THROTTLED or kind is Kind.UNAVAILABLE:
            self.slowed[index] += 1
        name = call._value_  # an enum's own hash, and its `value`, are functions in Python
        latency = self.latency.get(name)
        if latency is None:
            latency = self.latency[name] = Latency()
        latency.counts[latency_bucket(took_s)] += 1
        latency.sum_s += took_s
        if took_s > latency.max_s:
            latency.max_s = took_s
        outcome = kind._value_
        latency.outcomes[outcome] = latency.outcomes.get(outcome, 0) + 1

    def accepted(self, now: float, size_bytes: int) -> None:
        """An input was accepted."""
        index = self._advance(now)
        self.inputs[index] += 1
        self.sent_bytes[index] += size_bytes

    def _advance(self, now: float) -> int:
        """Book the requests in flight since the last call; the bucket that `now` falls into."""
        if now < self._edge:  # nearly always
            index = self._index
            self.busy_s[index] += self.flying * (now - self._last)
            self._last = now
            return index
        index = int((now - self._origin) / self.width_s)
        while index >= BUCKETS:
            self._fold()
            index >>= 1
        if self.flying:  # it reaches back into other buckets; all in all once for each bucket
            self._spread(self._last - self._origin, now - self._origin, self.width_s)
        self._last = now
        self._index = index
        self._edge = self._origin + (index + 1) * self.width_s
        return index

    def _spread(self, last: float, now: float, width: float) -> None:
        first, end = int(last / width), min(int(now / width), BUCKETS - 1)
        for index in range(first, end + 1):
            share = min(now, (index + 1) * width) - max(last, index * width)
            self.busy_s[index] += self.flying * max(0.0, share)

    def _fold(self) -> None:
        self.busy_s = _halved(self.busy_s)
        self.requests, self.slowed = _halved(self.requests), _halved(self.slowed)
        self.inputs, self.sent_bytes = _halved(self.inputs), _halved(self.sent_bytes)
        self.width_s *= 2

    def json(self, now: float) -> dict[str, JSON]:
        """The document: series up to `now`, latencies by call."""
        end = self._advance(now) + 1
        return {
            "width_s": self.width_s,
            "busy_s": [round(value, 4) for value in self.busy_s[:end]],
            "requests": list(self.requests[:end]),
            "slowed": list(self.slowed[:end]),
            "inputs": list(self.inputs[:end]),
            "sent_bytes": list(self.sent_bytes[:end]),
            "latency": {
                call: {"counts": list(of.counts), "sum_s": round(of.sum_s, 4), "max_s": round(of.max_s, 4),
                             "outcomes": dict(of.outcomes)}
                for call, of in self.latency.items()
            },
        }  # fmt: skip


def _halved(series: list[N]) -> list[N]:
    """Neighbours put together; the second half is free again."""
    pairs = zip(series[::2], series[1::2], strict=True)
    return [a + b for a, b in pairs] + [type(series[0])(0)] * (BUCKETS // 2)


def latency_bucket(took_s: float) -> int:
    """Which bucket a latency falls into."""
    if took_s < LATENCY_BASE_S:
        return 0
    return min(LATENCY_BUCKETS - 1, 1 + int(math.log2(took_s / LATENCY_BASE_S) * LATENCY_STEPS))


def latency_end_s(bucket: int) -> float:
    """The latency, in seconds, at which the bucket ends."""
    return float(LATENCY_BASE_S * 2.0 ** (bucket / LATENCY_STEPS))


def run_document(report: Report, measures: Measures, now: float, ended: bool) -> dict[str, JSON]:
    """What the journal keeps of a run; `exit_code` is null until it has ended. `now`: of the clock that never jumps."""
    document = report.json()
    problems = document.pop("problems")
    assert isinstance(problems, list)
    del document["manifest"], document["endpoint"]
    # The reason of a stop comes last in the report's list, and is never cut off.
    kept = problems if len(problems) <= PROBLEMS_KEPT else [*problems[: PROBLEMS_KEPT - 1], problems[-1]]
    document["problems"] = kept
    document["exit_code"] = report.exit_code if ended else None
    document["elapsed_s"] = round(measures.elapsed_s(now), 3)
    document["measures"] = measures.json(now)
    return document
