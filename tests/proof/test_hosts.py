"""Several runs of one batch, which share a journal in PostgreSQL: killed, frozen for longer than their lease, cut off.

Hosts are processes here. Each round has a batch of its own; runs that die are started again, as a scheduler would. The
service's record judges: every flow started once, with exactly its inputs, whoever was at it, and nothing left behind.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Final, Protocol

import pytest

from tests.journal.postgres.proxy import Proxy
from tests.postgres import Server

from .harness import PNG, Judge, Service, Tally, asset, environment

pytest.importorskip("pgqueuer", reason="the extra `hosts` is not installed")

LEASE_S: Final = 1.5
LATEST_S: Final = 3.0  # of the late commits below
HOSTS: Final = 4
FAULTS_AT_ONCE: Final = 5
RUNS: Final = 8  # of the command, until it must be done once nobody is killed any more
FAULTS: Final = (
    "upload:p=0.2,lost_reply=close", "create:p=0.2,lost_reply=reset", "start:p=0.2,lost_reply=close",
    "delete:p=0.2,lost_reply=close", "upload:p=0.05,late_commit=600ms", "upload:p=0.02,late_commit=3s",
    "create:p=0.1,late_commit=600ms", "start:p=0.1,late_commit=2s", "*:p=0.05,status=503",
)  # fmt: skip
MANIFEST: Final = """\
version: 1
batch: %s
limits: {concurrency: 16, settle: 1s, timeout: 5s, retries: 6}
defaults: {template: model_generate_fromimage}
flows:
- each: {table: flows.csv}
  name: "{name}"
  inputs: [{file: a.png, additional: {of: "{name}"}}, {file: b.png}]
