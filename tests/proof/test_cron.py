"""Fourteen days of an hourly cron job over a folder that grows: a third of the runs are killed, files change meanwhile.

A started flow cannot grow, so what a user of an inbox writes is one flow per file. Each run is a process of its own; the
hours between them are not waited for. The judge wants zeros, and the journal's size within a bound that counts flows and
inputs, and no runs.
"""

from __future__ import annotations

import os
import random
import statistics
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import pytest

from batcher.core.facts import RUNS_KEPT, FileStat, FlowFacts, InputFacts, PutFlow, PutInput
from batcher.core.lifecycle import FlowEvent, InputEvent
from batcher.journal.sqlite import SqliteJournal

from .harness import PNG, Judge, Nursery, Service, asset

MANIFEST: Final = """\
version: 1
batch: inbox
limits: {concurrency: 8, settle: 1s, timeout: 5s, retries: 4}
defaults: {template: model_generate_fromimage, additional: {campaign: autumn}}
flows:
- each: {glob: "inbox/*.png"}
  name: "{stem}"
  inputs: [{file: "{path}", additional: {sku: "{stem}"}}]
"""
NAME_BYTES: Final = 8  # of a flow here: file0123

# How large the journal may be: A + B * flows + C * inputs + D * the runs that it keeps, in bytes; nothing is collected here.
PAGE: Final = 4096
SPREAD: Final = 2.1  # B-tree pages are at least half full after splits; interior pages add a twentieth
# Sent marks: 64 + 4096 slots of 16. Database: roots of the schema, nine tables and four indexes, and 16 pages that
# rows in trouble needed for a while (a problem is kept as text until the start). No -wal: closing has merged it.
A: Final = 64 + 4096 * 16 + (14 + 16) * PAGE
# State 7, id 24, two sums of 16, times and counts 24, header and pointer 20; the name, and once more in the index with 10;
# its stations: six times of 8, header and pointer 16.
B: Final = round(SPREAD * (7 + 24 + 32 + 24 + 20 + 2 * NAME_BYTES + 10 + 6 * 8 + 16))
# Flow 4, key 16, state 8, SHA-256 32, meaning 16, size 3, mtime 8, inode 8, flags 2, header and pointer 16: in the order in
# which they come, so that pages are nearly full. And once more in the index, by random keys: flow, key, row, header.
C: Final = round(1.1 * (4 + 16 + 8 + 32 + 16 + 3 + 8 + 8 + 2 + 16) + SPREAD * (4 + 16 + 4 + 6))
# What a run measured of itself: some 20 kB at most, however long it was; and only the last ones are kept.
D: Final = 20_000
Say = Callable[[str], None]
pytestmark = pytest.mark.timeout(240)  # seconds, on a machine that is busy with other things; alone it takes a tenth


class Inbox:
    """The folder, and the one content that each file's flow may be started with."""

    def __init__(self, folder: Path, service: Service, rng: random.Random) -> None:
        (folder / "inbox").mkdir(parents=True)
        (folder / "m.yaml").write_text(MANIFEST)
        self._folder = folder / "inbox"
        self._service = service
        self._rng = rng
        self.meant: dict[str, list[Counter]] = {}
        self.changed = self.rebuilt = 0

    def add(self) -> None:
        self._write(f"file{len(self.meant):04}")

    def _write(self, name: str) -> None:
        size = 250_000 if self._rng.random() < 0.05 else self._rng.randint(100, 5000)
        content = PNG + self._rng.randbytes(size)
        (self._folder / f"{name}.png").write_bytes(content)
        self.meant[name] = [Counter([asset(content, {"sku": name})])]

    def change(self) -> None:
        """A late one gets another content, one that is half-way if there is any. If its flow has been started, that stays
        as it was; if not, the old content must never be started any more."""
        sleep(0.2)  # what a run that was killed had sent is answered by then: a start of it came before the change
        record = self._service.record()
        started = {flow["additional"]["batcher"]["flow"] for flow in record if flow["starts"]}
        waiting = {flow["additional"]["batcher"]["flow"] for flow in record if not flow["deleted"]} - started
        name = self._rng.choice(sorted(waiting) or list(self.meant)[-4:])
        before = self.meant[name]
        self._write(name)
        self.changed += 1
        self.rebuilt += name in waiting
        if name in started:
            self.meant[name] = before


def journal_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / ".batcher").iterdir())


