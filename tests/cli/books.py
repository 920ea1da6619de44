"""A manifest and a journal as runs leave them, written by the journal itself: thousands of flows in a second, no service."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from batcher.api import load_manifest
from batcher.core.errors import Reason, Stop
from batcher.core.facts import FileStat, FlowFacts, InputFacts, PutFlow, PutInput, PutRun, PutTimes, Record
from batcher.core.lifecycle import FlowState, InputState
from batcher.core.measuring import FlowTimes, Measures, run_document
from batcher.core.model import ABSENT, FileSource, Input, Manifest, Place, Problem
from batcher.core.report import Report, problem_json
from batcher.core.retry import Call, Kind
from batcher.core.tags import InputKeys
from batcher.journal.open import journal_path
from batcher.journal.sqlite import SqliteJournal

URL = "http://127.0.0.1:9"  # nothing listens there: these commands use no network
PNG = b"\x89PNG\r\n\x1a\n"


def names(count: int) -> list[str]:
    kinds = ("armchair", "stool", "lamp", "Regal für Bücher", "椅子")
    return [f"{kinds[n % len(kinds)]} {n}" for n in range(count)]


def write(folder: Path, flows: Sequence[str], *, inputs: int = 2, ended: bool = True, stop: bool = False) -> Manifest:
    """A manifest `m.yaml` of these flows, and its journal: every seventh flow has a problem, every ninth is under way, every
    eleventh was never begun, the others are started."""
    (folder / "a.png").write_bytes(PNG + b"a" * 99)
    items = [{"name": name, "template": "model_generate_fromimage", "inputs": ["a.png"] * inputs} for name in flows]
    (folder / "m.yaml").write_text(json.dumps({"version": 1, "endpoint": URL, "flows": items}))
    manifest = load_manifest(folder / "m.yaml")
    with ThreadPoolExecutor(1) as beside:  # a loop of its own: the caller may be in one
        beside.submit(asyncio.run, _journal(manifest, flows, inputs, ended, stop)).result()
    return manifest


async def _journal(manifest: Manifest, flows: Sequence[str], inputs: int, ended: bool, stop: bool) -> None:
    journal = SqliteJournal(journal_path(manifest, None), manifest.batch, 15)
    began = time.time() - 100
    report = Report(manifest.name, manifest.endpoint)
    report.flows.total, report.inputs.total = len(flows), len(flows) * inputs
    measures = Measures(0.0)
    for n, name in enumerate(flows):
        at = 90 * n / len(flows)
        problem = state = None
        if n % 7 == 3:
            state, message = FlowState.OPEN, f"a.png was refused: 422: no. {n}"
            hint = "change what the service objects to, then run again"
            problem = Problem("refused", message, hint, None, name, "a.png", 422)
            report.add(problem)
        elif n % 11 == 5:
            continue
        elif n % 9 == 4:
            state = FlowState.OPEN
        done = inputs if state is None else inputs - 1
        records: list[Record] = []
        times = FlowTimes(began + at, began + at + 0.5, began + at + 1, began + at + 2)
        keys = InputKeys(manifest.batch, name)
        source = Input("a.png", FileSource("a.png"), None, ABSENT, Place("m.yaml"))
        for number in range(inputs):
            took = 0.02 * (1 + (n + number) % 9)
            measures.leaves(at + number * 0.1)
            measures.ends(at + number * 0.1 + took, Call.UPLOAD, took, Kind.DONE if number < done else Kind.REFUSED)
            accepted = InputState.ACCEPTED if number < done else InputState.PENDING
            records.append(PutInput(name, InputFacts(keys.next(source), accepted, b"s" * 32, b"m", FileStat(1_000_000))))
            if number < done:
                measures.accepted(at + number * 0.1 + took, 1_000_000)
        if state is None:
            times.verified = times.started = began + at + 3
            report.flows.started += 1
        text = json.dumps(problem_json(problem)) if problem is not None else None
        facts = FlowFacts(name, state or FlowState.STARTED, f"6b{n:022x}", 1, inputs=inputs, size_bytes=inputs * 1_000_000,
                          started_at=times.started, problem=text)  # fmt: skip
        journal.post(PutFlow(facts), *records, PutTimes(name, times))
    report.requests.sent = len(flows) * inputs
    if stop:
        report.stop = Stop(Reason.FATAL, "the credit is exhausted", "top it up, then run again", 402)
    document = run_document(report, measures, 95.0, ended)
    await journal.record(PutRun(began - 5000, 7, document), PutRun(began, report.requests.sent, document))
    journal.close()
