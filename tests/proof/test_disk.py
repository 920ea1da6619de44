"""The disk under the journal: full, read-only, torn, lost, newer; and clocks that jump. Judged by the sandbox's record.

Whatever is wrong with the state, a run ends with a clear code and without a traceback, nothing is started that is wrong or
was started before, and once the state is well again the next run completes the batch.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from e2e.conftest import batcher as command
from e2e.conftest import begin, write_batch
from pipeline.batch import LIMITS, Batch, files, order_faults, read_record, without_tag

import batcher.assembly
from batcher.api import Settings, run
from batcher.core.bodies import SmallBody
from batcher.core.errors import BatcherError, JournalError, Locked, Reason, Stop, UsageError
from batcher.core.facts import WATCH_S, FlowFacts, InputFacts, PutFlow, PutInput, Watch
from batcher.core.lifecycle import FlowState, InputState
from batcher.core.planning import Options
from batcher.core.report import Report
from batcher.journal.reader import JournalReader
from batcher.journal.sqlite import SqliteJournal
from batcher.sandbox import Sandbox, parse_fault
from batcher.service.client import FlowsApi

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

QUICK = replace(LIMITS, settle_s=0.3)


def judge_starts(record: dict, batch: Batch) -> list[dict]:
    """Nothing was started twice, and nothing else than what was meant; the flows that were started."""
    started = [flow for flow in record["flows"] if flow["starts"]]
    names = Counter(flow["additional"]["batcher"]["flow"] for flow in started)
    assert all(count == 1 for count in names.values()), f"started twice: {names}"
    meant = Counter(hashlib.sha256(path.read_bytes()).hexdigest() for path in batch.paths)
    for flow in started:
        assert flow["starts"] == 1
        assert Counter(item["sha256"] for item in flow["inputs"]) == meant, flow["flow_id"]
    return started


async def outcome_of(attempt: Callable[[], Awaitable[Report]]) -> tuple[str, str]:
    """The exit code, or the error's kind; and what is advised."""
    try:
        report = await attempt()
    except BatcherError as error:
        return type(error).__name__, error.hint
    hints = [problem.hint for problem in report.problems] + ([report.stop.hint] if report.stop is not None else [])
    return str(report.exit_code), "; ".join(hints)


def forget(state: Path) -> None:
    """The journal is lost, and all that lay beside it."""
    for path in state.glob("m-*"):
        path.unlink()


# ---- full


