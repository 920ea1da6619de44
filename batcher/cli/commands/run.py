"""`batcher run`: in: flags; out: progress on stderr, a summary or a document on stdout, the exit code."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from ...api import run as run_batch
from ...core.errors import UsageError
from ...core.report import Report
from ...core.text import size
from .. import flags, output
from ..carry_out import carry_out


@flags.command("run", "bring a batch to done")
@flags.CONCURRENCY
@flags.RATE
@flags.BANDWIDTH
@flags.TIMEOUT
@flags.RETRIES
@click.option("--max-duration", type=flags.DURATION, help="end in order after this long; a later run resumes")
@flags.MAX_STARTS
@flags.LEASE
@click.option("--keep-going", is_flag=True, help="send the healthy rest where a source is at fault")
@flags.RESUBMIT_CHANGED
@flags.REDO
@flags.REDO_FAILED
@flags.REDO_FROM
@click.option("--no-start", is_flag=True, help="upload and verify; a later run starts")
@flags.CHECKSUM
@click.option("--adopt", is_flag=True, help="take over flows of this batch that the journal does not know")
@flags.ONLY
@click.option("--collect", "collect_to", type=flags.WHERE, metavar="DIR",
              help="then wait for the outputs and bring them there, as collect does")
@click.option("--accept-fewer", is_flag=True, help="with --collect: as there")
@flags.METRICS
def command(
    given: flags.CommonFlags, collect_to: Path | str | None, accept_fewer: bool, metrics: str | None, **options: Any
) -> None:  # fmt: skip
    """Bring the batch of MANIFEST to done: create its flows, upload, verify, start each once.

    Run it again after anything: it resumes, and never starts a flow twice. The API key comes from GENERIO_API_KEY.
    """
    if accept_fewer and collect_to is None:
        error = UsageError("--accept-fewer is about outputs", "add --collect DIR")
        output.exit_for(error, given.manifest, given.as_json)
    act = partial(run_batch, collect_to=collect_to, accept_fewer=accept_fewer)
    report = carry_out(given, "run", act, options, metrics=metrics, notify=True)
    came = summary(report)
    if "source" in report.kinds and report.flows.pending and not options["keep_going"]:
        came += (
            f"\nleft:   {report.flows.pending} pending, because other flows lack a source; --keep-going sends them all the same"
        )
    if report.outputs is not None:
        from .collect import collected

        came = f"{came}\n{collected(report)}"
    output.conclude(report, given.as_json, given.quiet, came)


def summary(report: Report) -> str:
    """What came of a run, for people: two lines, and what was paid where that is known."""
    flows, inputs = report.flows, report.inputs
    parts = [f"{flows.started_now} started now", f"{flows.started} of {flows.total} started"]
    others = {"failed": flows.failed, "pending": flows.pending, "changed": flows.changed,
              "built anew at no cost": flows.rebuilt}  # fmt: skip
    parts += [f"{count} {what}" for what, count in others.items() if count]
    paid = output.paid(report)
    return (
        f"flows:  {', '.join(parts)}\n"
        f"inputs: {inputs.uploaded_now} uploaded now ({size(inputs.bytes_now)}), {inputs.uploaded} of {inputs.total} "
        f"uploaded; {output.sent(report)}, {report.elapsed_s:.1f} s"
    ) + (f"\npaid:   {paid}" if paid else "")
