"""`batcher report`: in: a manifest and its journal; out: one HTML page that asks for nothing else. No network, no lock."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from pathlib import Path

import click

from ..core.errors import BatcherError, UsageError
from ..journal.open import read_journal
from ..reporting.progress import size
from . import common
from .ledger import FlowStatus
from .streams import Stream
from .text import count


@click.command("report", short_help="a page about a batch")
@common.common
@click.option("-o", "--output", default="report.html", metavar="FILE", help="where to write it; - is stdout")
def command(
    manifest: str, endpoint: str | None, state: Path | None, ca_file: str | None, as_json: bool, quiet: bool,
    verbose: bool, log_format: str, log_file: str | None, progress: str, output: str,
) -> None:  # fmt: skip
    """Write a page about the batch of MANIFEST: its outcome, problems with advice, every flow, and how the last run went.

    It is one file that needs no network, made from the journal; a run may be under way meanwhile.
    """
    try:
        if output == "-" and as_json:
            raise UsageError("--json and -o - would both write to stdout", "name a file with -o")
        loaded = common.load(manifest, endpoint, as_json)
        journal = read_journal(loaded, state)
        if journal is None:
            raise UsageError("nothing was run yet, so there is nothing to report", f"begin with: batcher run {manifest}")
        with contextlib.closing(journal):
            from .page.facts import gather  # only now: a journal there is
            from .page.markup import page
            from .page.pictures import thumbnails

            facts = gather(loaded, journal, time.time())
        content = page(facts, *thumbnails(facts.flows)).encode()
        _write(output, content)
    except BatcherError as error:
        common.exit_for(error, manifest, as_json)
    problems = facts.counts[FlowStatus.PROBLEM]
    if as_json:
        common.out(common.document(facts.report.json() | {"exit_code": 0, "report": output, "report_bytes": len(content)}))
    elif not quiet and output != "-":
        flows = facts.report.flows
        words = f"{count(flows.started)} of {count(flows.total)} flows started"
        common.out(f"{output}: {words}, {count(problems)} with a problem; {size(len(content))}".replace("\u202f", " "))


def _write(output: str, content: bytes) -> None:
    """All of it or nothing: somebody may be looking at the page that it replaces. Raises UsageError."""
    if output == "-":
        assert isinstance(sys.stdout, Stream)
        sys.stdout.write_bytes(content)
        return
    path = Path(output)
    try:
        with contextlib.suppress(FileNotFoundError):
            path = path.resolve(strict=True)  # a link stays a link
            if stat.S_ISFIFO(path.stat().st_mode) or stat.S_ISCHR(path.stat().st_mode):
                path.write_bytes(content)
                return
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            part.write_bytes(content)
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}", "name another file with -o") from error
