"""`batcher run`: in: flags; out: progress on stderr, a summary or a document on stdout, the exit code of the contract."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..api import run as run_batch
from ..core.errors import BatcherError, UsageError
from ..core.report import Report
from ..reporting.progress import size, style_of
from ..service.credentials import Mask
from . import common
from .afterwards import Afterwards, load_failed
from .collect import collected


@click.command("run", short_help="bring a batch to done")
@common.common
@click.option("--concurrency", type=click.IntRange(1, 1024), help="requests in flight at most")
@click.option("--rate", type=common.RATE, help="requests, as 20/s or 300/min")
@click.option("--bandwidth", type=common.BANDWIDTH, help="bytes sent, as 20MB/s")
@click.option("--timeout", type=common.DURATION, help="no progress on a request for this long")
@click.option("--retries", type=click.IntRange(0, 100), help="attempts after the first, per request")
@click.option("--max-duration", type=common.DURATION, help="end in order after this long; a later run resumes")
@common.MAX_STARTS
@click.option("--keep-going", is_flag=True, help="send the healthy rest where a source is at fault")
@click.option("--resubmit-changed", is_flag=True, help="pay again for flows that changed after they were started")
@click.option("--redo", **common.NAMES, help="pay again for this flow (a pattern; repeatable)")
@click.option("--no-start", is_flag=True, help="upload and verify; a later run starts")
@click.option("--checksum", is_flag=True, help="read every source again, whatever its size and time say")
@click.option("--adopt", is_flag=True, help="take over flows of this batch that the journal does not know")
@click.option("--only", **common.NAMES, help="only these flows (a pattern; repeatable)")
@click.option("--collect", "collect_to", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="then wait for the outputs and bring them there, as collect does")
@click.option("--accept-fewer", is_flag=True, help="with --collect: as there")
@common.METRICS
def command(
    manifest: str, endpoint: str | None, state: Path | None, ca_file: str | None, as_json: bool, quiet: bool,
    verbose: bool, log_format: str | None, log_file: str | None, progress: str, concurrency: int | None, rate: float | None,
    bandwidth: float | None, timeout: float | None, retries: int | None, collect_to: Path | None,
    accept_fewer: bool, metrics: str | None, max_starts: int | None, **options: Any,
) -> None:  # fmt: skip
    """Bring the batch of MANIFEST to done: create its flows, upload, verify, start each once.

    Run it again after anything: it resumes, and never starts a flow twice. The API key comes from GENERIO_API_KEY.
    """
    mask = Mask()
    events = common.open_log(log_file, log_format, verbose, mask)
    try:
        if accept_fewer and collect_to is None:
            raise UsageError("--accept-fewer is about outputs", "add --collect DIR")
        with load_failed(events, manifest):
            loaded = common.load(manifest, endpoint, as_json, concurrency=concurrency, rate_per_s=rate,
                                 bandwidth_bytes_per_s=bandwidth, timeout_s=timeout, retries=retries,
                                 starts_per_run=max_starts)  # fmt: skip
        settings = replace(common.settings(state=state, ca_file=ca_file, **options), key=partial(common.read_key, mask))
        work = partial(run_batch, loaded, settings, collect_to=collect_to, accept_fewer=accept_fewer, events=events)
        after = Afterwards.of(loaded, events, mask, "run", metrics, ca_file)
        report = asyncio.run(common.watched(work, loaded, style_of(progress, quiet or as_json, common.dumb()), after))
    except BatcherError as error:
        common.exit_for(error, manifest, as_json, quiet=quiet)
    if not quiet and not as_json:
        common.out(summary(report) if report.outputs is None else f"{summary(report)}\n{collected(report)}")
    if quiet and report.exit_code == 0:
        if as_json:
            common.out(common.document(report.json()))
        return
    common.finish(report, as_json, closing=quiet and not as_json)


def summary(report: Report) -> str:
    """What came of a run, for people: two lines."""
    flows, inputs = report.flows, report.inputs
    parts = [f"{flows.started_now} started now", f"{flows.started} of {flows.total} started"]
    others = {"failed": flows.failed, "pending": flows.pending, "changed": flows.changed}
    parts += [f"{count} {what}" for what, count in others.items() if count]
    return (
        f"flows:  {', '.join(parts)}\n"
        f"inputs: {inputs.uploaded_now} uploaded now ({size(inputs.bytes_now)}), {inputs.uploaded} of {inputs.total} "
        f"uploaded; {report.requests.sent} requests, {report.requests.retried} retries, {report.elapsed_s:.1f} s"
    )