def check_size(folder: Path, flows: int, inputs: int, runs: int, say: Say) -> None:
    """The journal's bytes, with -wal and all that lies beside it; said, and held against the bound."""
    kept = min(runs, RUNS_KEPT + 1)  # one more while the oldest is being replaced
    size, bound = journal_bytes(folder), A + B * flows + C * inputs + D * kept
    say(f"the journal has {size} bytes after {runs} runs; the bound is {A} + {B} * {flows} flows + {C} * {inputs} inputs + "
        f"{D} * {kept} runs that are kept = {bound}: {size / bound:.0%}")  # fmt: skip
    assert size <= bound


def run_days(folder: Path, hours: int, seed: int, say: Say, fresh: bool) -> None:
    rng = random.Random(seed)
    doomed = set(rng.sample(range(hours), hours * 21 // 50))  # some kills come too late: a third of the runs die
    took = [0.3]  # seconds of the runs that came to their end, so that the kills strike what is alive
    killed = 0
    with Nursery() as nursery, Service(folder / "store") as service:
        batch = folder / "batch"
        inbox = Inbox(batch, service, rng)
        service.order("*:latency=30ms")  # else a run is over before it can be killed half-way
        words = ("run", "m.yaml", "--endpoint", service.url, "--quiet")
        for hour in range(hours):
            for _ in range(rng.choice((0, 1, 1, 2, 3))):
                inbox.add()
            if inbox.meant and rng.random() < (0.7 if hour - 1 in doomed else 0.2):
                inbox.change()
            began = monotonic()
            after = rng.uniform(0.1, 1.0) * statistics.median(took[-20:]) if hour in doomed else None
            life = nursery.run(batch, *words, fresh=fresh, after=after)
            if life.killed:
                killed += 1
                continue
            assert (life.code, life.log) == (0, ""), f"hour {hour}: exit code {life.code}: {life.log}"
            if after is None:
                took.append(monotonic() - began)
        assert nursery.run(batch, *words, fresh=fresh).code == 0
        tally = Judge("inbox", inbox.meant)(service.record())
        flows = len(inbox.meant)
        say(f"{hours} hours of cron, {killed} runs killed, {flows} flows, {inbox.changed} files changed ({inbox.rebuilt} "
            f"while their flow was on the service and not started): {tally}")  # fmt: skip
    check_size(batch, flows, flows, hours + 1, say)
    assert (tally.wrong, tally.started) == (0, flows), tally
    assert killed >= hours // 8, "too few of the kills struck a run that was alive"


def test_some_hours_of_cron_over_a_growing_folder(tmp_path: Path, seed: int, say: Say) -> None:
    run_days(tmp_path, 12, seed, say, fresh=False)


@pytest.mark.anyio
async def test_journal_of_many_inputs_is_within_the_same_bound(tmp_path: Path, say: Say) -> None:
    flows, inputs = 4, 12_000
    names = [f"file{number:04}" for number in range(flows)]
    journal = SqliteJournal(tmp_path / ".batcher" / "m.sqlite", "inbox", 1.0)
    for name in names:
        facts = FlowFacts(name, spec_digest=bytes(16), stat_digest=bytes(16)).on(FlowEvent.ANNOUNCE_CREATE)
        facts = facts.on(FlowEvent.CREATED, flow_id=f"{1:024}", inputs=inputs // flows, size_bytes=10**9)
        await journal.record(PutFlow(facts))
        for _ in range(inputs // flows // 100):
            file_stat = FileStat(10**6, 1_700_000_000_123_456_789, 10**7)
            rows = [
                InputFacts(os.urandom(16), sha256=os.urandom(32), spec_digest=bytes(16), stat=file_stat) for _ in range(100)
            ]
            rows = [row.on(InputEvent.ANNOUNCE) for row in rows]
            await journal.record(*(PutInput(name, row) for row in rows))
            await journal.record(*(PutInput(name, row.on(InputEvent.ACCEPT)) for row in rows))
        facts = facts.on(FlowEvent.ANNOUNCE_START).on(FlowEvent.START_SEEN, started_at=1_700_000_000.5)
        await journal.record(PutFlow(facts))
    journal.close()
    check_size(tmp_path, flows, inputs, 0, say)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_fourteen_days_of_an_hourly_cron_over_a_growing_folder(tmp_path: Path, seed: int, say: Say) -> None:
    run_days(tmp_path, 14 * 24, seed, say, fresh=True)
