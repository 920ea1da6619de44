"""How a flow stands, at every station of its way, and what of it is told."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from batcher.cli.batch_status import FIRST, BatchStatus, batch_status
from batcher.cli.columns import width
from batcher.cli.commands.gallery import _card_state
from batcher.cli.flow_status import FlowStatus, lines
from batcher.cli.status_sums import totals
from batcher.cli.status_table import Terminal, lines_of
from batcher.core.facts import (
    AttemptFacts,
    EndFacts,
    FileStat,
    FlowFacts,
    InputFacts,
    OutputFacts,
    OutputState,
    PutAttempt,
    PutEnd,
    PutFlow,
    PutInput,
    PutOutput,
    PutRun,
    Record,
    Remote,
)
from batcher.core.lifecycle import FlowState, InputState
from batcher.core.model import JSON, Limits, Manifest, Problem
from batcher.core.price import parse_price
from batcher.core.report import problem_json
from batcher.gallery.cards import State
from batcher.journal.memory import MemoryJournal
from batcher.pipeline.refresh import Refreshed

MANIFEST = Manifest("m.yaml", "/m.yaml", "/", "m", "http://127.0.0.1:9", Limits(), lambda: iter(()))
NOW = 1_000_000.0


def flow(name: str, state: FlowState = FlowState.STARTED, inputs: int = 3) -> PutFlow:
    known = state not in (FlowState.PLANNED, FlowState.CREATING)
    return PutFlow(FlowFacts(name, state, f"id-{name}" if known else None, 1, inputs=inputs, size_bytes=9))


def end(name: str, state: str, **more: object) -> PutEnd:
    return PutEnd(EndFacts(f"id-{name}", name, state, **more))  # type: ignore[arg-type]  # named fields


def outputs(name: str, *states: OutputState) -> list[Record]:
    return [PutOutput(OutputFacts(f"id-{name}", f"a{n}", None, state, stat=FileStat(7))) for n, state in enumerate(states)]


def run_note(command: str, code: int, *problems: Problem, **more: JSON) -> PutRun:
    counts: dict[str, JSON] = {"total": 0}
    document: Mapping[str, JSON] = {
        "command": command, "exit_code": code, "elapsed_s": 1.0, "flows": counts, "inputs": counts,
        "problems": [problem_json(problem) for problem in problems], **more,
    }  # fmt: skip
    return PutRun(NOW - 10, 1 if command == "run" else 0, document)


def looked(journal: MemoryJournal, asked: Refreshed | None = None, *problems: Problem) -> BatchStatus:
    return batch_status(journal, MANIFEST, asked, problems)


GOT, THERE, BAD = OutputState.COLLECTED, OutputState.LISTED, OutputState.REFUSED
WAY: list[tuple[str, list[Record], FlowStatus, str]] = [
    ("planned", [flow("f", FlowState.PLANNED)], FlowStatus.PLANNED, "planned"),
    ("creating", [flow("f", FlowState.CREATING)], FlowStatus.UPLOADING, "uploading"),
    ("open", [flow("f", FlowState.OPEN)], FlowStatus.UPLOADING, "uploading"),
    ("starting", [flow("f", FlowState.STARTING)], FlowStatus.UPLOADING, "uploading"),
    ("started", [flow("f")], FlowStatus.STARTED, "started"),
    ("running", [flow("f"), end("f", "running", progress=0.45)], FlowStatus.RUNNING, "running 45%"),
    ("a word of the service's own", [flow("f"), end("f", "queued")], FlowStatus.RUNNING, "queued"),
    ("on its way to its end", [flow("f"), end("f", "aborting", progress=0.5)], FlowStatus.RUNNING, "aborting 50%"),
    ("failed", [flow("f"), end("f", "failed", reason="OOM")], FlowStatus.FAILED, "failed"),
    ("aborted", [flow("f"), end("f", "cancelled")], FlowStatus.ABORTED, "aborted"),
    ("completed", [flow("f"), end("f", "completed")], FlowStatus.COMPLETED, "completed"),
    ("in part", [flow("f"), end("f", "completed", listed=True), *outputs("f", GOT, THERE)], FlowStatus.COMPLETED, "completed"),
    ("collected", [flow("f"), end("f", "succeeded", listed=True), *outputs("f", GOT, GOT)], FlowStatus.COLLECTED, "collected"),
    (
        "deleted",
        [flow("f"), end("f", "completed", listed=True, remote=Remote.DELETED), *outputs("f", GOT)],
        FlowStatus.DELETED,
        "deleted",
    ),
    ("missing", [flow("f"), end("f", "completed", missing=1), *outputs("f", GOT, GOT)], FlowStatus.PROBLEM, "problem"),
    (
        "fewer, as it should be",
        [flow("f"), end("f", "completed", listed=True, missing=2, accepted=True), *outputs("f", GOT)],
        FlowStatus.COLLECTED,
        "collected",
    ),
    ("in error", [flow("f"), end("f", "completed"), *outputs("f", GOT, BAD)], FlowStatus.PROBLEM, "problem"),
]


@pytest.mark.parametrize(("records", "status", "words"), [case[1:] for case in WAY], ids=[case[0] for case in WAY])
def test_every_station_of_the_way_has_its_word(records: list[Record], status: FlowStatus, words: str) -> None:
    journal = MemoryJournal()
    journal.post(*records)
    (line,) = lines(journal)
    assert (line.status, line.words) == (status, words)
    assert (line.problem is not None) == status.is_bad
    assert status.is_started == line.started or status is FlowStatus.PROBLEM


def test_all_stations_are_tried() -> None:
    assert {case[2] for case in WAY} == set(FlowStatus)


def test_the_gallery_says_of_what_is_completed_that_it_is_to_be_collected() -> None:
    journal = MemoryJournal()
    journal.post(flow("f"), end("f", "running"), flow("g"), end("g", "completed"))
    running, completed = map(_card_state, lines(journal))
    assert running.state is State.RUNNING
    assert (completed.state, completed.said) == (State.MISSING, "it is completed, and not collected yet")


def test_reasons_folders_and_earlier_attempts_are_told() -> None:
    journal = MemoryJournal()
    journal.post(
        flow("bad"), end("bad", "failed", reason="out of memory"),
        flow("good"), end("good", "completed", listed=True, folder="/x/out"), *outputs("good", GOT, GOT),
        PutAttempt(AttemptFacts("good", "id-old", 1, 5.0)),
        PutEnd(EndFacts("id-old", "good", "failed", reason="the legs\x1b[2J melted")),
    )  # fmt: skip
    found = looked(journal)
    text = lines_of(found, Terminal(100))
    assert text[1].startswith("failed")
    assert "  ↳ it failed on the service: out of memory" in text
    assert any(line.startswith("  ↺ attempt 1 was id-old: failed: the legs") for line in text)
    assert not any("\x1b" in line for line in text)
    assert any(line.split()[:3] == ["collected", "3/3", "2/2"] for line in text)
    sums = totals(found, Limits(price_per_start=parse_price("0.40 EUR")), Terminal(100), NOW)
    assert "flows:   2 of 2 started, 1 failed, 1 collected" in sums
    assert "outputs: 2 of 2 collected, 14 B, to /x/out" in sums
    assert "paid:    1.20 EUR for 3 starts" in sums


def test_what_a_collect_said_is_a_problem_of_its_flow_and_what_a_run_noted_is_none() -> None:
    journal = MemoryJournal()
    gone = Problem("unsettled", "the service does not know it", flow="a")
    note = Problem("changed", "it changed after it was started", flow="b")
    journal.post(flow("a"), flow("b"), run_note("run", 0, note))
    assert looked(journal).counts == {FlowStatus.STARTED: 2}
    assert [problem.message for problem in looked(journal).free] == [note.message]
    journal.post(PutRun(NOW, 0, run_note("collect", 12, gone, ends={}).document))
    found = looked(journal)
    assert found.counts == {FlowStatus.PROBLEM: 1, FlowStatus.STARTED: 1}
    assert [problem.message for problem in found.free] == [note.message], "the run before it still says what it said"
    (line,) = (line for line in totals(found, Limits(), Terminal(90), NOW) if line.startswith("collect: "))
    assert line.endswith("ended with 12")


def test_what_is_open_after_an_interrupted_run_is_told_with_what_follows() -> None:
    journal = MemoryJournal()
    unknown = InputFacts(b"k" * 16, InputState.UNKNOWN)
    journal.post(flow("a", FlowState.OPEN), PutInput("a", unknown), flow("b", FlowState.STARTING))
    said = " ".join(" ".join(totals(looked(journal), Limits(settle_s=15.0), Terminal(80), NOW)).split())
    assert "open: no reply was seen to 1 upload and 1 create or start; a run asks the service first." in said
    assert "within 15.0 s is deleted and built anew, at no cost" in said


def test_what_the_service_has_just_shown_stands_above_the_journal_unless_that_is_newer() -> None:
    journal = MemoryJournal()
    journal.post(flow("a"), flow("b"))
    shown = {name: EndFacts(f"id-{name}", name, "running", progress=0.5) for name in ("a", "b")}
    asked = Refreshed({row.flow_id: row for row in shown.values()}, {"id-a": None, "id-b": None}, asked=2)
    assert looked(journal, asked).counts == {FlowStatus.RUNNING: 2}
    journal.post(end("b", "completed", listed=True, remote=Remote.DELETED))  # somebody has collected it meanwhile
    assert looked(journal, asked).counts == {FlowStatus.RUNNING: 1, FlowStatus.DELETED: 1}
    assert [put.facts.flow_id for put in asked.records({"id-b": EndFacts("id-b", "b", "completed")})] == ["id-a"]


def test_however_many_flows_there_are_few_lines_are_held_and_all_are_counted() -> None:
    journal = MemoryJournal()
    journal.post(*(flow(f"f{n}") for n in range(3000)), *(end(f"f{n}", "failed") for n in range(2000, 3000)))
    found = looked(journal)
    assert found.counts == {FlowStatus.STARTED: 2000, FlowStatus.FAILED: 1000}
    assert len(found.lines) <= FIRST + 50 * len(FlowStatus)
    text = lines_of(found, Terminal(80))
    assert "… 980 more failed (--all lists them)" in text
    assert "… 1,980 more started (--all lists them)" in text
    assert len(batch_status(journal, MANIFEST, most=None).lines) == 3000


@pytest.mark.parametrize("columns", range(40, 201, 16))
def test_no_line_is_wider_than_the_terminal(columns: int) -> None:
    journal = MemoryJournal()
    names = ["a" * 300, "名前" * 50, "short"]
    for name in names:
        journal.post(flow(name, inputs=12345), end(name, "running", progress=0.5))
    journal.post(flow("x"), end("x", "failed", reason="why " * 90), *outputs("x", GOT, THERE))
    journal.post(flow("late"), end("late", "a-word-that-is-longer-than-any-state", progress=1.0, folder="/" + "long/" * 60))
    journal.post(run_note("run", 12, Problem("unsettled", "something " * 30, "do " * 60)))
    found = looked(journal)
    terminal = Terminal(columns)
    limits = Limits(price_per_start=parse_price("0.40 EUR"))
    for line in [*lines_of(found, terminal), *totals(found, limits, terminal, NOW, asked="asked:   about 1 flow, " * 9)]:
        assert width(line) <= columns, line
    assert json.dumps(found.report.json())