class SmallDisk:
    """A file system of a few hundred KiB that can be filled, grown and made read-only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.filler = folder / "filler"

    def mount(self, *options: str) -> None:
        subprocess.run(["mount", *options, str(self.folder)], check=True)

    def size(self, kib: int) -> None:
        self.mount("-o", f"remount,size={kib}k")

    def fill(self) -> None:
        with self.filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(tmp_path / "disk")
    disk.folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("a small file system of its own needs root")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", disk.folder], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"nothing can be mounted here: {made.stderr.decode().strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk.folder], check=True)


@pytest.mark.parametrize("kib", [4, 40, 80, 112, 144, 208])
async def test_disk_that_is_full_ends_the_run_and_once_there_is_room_the_next_completes(
    small_disk: SmallDisk, tmp_path: Path, kib: int
) -> None:
    batch = Batch(tmp_path, files(tmp_path, 6), flows=6, limits=QUICK)
    settings = Settings(state=small_disk.folder)
    small_disk.size(kib)
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        outcome, hint = await outcome_of(lambda: batch.run(sandbox.url, settings))
        if kib <= 112 or outcome != "0":  # how large the log grows depends on how many records one commit gathers
            assert outcome in ("JournalError", "12"), "it was meant to be too small"
            assert "free some space" in hint
        judge_starts(await read_record(sandbox.url), batch)
        small_disk.size(8192)
        report = await batch.run(sandbox.url, settings)
        await batch.judge(sandbox.url, report)
    assert report.exit_code == 0, report.problems or report.stop


@pytest.mark.parametrize("kib", [24, 64, 80])
async def test_full_disk_under_the_mapped_file_is_an_error_and_no_signal(
    small_disk: SmallDisk, tmp_path: Path, kib: int
) -> None:
    """Without its blocks being there, the first mark in the mapped file would be a SIGBUS."""
    write_batch(tmp_path, 1, 2)
    small_disk.size(kib)
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        words = ("run", "m.yaml", "--endpoint", sandbox.url, "--state", str(small_disk.folder))
        result = await asyncio.to_thread(lambda: command(tmp_path, *words))
        assert (result.returncode, "Traceback" in result.stderr) == (12, False), result.stderr
        assert "free some space" in result.stderr
        assert not (await read_record(sandbox.url))["flows"]


async def test_disk_that_fills_while_a_run_is_under_way(small_disk: SmallDisk, tmp_path: Path) -> None:
    write_batch(tmp_path, 8, 12)
    small_disk.size(4096)
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault("*:latency=30ms")]) as sandbox:
        words = ("run", "m.yaml", "--endpoint", sandbox.url, "--state", str(small_disk.folder), "--concurrency", "2")

        def fill_amid() -> tuple[int, str]:
            process = begin(tmp_path, *words)
            while len(sandbox.seen.log) < 20 and process.poll() is None:
                time.sleep(0.02)
            small_disk.fill()
            _, errors = process.communicate(timeout=40)
            return process.returncode, errors

        code, errors = await asyncio.to_thread(fill_amid)
        assert code == 12, errors
        assert "Traceback" not in errors
        assert re.search(r"the journal \S+\.sqlite cannot be written", errors)
        started = [flow for flow in (await read_record(sandbox.url))["flows"] if flow["starts"]]
        assert len(started) < 8
        small_disk.filler.unlink()
        await order_faults(sandbox.url)
        result = await asyncio.to_thread(lambda: command(tmp_path, *words))
        assert result.returncode == 0, result.stderr
        record = await read_record(sandbox.url)
        names = Counter(flow["additional"]["batcher"]["flow"] for flow in record["flows"] if flow["starts"])
        assert sorted(names.values()) == [1] * 8
        assert not [flow for flow in record["flows"] if not flow["starts"] and not flow["deleted"]]


async def test_state_on_a_read_only_disk_can_be_looked_at_and_not_run(small_disk: SmallDisk, tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 2)
    small_disk.size(4096)
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        words = ("m.yaml", "--endpoint", sandbox.url, "--state", str(small_disk.folder))
        assert (await asyncio.to_thread(lambda: command(tmp_path, "run", *words))).returncode == 0
        small_disk.mount("-o", "remount,ro")
        status = await asyncio.to_thread(lambda: command(tmp_path, "status", *words, "--json"))
        assert status.returncode == 0, status.stderr
        assert json.loads(status.stdout)["flows"]["started"] == 1
        plan = await asyncio.to_thread(lambda: command(tmp_path, "plan", *words))
        assert plan.returncode == 0, plan.stderr
        result = await asyncio.to_thread(lambda: command(tmp_path, "run", *words))
        assert result.returncode == 2, result.stderr
        assert "cannot be written: Read-only file system (see --state)" in result.stderr
        assert "Traceback" not in result.stderr


def test_state_folder_that_is_none_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in ("file", "file/below", "/proc/nothing"):
        with pytest.raises(UsageError, match="cannot be written"):
            SqliteJournal(tmp_path / folder / "m.sqlite", "b", 1)


# ---- torn


class Images:
    """Copies of the state folder as kill -9 would leave it at the end of a run, before anything is closed."""

    def __init__(self, batch: Batch, state: Path, store: Path) -> None:
        self.batch = batch
        self.state = state
        self.store = store


async def make_images(folder: Path, fault: str | None) -> Images:
    batch = Batch(folder, files(folder, 3), flows=2, limits=replace(QUICK, retries=0))
    faults = [parse_fault(fault)] if fault else []
    path = folder / "live" / "m.sqlite"
    async with Sandbox(folder / "sandbox", faults=faults) as sandbox:
        journal = SqliteJournal(path, "m", QUICK.settle_s)
        report = await run(batch.manifest(sandbox.url), journal=journal)
        assert (report.exit_code == 0) == (fault is None)
        shutil.copytree(path.parent, folder / "image")
        journal.close()
    batch.limits = QUICK
    return Images(batch, folder / "image", folder / "sandbox")


def damage(path: Path, rng: random.Random) -> str:
    """Something that a disk does to a file; what it was."""
    data = bytearray(path.read_bytes())
    match rng.randrange(4):
        case 0:
            at = rng.randrange(len(data))
            del data[at:]
            what = f"{path.name} cut off at {at}"
        case 1:
            at = rng.randrange(len(data)) // 4096 * 4096
            data[at : at + 4096] = bytes(4096)
            what = f"{path.name} zeroed at {at}"
        case _:
            at = rng.randrange(len(data))
            bit = 1 << rng.randrange(8)
            data[at] ^= bit
            what = f"{path.name} byte {at} ^ {bit}"
    path.write_bytes(data)
    return what


@pytest.mark.parametrize("suffix", [".sqlite", ".sqlite-wal", ".left"])
async def test_damaged_journal_of_a_finished_batch_never_starts_anything_again(tmp_path: Path, suffix: str) -> None:
    await damage_started(tmp_path, suffix, range(30))


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("suffix", [".sqlite", ".sqlite-wal", ".left"])
async def test_damaged_journal_in_many_places(tmp_path: Path, suffix: str) -> None:
    first = random.randrange(10**6)
    print(f"seeds from {first}")
    await damage_started(tmp_path, suffix, range(first, first + 1500))


async def damage_started(folder: Path, suffix: str, seeds: range) -> None:
    images = await make_images(folder, None)
    if suffix == ".sqlite":  # all of it in one file, as after a clean end
        sqlite3.connect(images.state / "m.sqlite").close()
    outcomes: Counter[str] = Counter()
    async with Sandbox(images.store) as sandbox:
        for seed in seeds:
            trial = folder / "trial"
            shutil.rmtree(trial, ignore_errors=True)
            shutil.copytree(images.state, trial)
            what = damage(trial / f"m{suffix}", random.Random(seed))
            outcome = await try_again(images.batch, trial, sandbox.url)
            outcomes[outcome] += 1
            record = await read_record(sandbox.url)
            assert sum(flow["starts"] for flow in record["flows"]) == 2, f"started again: {what} (seed {seed}): {outcome}"
            assert outcome in ("0", "12", "JournalError"), f"{what} (seed {seed}): {outcome}"
    assert outcomes["0"] or suffix == ".sqlite-wal", outcomes


@pytest.mark.parametrize("suffix", [".sqlite", ".sqlite-wal", ".left"])
async def test_damaged_journal_amid_a_batch_never_starts_anything_wrong(tmp_path: Path, suffix: str) -> None:
    images = await make_images(tmp_path, "upload:after=4,status=503")
    if suffix == ".sqlite":
        sqlite3.connect(images.state / "m.sqlite").close()
    for seed in range(4):
        trial, store = tmp_path / "trial", tmp_path / "store"
        for made, of in ((trial, images.state), (store, images.store)):
            shutil.rmtree(made, ignore_errors=True)
            shutil.copytree(of, made)
        what = damage(trial / f"m{suffix}", random.Random(seed))
        async with Sandbox(store) as sandbox:
            outcome = await try_again(images.batch, trial, sandbox.url)
            judge_starts(await read_record(sandbox.url), images.batch)
            assert outcome in ("0", "12", "JournalError"), f"{what} (seed {seed}): {outcome}"
            if outcome != "0":  # the advice: move it away, then take over what is there
                shutil.rmtree(trial)
                report = await batch_run(images.batch, trial, sandbox.url, Options(adopt=True))
                assert report.exit_code == 0, report.problems or report.stop
                assert len(judge_starts(await read_record(sandbox.url), images.batch)) == 2


async def batch_run(batch: Batch, state: Path, url: str, options: Options = Options()) -> Report:  # noqa: B008 - frozen
    journal = SqliteJournal(state / "m.sqlite", "m", QUICK.settle_s)
    try:
        return await run(batch.manifest(url), Settings(options), journal=journal)
    finally:
        journal.close()


async def try_again(batch: Batch, state: Path, url: str) -> str:
    outcome, hint = await outcome_of(lambda: batch_run(batch, state, url))
    assert outcome == "0" or hint
    return outcome


async def test_journal_that_lost_commits_is_refused(tmp_path: Path) -> None:
    """An old copy of it, or a log that was cut off, would say that what was started was not."""
    path = tmp_path / "j" / "m.sqlite"
    journal = SqliteJournal(path, "b", 1)
    await journal.record(PutFlow(FlowFacts("f")))
    journal.close()
    old = path.read_bytes()
    journal = SqliteJournal(path, "b", 1)
    await journal.record(PutFlow(FlowFacts("f", FlowState.STARTED, "id")))
    journal.close()
    path.write_bytes(old)
    with pytest.raises(JournalError, match="last commits are missing"):
        SqliteJournal(path, "b", 1)
    path.unlink()
    SqliteJournal(path, "b", 1).close()  # none at all: it is asked for unknown flows


async def test_row_that_is_not_what_was_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    journal = SqliteJournal(path, "b", 1)
    await journal.record(PutFlow(FlowFacts("f", FlowState.OPEN, "id")), PutInput("f", InputFacts(b"k" * 16)))
    journal.close()
    for change in ("UPDATE flows SET state='planned'", "UPDATE flows SET generation=7", "UPDATE flows SET name='g'"):
        shutil.copyfile(path, tmp_path / "n.sqlite")
        with sqlite3.connect(tmp_path / "n.sqlite") as connection:
            connection.execute(change)
        connection.close()
        reader = JournalReader(tmp_path / "n.sqlite")
        with pytest.raises(JournalError, match="damaged"):
            list(reader.flows())
        reader.close()
    for change in ("UPDATE inputs SET state='qending'", "UPDATE inputs SET size='x'", "UPDATE inputs SET sha256='words'"):
        shutil.copyfile(path, tmp_path / "n.sqlite")
        with sqlite3.connect(tmp_path / "n.sqlite") as connection:
            connection.execute(change)
        connection.close()
        reader = JournalReader(tmp_path / "n.sqlite")
        with pytest.raises(JournalError, match="damaged"):
            list(reader.input_rows("f"))
        reader.close()


# ---- newer, older, lost


async def test_newer_journal_ends_every_command_with_advice(tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 1)
    async with Sandbox(tmp_path / "sandbox") as sandbox:
        words = ("m.yaml", "--endpoint", sandbox.url)
        assert (await asyncio.to_thread(lambda: command(tmp_path, "run", *words))).returncode == 0
        (path,) = (tmp_path / ".batcher").glob("m-*.sqlite")
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version=99")
        connection.close()
        for name in ("run", "status", "plan"):
            result = await asyncio.to_thread(lambda name=name: command(tmp_path, name, *words))
            assert result.returncode == 12, result.stderr
            assert "newer batcher" in result.stderr
            assert "update batcher" in result.stderr
            assert "Traceback" not in result.stderr


LOST = {
    "open and empty": "upload:status=503",
    "partly uploaded": "upload:after=5,status=503",
    "uploaded": "start:status=503",
    "some started": "start:after=1,status=503",
    "all started": "start:nth=99,status=503",
    "start lost": "start:nth=2,lost_reply=close+flow:status=503",
}


MORE = [("partly uploaded", "content"), ("all started", "content"), ("start lost", "untagged")]


@pytest.mark.parametrize(
    ("lost", "change"),
    [*((lost, "nothing") for lost in LOST), *MORE,
     *(pytest.param(lost, change, marks=pytest.mark.long)
       for lost in LOST for change in ("content", "untagged") if (lost, change) not in MORE)],
)  # fmt: skip
async def test_lost_journal_stops_the_run_and_adopting_never_pays_twice(tmp_path: Path, lost: str, change: str) -> None:
    paths = files(tmp_path, 3)
    batch = Batch(tmp_path, paths, flows=2, limits=replace(QUICK, retries=1))
    batch.additional = {0: "words", 1: [1]} if change == "untagged" else {}
    faults = [parse_fault(one) for one in LOST[lost].split("+")]
    async with Sandbox(tmp_path / "sandbox", faults=faults) as sandbox:
        await batch.run(sandbox.url)
        await order_faults(sandbox.url)
        before = {flow["flow_id"] for flow in (await read_record(sandbox.url))["flows"] if flow["starts"]}
        uploaded = (await read_record(sandbox.url))["requests"].get("upload", 0)
        forget(tmp_path / ".batcher")
        report = await batch.run(sandbox.url)
        assert report.exit_code == 12, report.problems
        assert "--adopt" in report.problems[-1].hint
        assert {flow["flow_id"] for flow in (await read_record(sandbox.url))["flows"] if flow["starts"]} == before
        if change == "content":
            paths[1].write_bytes(paths[1].read_bytes() + b"more")
        report = await batch.run(sandbox.url, Settings(Options(adopt=True)))
        record = await read_record(sandbox.url)
        assert report.exit_code == 0, report.problems or report.stop
        names = Counter(flow["additional"]["batcher"]["flow"] for flow in record["flows"] if flow["starts"])
        assert sorted(names.values()) == [1, 1]
        assert all(flow["starts"] <= 1 for flow in record["flows"])
        assert not [flow for flow in record["flows"] if not flow["starts"] and not flow["deleted"]]
        meant = Counter(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
        for flow in record["flows"]:
            if flow["starts"] and flow["flow_id"] not in before:
                assert Counter(item["sha256"] for item in flow["inputs"]) == meant
        if change == "nothing" and lost in ("uploaded", "some started", "all started"):
            assert record["requests"].get("upload", 0) == uploaded, "what was there already was sent again"
        assert report.flows.changed == (len(before) if change == "content" else 0)
        # What carries no tag cannot be compared: the flow is paid for, and that is said.
        assert sum("cannot be told" in problem.message for problem in report.problems) == (
            len(before) if change == "untagged" else 0
        )


# ---- intents


class Watched(FlowsApi):
    """A client that looks into the journal's file before each write leaves: its intent must be there."""

    path: Path
    writes = 0

    def _ask(self, sql: str, *values: object) -> str | None:
        connection = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        try:
            row = connection.execute(sql, values).fetchone()
        finally:
            connection.close()
        Watched.writes += 1
        return None if row is None else row[0]

    async def create(self, template, parameters, additional, mark_sent):
        tag = additional["batcher"]
        found = self._ask("SELECT state || '/' || generation FROM flows WHERE name=?", tag["flow"])
        assert found == f"creating/{tag['build'].rpartition('-')[2]}"
        return await super().create(template, parameters, additional, mark_sent)

    async def upload(self, flow_id, body, mark_sent):
        key = json.loads(body.content)["additional"]["batcher"]["key"] if isinstance(body, SmallBody) else body._plan.key.hex()
        assert self._ask("SELECT state FROM inputs WHERE hex(key)=?", key.upper()) == "sending"
        return await super().upload(flow_id, body, mark_sent)

    async def start(self, flow_id, mark_sent):
        assert self._ask("SELECT state FROM flows WHERE flow_id=?", flow_id) == "starting"
        return await super().start(flow_id, mark_sent)


