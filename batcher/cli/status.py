"""`batcher status`: in: a manifest; out: what its journal knows, on stdout. No network, no lock, no write."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ..api import journal_path
from ..core.errors import BatcherError
from ..core.facts import FlowFacts
from ..core.lifecycle import FlowState
from ..core.model import Problem
from ..core.report import Report
from ..edges.journal import JournalReader, MemoryJournal
from . import common


@click.command("status", short_help="what the journal knows")
@common.common
def command(
    manifest: str, endpoint: str | None, state: Path | None, ca_file: str | None, as_json: bool, quiet: bool,
    verbose: bool, log_format: str, log_file: str | None, progress: str,
) -> None:  # fmt: skip
    """Show what the journal knows of MANIFEST: per flow its state, inputs done, flow id, last problem."""
    try:
        loaded = common.load(manifest, endpoint, as_json)
        path = journal_path(loaded, state)
        journal = JournalReader(path) if path.is_file() else MemoryJournal()
        report = Report(loaded.name, loaded.endpoint)
        flows: list[dict[str, object]] = []
        for facts in journal.flows():
            accepted = journal.count_accepted(facts.name)
            _count(report, facts, accepted)
            if as_json and len(flows) < 1000:
                flows.append({"flow": facts.name, "state": facts.state.value, "flow_id": facts.flow_id,
                              "inputs": facts.inputs, "uploaded": accepted})  # fmt: skip
            elif not as_json and not quiet:
                print(f"{facts.state.value:8} {accepted:6}/{facts.inputs:<6} {facts.flow_id or '-':26} {facts.name}")
        journal.close()
    except BatcherError as error:
        common.exit_for(error, manifest, as_json)
    flow_counts = report.flows
    flow_counts.pending = flow_counts.total - flow_counts.started - flow_counts.failed
    report.inputs.pending = report.inputs.total - report.inputs.uploaded
    if as_json:
        print(json.dumps(report.json() | {"journal": flows, "exit_code": 0}, ensure_ascii=False))
        return
    if not quiet:
        print(f"flows: {flow_counts.started} of {flow_counts.total} started" if flow_counts.total else "nothing was run yet")
    common.list_problems(report.problems, report.problems_total)


def _count(report: Report, facts: FlowFacts, accepted: int) -> None:
    report.flows.total += 1
    report.flows.started += facts.state is FlowState.STARTED
    report.inputs.total += facts.inputs
    report.inputs.uploaded += accepted
    report.inputs.bytes += facts.size_bytes if facts.state is FlowState.STARTED else 0
    if facts.problem:
        kept = json.loads(facts.problem)
        report.flows.failed += 1
        report.add(Problem(kept["kind"], kept["message"], kept["hint"], None, kept["flow"], kept["input"], kept["status"]))
