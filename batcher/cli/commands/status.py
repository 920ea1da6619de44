"""`batcher status`: in: a manifest; out: what its journal knows, on stdout. No network, no lock, no write.

`--watch` draws it again and again where it stands; Ctrl-C ends that with 0, for there is no other way to end a look.
"""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections import deque
from contextlib import closing, suppress
from typing import Any, Final

import click

from ...core.errors import BatcherError, UsageError
from ...core.model import Manifest
from ...core.report import Report
from ...journal.open import State, empty_journal, read_journal
from .. import flags, output, setup
from ..flow_status import BatchStatus, Line, batch_status
from ..status_table import Pace, Terminal, lines_of, totals

INTERVAL_S: Final = 2.0
PACE_S: Final = 20.0  # over so long a stretch the pace is taken


@flags.command("status", "what the journal knows", idle=(*flags.NO_NETWORK, *flags.NO_EVENTS, *flags.NO_PROGRESS))
@click.option("--all", "everything", is_flag=True, help="list every flow; without it, long lists are cut short")
@click.option("--watch", is_flag=True, help="draw it again and again, on a terminal; Ctrl-C ends it")
@click.option("--interval", type=flags.DURATION, default=f"{INTERVAL_S:g}s", show_default=True, help="of --watch")
def command(given: flags.CommonFlags, everything: bool, watch: bool, interval: float) -> None:
    """Show what the journal knows of MANIFEST: per flow its state, inputs done, flow id, last problem."""
    try:
        manifest = setup.load(given)
        if watch:
            if given.as_json or given.quiet or not sys.stdout.isatty():
                raise UsageError("--watch draws on a terminal", "leave it out, or see --json")
            _watch(manifest, given.state, max(0.2, interval))
            return
        found = _look(manifest, given.state)
    except BatcherError as error:
        output.exit_for(error, given.manifest, given.as_json)
    report = found.report(manifest.name, manifest.endpoint)
    if given.as_json:
        output.out(output.document(_document(report, found)))
    elif given.quiet:
        for line in output.problem_lines(report):
            output.say(line)
    else:
        terminal = Terminal(_columns(), color=output.color(sys.stdout))
        table = lines_of(found, terminal, everything=everything or given.verbose)
        lines = [*table, *totals(found, report, terminal, time.time())]
        output.out("\n".join(lines))


def _look(manifest: Manifest, state: State | None) -> BatchStatus:
    with closing(read_journal(manifest, state) or empty_journal()) as journal:
        return batch_status(journal)


def _document(report: Report, found: BatchStatus) -> dict[str, Any]:
    listed = [_flow(line) for line in found.lines[:1000]]
    run = None
    if found.runs:
        began, document = found.runs[0]
        run = {"began": began, "elapsed_s": document["elapsed_s"], "exit_code": document["exit_code"]}
    return report.json() | {"journal": listed, "last_run": run, "exit_code": 0}


def _flow(line: Line) -> dict[str, Any]:
    facts = line.facts
    ended = {} if line.end is None else {"ended": line.end.state, "reason": line.end.reason}
    return {"flow": facts.name, "state": facts.state.value, "flow_id": facts.flow_id, "inputs": facts.inputs,
            "uploaded": line.accepted, **ended}  # fmt: skip


def _columns() -> int:
    return max(40, shutil.get_terminal_size((80, 24)).columns)


def _watch(manifest: Manifest, state: State | None, interval_s: float) -> None:
    """Until Ctrl-C. Each picture is written at once, over the one before it, so that nothing flickers."""

    def ended(number: int, frame: object) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, ended)
    drawn = 0
    seen: deque[Pace] = deque()
    out = sys.stdout
    try:
        out.write("\x1b[?25l")  # no cursor meanwhile
        while not getattr(out, "lost", None):  # until the terminal has gone
            columns, rows = shutil.get_terminal_size((80, 24))
            terminal = Terminal(max(40, columns - 1), rows, output.color(sys.stdout))
            found = _look(manifest, state)
            report = found.report(manifest.name, manifest.endpoint)
            now = time.monotonic()
            seen.append(Pace(now, report.inputs.uploaded, report.inputs.bytes))
            while len(seen) > 2 and now - seen[1].at >= PACE_S:
                seen.popleft()
            below = totals(found, report, terminal, time.time(), seen[0], seen[-1])
            above = lines_of(found, terminal, room=max(3, rows - len(below) - 1))
            picture = [*above, *below][: rows - 1]
            up = f"\x1b[{drawn}F" if drawn else "\r"
            out.write(up + "".join(f"{line}\x1b[K\n" for line in picture) + "\x1b[J")
            out.flush()
            drawn = len(picture)
            time.sleep(interval_s)
    except KeyboardInterrupt:
        pass
    finally:
        with suppress(OSError, ValueError):
            out.write("\x1b[?25h")
            out.flush()