@pytest.mark.parametrize("fault", ["*:every=9,status=503", "*:every=7,lost_reply=close", "*:every=7,error_after_commit=500"])
async def test_no_write_leaves_without_a_durable_intent(tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Batch(tmp_path, files(tmp_path, 4), flows=3, limits=QUICK)
    journal = SqliteJournal(tmp_path / "j" / "m.sqlite", "m", LIMITS.settle_s)
    Watched.path, Watched.writes = tmp_path / "j" / "m.sqlite", 0
    monkeypatch.setattr(batcher.assembly, "FlowsApi", Watched)
    async with Sandbox(tmp_path / "sandbox", faults=[parse_fault(fault)]) as sandbox:
        report = await run(batch.manifest(sandbox.url), journal=journal)
        journal.close()
        await batch.judge(sandbox.url, report)
        requests = (await read_record(sandbox.url))["requests"]
    assert Watched.writes >= sum(requests[call] for call in ("create", "upload", "start")) >= 3 + 12 + 3
    assert without_tag({"batcher": 1}) == {}


# ---- clocks


class Jumping:
    """A wall clock that somebody sets: `by` is how far it is off, and it may change at each look."""

    def __init__(self, *offsets: float) -> None:
        self.offsets = list(offsets)
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        return time.time() + self.offsets[min(self.looks - 1, len(self.offsets) - 1)]


HOUR, YEAR = 3600.0, 365 * 86400.0
JUMPS = [HOUR, -HOUR, 10 * YEAR, -10 * YEAR]


def clocked(folder: Path, offset: float, settle_s: float) -> SqliteJournal:
    return SqliteJournal(folder / "j" / "m.sqlite", "m", settle_s, wall=Jumping(offset))


@pytest.mark.parametrize("jump", [HOUR, -10 * YEAR])
async def test_wall_clock_that_is_set_between_runs_cuts_no_settling_time_short_and_none_lasts(
    tmp_path: Path, jump: float
) -> None:
    """An upload is answered with 500, and may be done until the settling time of 2 s is over; the run is ended at once,
    and the clock is set before the next: the flow is started when two seconds have really passed, and not much later."""
    limits = replace(LIMITS, settle_s=2.0, retries=1)
    batch = Batch(tmp_path, files(tmp_path, 3), flows=1, limits=limits)
    faults = [parse_fault("upload:nth=2,status=500")]
    async with Sandbox(tmp_path / "sandbox", faults=faults) as sandbox:
        journal = clocked(tmp_path, 0, 2.0)
        sent = time.time()

        def soon(operation) -> None:
            timer = threading.Timer(0.7, lambda: loop.call_soon_threadsafe(operation.halt, Stop(Reason.DEADLINE, "enough")))
            timer.start()

        loop = asyncio.get_running_loop()
        report = await run(batch.manifest(sandbox.url), journal=journal, started=soon)
        journal.close()
        assert report.exit_code == 10, report.problems
        judge_starts(await read_record(sandbox.url), batch)
        journal = clocked(tmp_path, jump, 2.0)
        report = await run(batch.manifest(sandbox.url), journal=journal)  # pytest's timeout ends one that waits for a clock
        journal.close()
        await batch.judge(sandbox.url, report)
        (flow,) = judge_starts(await read_record(sandbox.url), batch)
    assert report.exit_code == 0, report.problems or report.stop
    assert flow["started_at"] >= sent + 2.0, "the settling time was cut short"


async def test_journals_time_goes_on_with_the_steady_clock_however_the_wall_clock_is_set(tmp_path: Path) -> None:
    steady = [1000.0]

    def opened(jump: float) -> SqliteJournal:
        return SqliteJournal(tmp_path / "m.sqlite", "b", 15, wall=Jumping(jump), steady=lambda: steady[0])

    journal = opened(0)
    began = journal.now()
    steady[0] += 5
    assert journal.now() == began + 5
    journal.close()
    for jump in (*JUMPS, 0.0):
        steady[0] += 10
        journal = opened(jump)
        assert journal.now() == pytest.approx(began + steady[0] - 1000, abs=1e-3)
        journal.close()


@pytest.mark.parametrize("jump", JUMPS)
async def test_after_a_start_of_the_machine_what_was_under_way_is_waited_for_anew_and_not_longer(
    tmp_path: Path, jump: float
) -> None:
    journal = SqliteJournal(tmp_path / "m.sqlite", "b", 15)
    until = journal.now() + 15
    await journal.record(
        PutFlow(FlowFacts("o", FlowState.OPEN, "i", start_after=until)),
        PutFlow(FlowFacts("c", FlowState.CREATING, settle_deadline=until)),
        PutInput("o", InputFacts(b"k" * 16, InputState.UNKNOWN, settle_deadline=until)), Watch(until + 1e6),
    )  # fmt: skip
    journal.close()
    journal = SqliteJournal(tmp_path / "m.sqlite", "b", 15, wall=Jumping(jump), boot=lambda: b"another".ljust(48, b"\0"))
    anew = pytest.approx(journal.now() + 15, abs=1.0)
    facts, creating = journal.flow("o"), journal.flow("c")
    assert facts is not None
    assert creating is not None
    assert facts.start_after == anew
    assert facts.settle_deadline is None
    assert creating.settle_deadline == anew
    assert [row.settle_deadline for row in journal.input_rows("o")] == [anew]
    assert journal.watch_until <= journal.now() + WATCH_S
    journal.close()


async def test_time_that_lies_further_ahead_than_the_settling_time_is_no_time(tmp_path: Path) -> None:
    """Written by a clock that was wrong, or with a settling time that has been made shorter since."""
    journal = SqliteJournal(tmp_path / "m.sqlite", "b", 15)
    far = journal.now() + YEAR
    await journal.record(
        PutFlow(FlowFacts("o", FlowState.OPEN, "i", start_after=far)),
        PutInput("o", InputFacts(b"k" * 16, InputState.UNKNOWN, settle_deadline=far)),
        PutFlow(FlowFacts("s", FlowState.STARTING, "j", settle_deadline=far)), Watch(far),
    )  # fmt: skip
    journal.close()
    journal = SqliteJournal(tmp_path / "m.sqlite", "b", 5)
    most = journal.now() + 5
    assert journal.flow("o").start_after <= most
    assert journal.flow("s").settle_deadline <= most
    assert next(journal.input_rows("o")).settle_deadline <= most
    assert journal.watch_until <= journal.now() + WATCH_S
    journal.close()


async def test_failed_opening_lets_go_of_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    path.write_bytes(b"no database" * 1000)
    for _ in range(2):
        with pytest.raises(JournalError):
            SqliteJournal(path, "b", 1)
    path.unlink()
    journal = SqliteJournal(path, "b", 1)
    with pytest.raises(Locked):
        SqliteJournal(path, "b", 1)
    journal.close()
