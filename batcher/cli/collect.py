"""`batcher collect`: in: flags; out: files in a folder, progress on stderr, a summary or a document on stdout, exit code."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..api import collect
from ..core.errors import BatcherError
from ..core.output_names import DEFAULT_NAME
from ..core.report import Report
from ..reporting.progress import size, style_of
from ..service.credentials import Mask
from . import common
from .afterwards import Afterwards, load_failed


@click.command("collect", short_help="wait for started flows and download their outputs")
@common.common
@click.option("--to", required=True, type=click.Path(path_type=Path), metavar="DIR", help="where the outputs go")
@click.option("--name", default=DEFAULT_NAME, show_default=True, metavar="PATTERN",
              help="of {flow} {stem} {suffix} {name} {parent} {index} {asset_id}")
@click.option("--wait", "wait_s", type=common.DURATION, help="wait for running flows so long at most; 0: not at all")
@click.option("--delete-remote", is_flag=True, help="delete a flow from the service once its outputs are verified on disk")
@click.option("--accept-fewer", is_flag=True, help="a completed flow with fewer outputs than inputs is whole nevertheless")
@click.option("--checksum", is_flag=True, help="read every file again, whatever its size and time say")
@click.option("--only", **common.NAMES, help="only these flows (a pattern; repeatable)")
@click.option("--concurrency", type=click.IntRange(1, 1024), help="requests in flight at most")
@click.option("--rate", type=common.RATE, help="requests, as 20/s or 300/min")
@click.option("--timeout", type=common.DURATION, help="no progress on a request for this long")
@click.option("--retries", type=click.IntRange(0, 100), help="attempts after the first, per request")
@common.METRICS
def command(
    manifest: str, endpoint: str | None, state: Path | None, ca_file: str | None, as_json: bool, quiet: bool,
    verbose: bool, log_format: str | None, log_file: str | None, progress: str, to: Path, name: str, wait_s: float | None,
    delete_remote: bool, accept_fewer: bool, concurrency: int | None, rate: float | None, timeout: float | None,
    retries: int | None, metrics: str | None, **options: Any,
) -> None:  # fmt: skip
    """Wait for the flows of MANIFEST that were started, and download their outputs to DIR, each once.

    Run it again after anything: what is there and whole is not downloaded again. DIR/results.csv and .jsonl tell which
    output came from which source; what failed flows left is in DIR/failed.
    """
    mask = Mask()
    events = common.open_log(log_file, log_format, verbose, mask)
    try:
        with load_failed(events, manifest):
            loaded = common.load(manifest, endpoint, as_json, concurrency=concurrency, rate_per_s=rate,
                                 timeout_s=timeout, retries=retries)  # fmt: skip
        settings = replace(common.settings(state=state, ca_file=ca_file, **options), key=partial(common.read_key, mask))
        work = partial(collect, loaded, to, settings, name=name, wait_s=wait_s, delete_remote=delete_remote,
                       accept_fewer=accept_fewer, events=events)  # fmt: skip
        after = Afterwards.of(loaded, events, mask, "collect", metrics, ca_file)
        report = asyncio.run(common.watched(work, loaded, style_of(progress, quiet or as_json, common.dumb()), after))
    except BatcherError as error:
        common.exit_for(error, manifest, as_json, quiet=quiet)
    if not quiet and not as_json:
        common.out(collected(report))
    if quiet and report.exit_code == 0:
        if as_json:
            common.out(common.document(report.json()))
        return
    common.finish(report, as_json, closing=quiet and not as_json)


def collected(report: Report) -> str:
    """What came of it, for people: two or three lines."""
    outputs, ends, flows = report.outputs, report.ends, report.flows
    assert outputs is not None
    assert ends is not None
    counts = {
        "completed": ends.completed, "failed": ends.failed, "aborted": ends.aborted, "running": ends.running,
        "unknown": ends.unknown, "deleted from the service": ends.deleted, "not started": flows.total - flows.started,
    }  # fmt: skip
    parts = [f"{count} {what}" for what, count in counts.items() if count] or ["none started"]
    failed = f", {outputs.failed} not to be had" if outputs.failed else ""
    failed += f", {outputs.missing} missing" if outputs.missing else ""
    lines = [
        f"flows:   {', '.join(parts)}",
        f"outputs: {outputs.collected_now} collected now ({size(outputs.bytes_now)}), {outputs.collected} of "
        f"{outputs.total} collected{failed}; {report.requests.sent} requests, {report.requests.retried} retries, "
        f"{report.elapsed_s:.1f} s",
    ]
    if outputs.shared_names:
        lines.append(f"names:   {outputs.shared_names} inputs ask for a name that others ask for: a short key tells them apart")
    if outputs.without_source:
        lines.append(f"names:   {outputs.without_source} outputs cannot be told their input: they are named by their ids")
    if outputs.longer:
        lines.append(f"note:    {outputs.longer} GLBs have bytes after their declared end: they are kept as they came")
    return "\n".join(lines)
