"""Several hosts of one batch, each with a network of its own: its cable to the service, to the database, or both are pulled.

A pulled cable is worse than a connection that is cut: nobody is told. The service's record judges, as in `test_hosts`.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import pytest

from tests.postgres import Server

from .harness import Service
from .network import SWITCHES, Network
from .test_hosts import FAULTS, HOSTS, LEASE_S, Crew, Say, rounds

pytest.importorskip("pgqueuer", reason="the extra `hosts` is not installed")

DONE: Final = {"kill": "killed", "web": "cut off from the service", "base": "from the database", "both": "from both"}
PULLED_S: Final = (1.0, 3 * LEASE_S, 12.0)  # for a moment, three leases, and longer than a connection is kept unanswered


@dataclass
class Cables:
    """One run on each host, begun again where it ends before its time; `events` times a cable is pulled, or both of a host, or
    its run is killed."""

    crew: Crew
    network: Network
    rng: random.Random
    events: int
    done: Counter[str] = field(default_factory=Counter)
    _pulled: dict[tuple[int, str], float] = field(default_factory=dict)  # until when

    def __call__(self) -> None:
        runs = {number: self.crew.begin(at=self.network.at(number)) for number in range(self.network.count)}
        over = monotonic() + 200
        while runs and monotonic() < over:
            sleep(self.rng.uniform(0.2, 1.0))
            self._plug(monotonic())
            for number in [number for number, process in runs.items() if process.poll() is not None]:
                if self.crew.end(runs.pop(number)) != 0 and self.events:
                    runs[number] = self.crew.begin(at=self.network.at(number))
            if runs and self.events:
                self._strike(*self.rng.choice(list(runs.items())))
        self._plug(float("inf"))
        for process in runs.values():
            self.crew.end(process)

    def _strike(self, number: int, process: subprocess.Popen[bytes]) -> None:
        self.events -= 1
        what = self.rng.choice(("kill", *SWITCHES, "both"))
        self.done[DONE[what]] += 1
        if what == "kill":
            process.kill()
            return
        for switch in SWITCHES if what == "both" else (what,):
            if (number, switch) not in self._pulled:
                self.network.pull(number, switch)
            self._pulled[number, switch] = monotonic() + self.rng.choice(PULLED_S)

    def _plug(self, now: float) -> None:
        for (number, switch), until in list(self._pulled.items()):
            if now >= until:
                self.network.plug(number, switch)
                del self._pulled[number, switch]


def cable_rounds(
    folder: Path, network: Network, count: int, flows: int, events: int, seed: int, say: Say, server: Server,
    faults: Sequence[str],
) -> None:  # fmt: skip
    state = network.move(server)
    with Service(folder / "store") as service, network.bring(service.url, folder) as gateway:

        def cables(number: int, rng: random.Random) -> Cables:
            words = ("--ca-file", str(gateway.pem))
            crew = Crew(folder / f"r{number}", f"n{number}", flows, gateway.url, state, *words)
            return Cables(crew, network, rng, events)

        rounds(service, count, flows, seed, say, faults, cables, at=network.at(0))


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(HOSTS) as made:
        yield made


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_hosts_whose_cables_are_pulled_break_nothing(
    tmp_path: Path, network: Network, seed: int, say: Say, server: Server
) -> None:
    cable_rounds(tmp_path, network, 1, 60, 5, seed, say, server, ())


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("faults", [(), FAULTS], ids=["calm", "lossy"])
def test_many_rounds_of_pulled_cables_break_nothing(
    tmp_path: Path, network: Network, seed: int, say: Say, server: Server, faults: tuple[str, ...]
) -> None:
    count, flows = int(os.environ.get("PROOF_ROUNDS", "10")), int(os.environ.get("PROOF_FLOWS", "200"))
    cable_rounds(tmp_path, network, count, flows, 8, seed, say, server, faults)
