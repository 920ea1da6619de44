"""What the sandbox saw: counters and a bounded log of requests. They do not outlive the process.

In: one `Entry` per request. Out: JSON for the admin calls. Called by `server` and `admin`.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from typing import Final

LOG_MAX: Final = 20_000  # entries of about 300 bytes


@dataclass(slots=True)
class Entry:
    """One request. `status` 0: it got no reply."""

    t: float
    endpoint: str
    method: str
    path: str
    flow_id: str
    authorization: bool
    status: int = 0
    committed: bool = False
    hung_up: bool = False
    fault: str = ""

    def as_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(slots=True)
class Seen:
    """All requests of a process."""

    log: deque[Entry] = field(default_factory=lambda: deque(maxlen=LOG_MAX))
    requests: Counter[str] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)
    in_flight: int = 0
    max_in_flight: int = 0

    def begin(self) -> None:
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def end(self, entry: Entry) -> None:
        self.in_flight -= 1
        self.log.append(entry)
        self.requests[entry.endpoint] += 1
        if entry.status >= 400:
            self.refused[entry.status] += 1

    def as_json(self) -> dict[str, object]:
        return {
            "requests": dict(self.requests),
            "refused": {str(status): count for status, count in self.refused.items()},
            "max_in_flight": self.max_in_flight,
        }