"""
SKEWED: Final = """\
import time
real = time.time
time.time = lambda: real() + (%r)
from batcher.cli import main
main()
"""
Say = Callable[[str], None]


class Crew:
    """The runs of one batch, as processes in their folder. `endpoint` and `state` as the command has them."""

    def __init__(self, folder: Path, batch: str, flows: int, endpoint: str, state: str, *words: str) -> None:
        self.folder = folder
        self.batch = batch
        folder.mkdir()
        names = [f"f{number}" for number in range(flows)]
        contents = {name: PNG + os.urandom(400) for name in ("a", "b")}
        for name, content in contents.items():
            (folder / f"{name}.png").write_bytes(content)
        (folder / "flows.csv").write_text("name\n" + "\n".join(names) + "\n")
        (folder / "m.yaml").write_text(MANIFEST % batch)
        self.meant = {name: [Counter([asset(contents["a"], {"of": name}), asset(contents["b"])])] for name in names}
        self._words = ("run", "m.yaml", "--endpoint", endpoint, "--state", state, "--lease", f"{LEASE_S}s", *words)
        self.codes: Counter[int] = Counter()
        self._begun: list[subprocess.Popen[bytes]] = []

    def close(self) -> None:
        """Where a test fails, no run of it stays."""
        for process in self._begun:
            process.kill()
            process.wait()

    def begin(self, *words: str, skew_s: float = 0.0, at: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """One more run; `skew_s`: so far its wall clock is wrong. `at`: what its command begins with, on another host."""
        with (self.folder / f"log{len(self._begun) + 1}.txt").open("wb") as log:
            command = [*at, sys.executable, "-c", SKEWED % skew_s, *self._words, "--progress", "none", *words]
            self._begun.append(subprocess.Popen(command, cwd=self.folder, env=environment(), stdout=log, stderr=log))
        return self._begun[-1]

    def end(self, process: subprocess.Popen[bytes], within_s: float = 120.0) -> int:
        code = process.wait(within_s)
        self.codes[code] += 1
        assert code in (0, 5, 12, -signal.SIGKILL), f"exit code {code}: {self.logs()}"
        return code

    def run(self, at: Sequence[str] = ()) -> int:
        return self.end(self.begin(at=at))

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(self.folder.glob("log*.txt")))

    def complete(self, at: Sequence[str] = ()) -> None:
        """Run it until it is done, and once more for what came late."""
        codes = [self.run(at)]
        while codes[-1] != 0:
            assert len(codes) < RUNS, f"not done after {codes}: {self.logs()}"
            codes.append(self.run(at))
        sleep(LATEST_S + 0.5)
        assert self.run(at) == 0, self.logs()
        assert "Traceback" not in self.logs(), self.logs()


@dataclass
class Chaos:
    """What happens to the runs: `events` times one of them is killed, or frozen for three leases."""

    crew: Crew
    rng: random.Random
    events: int
    done: Counter[str] = field(default_factory=Counter)
    _frozen: list[tuple[float, subprocess.Popen[bytes]]] = field(default_factory=list)

    def __call__(self) -> None:
        runs = [self.crew.begin() for _ in range(HOSTS)]
        over = monotonic() + 100
        while runs and monotonic() < over:
            sleep(self.rng.uniform(0.1, 0.8))
            self._thaw()
            for process in [one for one in runs if one.poll() is not None]:
                runs.remove(process)
                if self.crew.end(process) != 0 and self.events:
                    runs.append(self.crew.begin())
            awake = [one for one in runs if one not in [process for _, process in self._frozen]]
            if awake and self.events:
                self._strike(self.rng.choice(awake))
        self._thaw(now=True)
        for process in runs:
            self.crew.end(process)

    def _strike(self, process: subprocess.Popen[bytes]) -> None:
        self.events -= 1
        if self.rng.random() < 0.5:
            process.kill()
            self.done["killed"] += 1
        else:
            process.send_signal(signal.SIGSTOP)
            self._frozen.append((monotonic() + 3 * LEASE_S, process))
            self.done["frozen for 3 leases"] += 1

    def _thaw(self, *, now: bool = False) -> None:
        for until, process in list(self._frozen):
            if now or monotonic() > until:
                process.send_signal(signal.SIGCONT)
                self._frozen.remove((until, process))


class Trouble(Protocol):
    """What happens to the runs of a batch. `done`: how often what was done to them."""

    crew: Crew
    done: Counter[str]

    def __call__(self) -> None: ...


def rounds(
    service: Service, count: int, flows: int, seed: int, say: Say, faults: Sequence[str],
    trouble_of: Callable[[int, random.Random], Trouble], *, at: Sequence[str] = (),
) -> None:  # fmt: skip
    """So many batches, each with its trouble, then brought to its end in peace, and judged. `faults`: those of the service are
    chosen among these. `at`: where a batch is brought to its end."""
    total, done, codes, wrong = Tally(), Counter[str](), Counter[int](), []
    for number in range(count):
        rng = random.Random(f"{seed}:{number}")
        trouble = trouble_of(number, rng)
        with closing(trouble.crew) as crew:
            service.order(*rng.sample(faults, min(FAULTS_AT_ONCE, len(faults))), "*:latency=20ms")
            trouble()
            service.order()
            crew.complete(at)
        found = Judge(crew.batch, crew.meant)(service.record())
        total += found
        done, codes = done + trouble.done, codes + crew.codes
        if found.wrong:
            wrong.append(f"round {number}: {found}\n{crew.logs()}")
    struck = ", ".join(f"{times} × {what}" for what, times in sorted(done.items()))
    say(f"{HOSTS} runs over {flows} flows, {count} rounds: {struck}: {total}; codes {dict(codes)}")
    assert not wrong, "\n".join(wrong)
    assert total.started == count * flows


def chaos_rounds(
    folder: Path, count: int, flows: int, events: int, seed: int, say: Say, server: Server, faults: Sequence[str]
) -> None:
    with Service(folder / "store") as service:

        def chaos(number: int, rng: random.Random) -> Chaos:
            return Chaos(Crew(folder / f"r{number}", f"h{number}", flows, service.url, server.url), rng, events)

        rounds(service, count, flows, seed, say, faults, chaos)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_runs_that_are_killed_and_frozen_break_nothing(tmp_path: Path, seed: int, say: Say, server: Server) -> None:
    chaos_rounds(tmp_path, 1, 40, 5, seed, say, server, ())


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("faults", [(), FAULTS], ids=["calm", "lossy"])
def test_many_runs_that_are_killed_and_frozen_break_nothing(
    tmp_path: Path, seed: int, say: Say, server: Server, faults: tuple[str, ...]
) -> None:
    count, flows = int(os.environ.get("PROOF_ROUNDS", "60")), int(os.environ.get("PROOF_FLOWS", "400"))
    chaos_rounds(tmp_path, count, flows, 10, seed, say, server, faults)


# --- A database, and clocks, in trouble


def _restarted(server: Server, how: str) -> Callable[[list[subprocess.Popen[bytes]]], None]:
    def trouble(runs: list[subprocess.Popen[bytes]]) -> None:
        for _ in range(2):
            server.control("restart", "-m", how)
            sleep(2.0)

    return trouble


def _troubled(
    folder: Path, server: Server, seed: int, say: Say, what: str, flows: int,
    trouble: Callable[[list[subprocess.Popen[bytes]]], None], skews: tuple[float, ...] = (0.0,) * HOSTS, first: str = "",
) -> None:  # fmt: skip
    """`first`: the address of the database as the first run has it, where that is another."""
    with (
        Service(folder / "store") as service,
        closing(Crew(folder / "r", f"t{seed}", flows, service.url, server.url)) as crew,
    ):
        service.order("*:latency=30ms")
        began = monotonic()
        runs = [crew.begin(*(("--state", first) if first else ()), skew_s=skews[0])]
        runs += [crew.begin(skew_s=skew) for skew in skews[1:]]
        sleep(2.5)
        trouble(runs)
        codes = [crew.end(process) for process in runs]
        took_s = monotonic() - began
        service.order()
        crew.complete()
        found = Judge(crew.batch, crew.meant)(service.record())
    say(f"{what}: {HOSTS} runs over {flows} flows took {took_s:.0f} s, codes {codes}: {found}")
    assert not found.wrong, f"{found}\n{crew.logs()}"
    assert found.started == flows


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_database_that_is_restarted_is_waited_for(tmp_path: Path, seed: int, say: Say, server: Server, how: str) -> None:
    _troubled(tmp_path, server, seed, say, f"restarted ({how})", 80, _restarted(server, how))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_run_that_is_cut_off_for_longer_than_its_lease_loses_its_flows(
    tmp_path: Path, seed: int, say: Say, server: Server
) -> None:
    with tempfile.TemporaryDirectory(prefix="pg-") as short:
        proxy = Proxy(Path(short), server.folder)

        def trouble(runs: list[subprocess.Popen[bytes]]) -> None:
            proxy.moves.clear()
            sleep(3 * LEASE_S)
            proxy.moves.set()

        through = server.url.replace(str(server.folder), short)
        _troubled(tmp_path, server, seed, say, "one cut off for 3 leases", 80, trouble, first=through)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_clocks_an_hour_apart_change_nothing(tmp_path: Path, seed: int, say: Say, server: Server) -> None:
    def trouble(runs: list[subprocess.Popen[bytes]]) -> None:
        runs[1].kill()

    _troubled(tmp_path, server, seed, say, "clocks an hour apart", 60, trouble, skews=(0.0, 3600.0, -3600.0, 1800.0))
