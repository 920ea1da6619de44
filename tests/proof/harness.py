"""What the proofs share: a service and a nursery as processes, and the judge that reads the service's own record.

In: folders, manifests, what was meant. Out: runs (`Nursery.run`), and a `Tally` of what went wrong, which must be zeros.
Called by the three proofs: the sweep, the random kills, the cron.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final, Self

PNG: Final = b"\x89PNG\r\n\x1a\n"
ROOT: Final = Path(__file__).parents[2]
MORTAL: Final = Path(__file__).with_name("mortal.py")
Asset = tuple[str, str]  # SHA-256, and `additional` without the tag as canonical JSON
Meant = Mapping[str, Sequence[Counter[Asset]]]  # flow → what it may hold: several where its files were changed meanwhile


def environment(**more: str) -> dict[str, str]:
    """The tests' own, without what would steer batcher, and with the root on the path for `mortal.py`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GENERIO", "BATCHER"))}
    path = os.pathsep.join(filter(None, (str(ROOT), inherited.get("PYTHONPATH"))))
    return {**inherited, "PYTHONPATH": path, "GENERIO_API_KEY": "secret-key-7", **more}


@dataclass
class Tally:
    """What the judge counted. All but `started` must be 0."""

    started: int = 0  # flows
    lost: int = 0  # inputs that are not in their started flow, or flows that are not started when complete
    twice: int = 0  # inputs
    foreign: int = 0  # inputs
    early: int = 0  # flows that were started before their last input had been accepted
    double: int = 0  # flows that were started more than once
    left: int = 0  # flows that were neither started nor deleted when complete

    def __iadd__(self, other: Self) -> Self:
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))
        return self

    @property
    def wrong(self) -> int:
        return sum(getattr(self, each.name) for each in fields(self)) - self.started

    def __str__(self) -> str:
        return ", ".join(f"{getattr(self, each.name)} {each.name}" for each in fields(self))


class Service:
    """A sandbox in a process of its own. `PROOF_READINGS` has it understand the documentation otherwise: with
    `pages=has_more,paged=all,page_size=3`, for example, every list comes in pages."""

    def __init__(self, folder: Path) -> None:
        readings = filter(None, os.environ.get("PROOF_READINGS", "").split(","))
        more = [word for reading in readings for word in ("--reading", reading)]
        command = [sys.executable, "-m", "batcher.sandbox", "--dir", str(folder), "--quiet", *more]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().split()[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _post(self, path: str, body: object, method: str = "POST") -> dict:
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.load(reply)

    def order(self, *faults: str) -> None:
        """Faults from now on, in place of those before."""
        self._post("/_sandbox/faults", list(faults))

    def create(self) -> str:
        """A flow that waits for inputs, made by somebody else; its id."""
        return self._post("/flows", {"template": "model_generate_fromimage"})["flow_id"]

    def start(self, flow_id: str) -> None:
        """As somebody does by hand."""
        self._post(f"/flows/{flow_id}", {"action": "start"}, "PATCH")

    def record(self) -> list[dict]:
        """Every flow that ever was, with its inputs."""
        with urllib.request.urlopen(f"{self.url}/_sandbox/record", timeout=30) as reply:
            return json.load(reply)["flows"]


@dataclass(frozen=True)
class Life:
    """One run of the command: its exit code, or how it died; what it reached; what it printed."""

    code: int
    died: str | None
    counts: Counter[str]
    log: str

    @property
    def killed(self) -> bool:
        return self.died is not None or self.code == -signal.SIGKILL


class Nursery:
    """Commands that die when they are told to; see `mortal`. Use as a context manager, from one thread."""

    def __init__(self) -> None:
        command = [sys.executable, str(MORTAL), "nursery"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(60)

    def run(
        self, folder: Path, *words: str, die: int = 0, form: str = "exit", at: str | None = None,
        env: Mapping[str, str] = {}, fresh: bool = False, after: float | None = None,
    ) -> Life:  # fmt: skip
        """Run the command in the folder, to its end or to its death: at a boundary, or `after` so many seconds."""
        note, log = folder / "note.json", folder / "log.txt"
        for path in (note, log):
            path.unlink(missing_ok=True)
        order = {"folder": str(folder), "words": words, "die": die, "form": form, "at": at, "env": dict(env),
                 "fresh": fresh, "after": after, "note": str(note), "log": str(log)}  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        code = json.loads(self._process.stdout.readline())["code"]
        noted = json.loads(note.read_text()) if note.exists() else {"died": None, "counts": {}}
        return Life(code, noted["died"], Counter(noted["counts"]), log.read_text() if log.exists() else "")


def asset(content: bytes, additional: object = None, *, tagged: bool = True) -> Asset:
    """An input as it should stand in the record. `tagged`: its `additional` is an object or absent."""
    return hashlib.sha256(content).hexdigest(), _extra({} if tagged and additional is None else additional)


def _extra(additional: object) -> str:
    if isinstance(additional, dict):
        additional = {name: value for name, value in additional.items() if name != "batcher"}
    return json.dumps(additional, sort_keys=True)


@dataclass
class Judge:
    """Holds the service's record against what was meant of one batch. `external`: flow → the ids that it was ever given.
    `starts`: flow → how often it may be started, least and most, where that is not once."""

    batch: str
    meant: Meant
    external: Mapping[str, Sequence[str]] = field(default_factory=dict)
    starts: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __call__(self, record: Sequence[dict], *, complete: bool = True) -> Tally:
        tally = Tally()
        started: dict[str, list[dict]] = {name: [] for name in self.meant}
        owner = {flow_id: name for name, ids in self.external.items() for flow_id in ids}
        for flow in record:
            tag = (flow["additional"] or {}).get("batcher")
            name = tag["flow"] if tag and tag["batch"] == self.batch else owner.get(flow["flow_id"])
            if name is None:
                continue
            if flow["starts"]:
                started.setdefault(name, []).append(flow)
                # What was paid for and is gone was paid for in vain.
                tally.lost += flow["deleted"]
            else:  # one that was given belongs to somebody else, who may keep it
                tally.left += complete and not flow["deleted"] and flow["flow_id"] not in owner
        for name, flows in started.items():
            least, most = self.starts.get(name, (1, 1))
            tally.started += len(flows)
            tally.double += sum(flow["starts"] > 1 for flow in flows) + max(0, len(flows) - most)
            tally.lost += max(0, least - len(flows)) if complete else 0
            tally.early += sum(any(item["received_at"] > flow["started_at"] for item in flow["inputs"]) for flow in flows)
            states = list(self.meant.get(name, ()))
            for flow in flows:
                self._inputs(flow, states, tally, last=len(states) == 1)
        return tally

    @staticmethod
    def _inputs(flow: dict, states: list[Counter[Asset]], tally: Tally, *, last: bool) -> None:
        """Against the nearest state of its files; a second start needs a state of its own."""
        shown = Counter((item["sha256"], _extra(item["additional"])) for item in flow["inputs"])
        meant = min(states, key=lambda one: ((one - shown) + (shown - one)).total(), default=Counter())
        if not last:
            states.remove(meant)
        tally.lost += (meant - shown).total()
        for one, count in (shown - meant).items():
            if one in meant:
                tally.twice += count
            else:
                tally.foreign += count
