"""`batcher report`: in: a manifest and its journal; out: one HTML page that asks for nothing else. No network, no lock."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from pathlib import Path
from typing import Final

import click

from ...core.errors import BatcherError, UsageError
from ...core.text import size
from ...journal.open import read_status
from .. import flags, output, setup
from ..flow_status import FlowStatus
from ..readable import count
from ..streams import Stream

TOLD: Final = (FlowStatus.PROBLEM, FlowStatus.FAILED, FlowStatus.ABORTED, FlowStatus.COLLECTED, FlowStatus.DELETED)


@flags.command("report", "a page about a batch", idle=(*flags.NO_NETWORK, *flags.NO_EVENTS, *flags.NO_PROGRESS))
@click.option("-o", "--output", "target", default="report.html", metavar="FILE", help="where to write it; - is stdout")
def command(given: flags.CommonFlags, target: str) -> None:
    """Write a page about the batch of MANIFEST: its outcome, problems with advice, every flow, and how the last run went.

    It is one file that needs no network, made from the journal; a run may be under way meanwhile.
    """
    try:
        if target == "-" and given.as_json:
            raise UsageError("--json and -o - would both write to stdout", "name a file with -o")
        manifest = setup.load(given)
        journal = read_status(manifest, given.state)
        if journal is None:
            raise UsageError("nothing was run yet, so there is nothing to report", f"begin with: batcher run {given.manifest}")
        with contextlib.closing(journal):
            from ..page.data import gather  # only now: a journal there is
            from ..page.markup import page
            from ..page.pictures import thumbnails

            facts = gather(manifest, journal, time.time())
        content = page(facts, *thumbnails(facts.flows)).encode()
        _write(target, content)
    except BatcherError as error:
        output.exit_for(error, given.manifest, given.as_json)
    states = {status.word: facts.counts[status] for status in FlowStatus}
    if given.as_json:
        more = {"exit_code": 0, "states": states, "report": target, "report_bytes": len(content)}
        output.out(output.document(facts.report.json() | more))
    elif not given.quiet and target != "-":
        flows = facts.report.flows
        words = [f"{count(flows.started)} of {count(flows.total)} flows started"]
        words += [f"{count(facts.counts[status])} {status.of_many}" for status in TOLD if facts.counts[status]]
        output.out(f"{target}: {', '.join(words)}; {size(len(content))}".replace("\u202f", " "))


def _write(target: str, content: bytes) -> None:
    """All of it or nothing: somebody may be looking at the page that it replaces. Raises UsageError."""
    if target == "-":
        assert isinstance(sys.stdout, Stream)
        sys.stdout.write_bytes(content)
        return
    path = Path(target)
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
        raise UsageError(f"{target} cannot be written: {error.strerror}", "name another file with -o") from error
