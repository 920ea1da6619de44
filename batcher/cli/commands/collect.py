"""`batcher collect`: in: flags; out: files in a folder, progress on stderr, a summary or a document on stdout, exit code."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...api import Settings, collect
from ...core.errors import Reason, Stop, UsageError
from ...core.model import Manifest
from ...core.output_names import DEFAULT_NAME
from ...core.report import Report
from ...core.text import size
from .. import flags, output
from ..carry_out import carry_out
from . import gallery as gallery_command

if TYPE_CHECKING:
    from ...gallery.making import Made
    from ...journal.open import State


@flags.command("collect", "wait for started flows and download their outputs")
@click.option("--to", type=flags.WHERE, metavar="DIR", help="where the outputs go: a folder, or s3://bucket/prefix")
@click.option("--name", default=DEFAULT_NAME, show_default=True, metavar="PATTERN",
              help="of {flow} {stem} {suffix} {name} {parent} {index} {asset_id}")
@click.option("--wait", "wait_s", type=flags.DURATION, help="wait for running flows so long at most; 0: not at all")
@click.option("--delete-remote", is_flag=True, help="delete a flow from the service once its outputs are verified on disk")
@click.option("--accept-fewer", is_flag=True, help="a completed flow with fewer outputs than inputs is whole nevertheless")
@click.option("--gallery", is_flag=True, help="then write DIR/gallery.html, as the command gallery does")
@flags.CHECKSUM
@flags.ONLY
@flags.REQUESTS
@flags.METRICS
def command(
    given: flags.CommonFlags, to: Path | str | None, name: str, wait_s: float | None, delete_remote: bool, accept_fewer: bool,
    gallery: bool, metrics: str | None, **options: Any,
) -> None:  # fmt: skip
    """Wait for the flows of MANIFEST that were started, and download their outputs to DIR, each once.

    Run it again after anything: what is there and whole is not downloaded again. DIR/results.csv and .jsonl tell which
    output came from which source; what failed flows left is in DIR/failed.
    """
    if to is None:
        flags.missing_folder(given, "collect", "where the outputs go")
    if gallery and isinstance(to, str):
        error = UsageError("a gallery is written into a folder, not into an object store", "leave --gallery out")
        output.exit_for(error, given.manifest, given.as_json)
    pages: list[str] = []

    async def act(manifest: Manifest, settings: Settings, **watched: Any) -> Report:
        report = await collect(manifest, to, settings, name=name, wait_s=wait_s, delete_remote=delete_remote,
                               accept_fewer=accept_fewer, **watched)  # fmt: skip
        page = await asyncio.to_thread(_gallery, manifest, given.state, Path(to), report) if gallery else None
        pages.extend([f"gallery: {gallery_command.told(page)}"] if page is not None else [])
        return report

    report = carry_out(given, "collect", act, options, metrics=metrics, notify=True)
    output.conclude(report, given.as_json, given.quiet, "\n".join([collected(report), *pages]))


def _gallery(manifest: Manifest, state: State | None, to: Path, report: Report) -> Made | None:
    """The page of what is there now. That it cannot be written is told as what ended the collect, after all that it brought."""
    if report.outputs is None or (report.stop is not None and report.stop.reason is not Reason.DEADLINE):
        return None
    try:
        return gallery_command.write(manifest, state, to)
    except UsageError as error:
        report.stop = report.stop or Stop(Reason.UNSETTLED, error.message, error.hint)
        return None


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
        f"{outputs.total} collected{failed}; {output.sent(report)}, {report.elapsed_s:.1f} s",
    ]
    if outputs.shared_names:
        lines.append(f"names:   {outputs.shared_names} inputs ask for a name that others ask for: a short key tells them apart")
    if outputs.without_source:
        lines.append(f"names:   {outputs.without_source} outputs cannot be told their input: they are named by their ids")
    if outputs.longer:
        lines.append(f"note:    {outputs.longer} GLBs have bytes after their declared end: they are kept as they came")
    return "\n".join(lines)
