"""SIGKILL at a random time, while the service fails, loses replies and commits late, and files change in between.

What the sweep cannot reach: a death between two boundaries, in the middle of a write, with faults under way. Each batch
is killed several times, some of its files are changed in between, and then it is run to its end and judged.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import pytest

from .harness import PNG, Judge, Life, Nursery, Service, Tally, asset

FLOWS: Final = 5
LATEST_S: Final = 3.0  # of the late commits below
INPUTS: Final = 6
RUNS: Final = 8  # of the command, until it must be done once the faults have ended
FAULTS: Final = (
    "upload:p=0.1,lost_reply=close",
    "upload:p=0.1,error_after_commit=500",
    "upload:p=0.05,late_commit=600ms",
    "upload:p=0.02,late_commit=3s",  # later than the settling time
    "upload:p=0.1,drop_mid=1",
    "create:p=0.2,lost_reply=reset",
    "create:p=0.2,late_commit=600ms",
    "start:p=0.3,lost_reply=close",
    "start:p=0.2,late_commit=2s",
    "delete:p=0.3,status=503",
    "*:p=0.05,status=503",
    "*:p=0.05,status=429,retry_after=0",
    "inputs:p=0.1,corrupt_list=missing",
    "inputs:p=0.1,truncate=1",
)
MANIFEST: Final = """\
version: 1
batch: %s
limits: {concurrency: 6, settle: 1s, timeout: 5s, retries: 4}
defaults: {template: model_generate_fromimage}
flows:
- each: {table: flows.csv}
  name: "{folder}"
  inputs: [{glob: "{folder}/*.png", additional: {stem: "{stem}"}}]
"""
Say = Callable[[str], None]
pytestmark = pytest.mark.timeout(240)  # seconds, on a machine that is busy with other things; alone it takes a tenth


class Folder:
    """The sources of one batch, and every whole state that each flow's files were ever in while no run was alive."""

    def __init__(self, folder: Path, batch: str, rng: random.Random) -> None:
        self.folder = folder
        self._rng = rng
        self._names = [f"f{number}" for number in range(FLOWS)]
        for name in self._names:
            (folder / name).mkdir(parents=True)
            for number in range(INPUTS):
                self._write(name, number)
        (folder / "flows.csv").write_text("folder\n" + "\n".join(self._names) + "\n")
        (folder / "m.yaml").write_text(MANIFEST % batch)
        self.meant = {name: [self._state(name)] for name in self._names}

    def _write(self, name: str, number: int) -> None:
        large = {"f0": 450_000, "f3": 1_300_000}.get(name) if number == 0 else None  # one leaves at once, one bit by bit
        size = large or self._rng.randint(100, 20_000)
        (self.folder / name / f"{number}.png").write_bytes(PNG + self._rng.randbytes(size))

    def _state(self, name: str) -> Counter:
        return Counter(asset(path.read_bytes(), {"stem": path.stem}) for path in (self.folder / name).iterdir())

    def change(self) -> None:
        """One file gets another content: its flow may hold all of the old state, or all of the new one."""
        name = self._rng.choice(self._names)
        self._write(name, self._rng.randrange(INPUTS))
        self.meant[name].append(self._state(name))


def run_batch(
    folder: Path, number: int, service: Service, nursery: Nursery, seed: int, kills: int, fresh: bool
) -> tuple[int, Tally]:
    """(how often it was really killed, the judgement) of one batch."""
    rng = random.Random(f"{seed}:{number}")
    batch = f"r{number}"
    sources = Folder(folder, batch, rng)
    died = 0
    words = ("run", "m.yaml", "--endpoint", service.url, "--progress", "none")

    def run(after: float | None) -> Life:
        life = nursery.run(folder, *words, fresh=fresh, after=after)
        assert life.code in (0, 5, 12, -9), f"exit code {life.code}: {life.log}"
        assert "Traceback" not in life.log, life.log
        return life

    latest = 1.0  # of a kill, after the run's begin; sooner where one came too late
    for _ in range(kills):
        service.order(*rng.sample(FAULTS, 4), "*:latency=30ms")
        struck = run(rng.uniform(0.02, latest) + 0.3 * fresh).killed
        died += struck
        latest = latest if struck else latest / 2
        if rng.random() < 0.4:
            sources.change()
    service.order()
    ended = monotonic()
    codes = [run(None).code]
    while codes[-1] != 0:
        assert len(codes) < RUNS, f"not done after {codes}"
        codes.append(run(None).code)
    # A create that was lost may be done after all; whichever run comes next deletes such a twin.
    sleep(max(0.0, LATEST_S + 0.5 - (monotonic() - ended)))
    assert run(None).code == 0
    return died, Judge(batch, sources.meant)(service.record())


def run_batches(folder: Path, batches: int, kills: int, seed: int, say: Say, fresh: bool) -> None:
    total, tally, wrong = 0, Tally(), []
    with Nursery() as nursery, Service(folder / "store") as service:
        for number in range(batches):
            died, found = run_batch(folder / f"b{number}", number, service, nursery, seed, kills, fresh)
            total += died
            tally += found
            if found.wrong:
                wrong.append(f"batch {number}: {found}")
            shutil.rmtree(folder / f"b{number}")
    say(f"kills at random times: {total} kills in {batches} batches under faults: {tally}")
    assert not wrong, "\n".join(wrong)
    assert tally.started == batches * FLOWS
    assert total >= batches * kills / 4, "too few of the kills struck a run that was alive"


def test_kills_at_random_times_under_faults_break_nothing(tmp_path: Path, seed: int, say: Say) -> None:
    run_batches(tmp_path, 2, 3, seed, say, fresh=False)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_many_kills_at_random_times_under_faults_break_nothing(tmp_path: Path, seed: int, say: Say) -> None:
    run_batches(tmp_path, int(os.environ.get("PROOF_BATCHES", "40")), 6, seed, say, fresh=True)
