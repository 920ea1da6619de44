"""`batcher status`: in: a manifest; out: what its journal knows, on stdout. No network, no lock, no write.

`--refresh` asks the service first, by requests that only read, and keeps in the journal what it shows. `--watch` draws it again
and again where it stands; Ctrl-C ends that with 0, for there is no other way to end a look.
"""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Final

import click

from ...core.errors import BatcherError, UsageError
from ...core.exit_codes import ExitCode
from ...core.model import Manifest
from ...journal.open import empty_journal, read_status
from .. import flags, output, setup
from ..batch_status import FIRST, OF_STATUS, BatchStatus, batch_status
from ..flow_status import FlowStatus, StatusLine
from ..status_sums import UploadPace, totals
from ..status_table import Terminal, lines_of

if TYPE_CHECKING:
    from ...settings import Settings
    from ..refreshing import Asked

INTERVAL_S: Final = 2.0
REFRESH_S: Final = 5.0  # between two questions, as the service asks for
NARROWEST: Final = 40  # columns
PACE_S: Final = 20.0  # over so long a stretch the pace is taken


@flags.command("status", "how a batch stands", idle=(*flags.NO_EVENTS, *flags.NO_PROGRESS))
@click.option("--all", "everything", is_flag=True, help="list every flow; without it, long lists are cut short")
@click.option("--refresh", is_flag=True, help="ask the service how started flows stand, and keep that; it only reads there")
@click.option("--watch", is_flag=True, help="draw it again and again, on a terminal; Ctrl-C ends it")
@click.option("--interval", type=flags.DURATION, help="of --watch; 2s unless given, with --refresh 5s")
def command(given: flags.CommonFlags, everything: bool, refresh: bool, watch: bool, interval: float | None) -> None:
    """Show how the flows of MANIFEST stand: planned, uploading, started, running, completed, failed, aborted, collected,
    deleted; with inputs and outputs done, flow id, last problem.

    It is what the journal knows, without the network. --refresh asks the service, with the key from GENERIO_API_KEY.
    """
    try:
        manifest = setup.load(given)
        if watch:
            if given.as_json or given.quiet or not sys.stdout.isatty():
                raise UsageError("--watch draws on a terminal", "leave it out, or see --json")
            interval_s = max(0.2, interval) if interval is not None else REFRESH_S if refresh else INTERVAL_S
            _watch(manifest, given, interval_s, refresh=refresh)
            return
        asked = _ask(manifest, setup.settings(given)) if refresh else None
        everything = everything or given.verbose
        found = _look(manifest, given, asked, most=None if everything and not given.as_json else OF_STATUS)
    except BatcherError as error:
        output.exit_for(error, given.manifest, given.as_json)
    code = asked.exit_code if asked is not None else ExitCode.DONE
    if given.as_json:
        output.out(output.document(_document(manifest, found, asked) | {"exit_code": int(code)}))
    elif given.quiet:
        for line in output.problem_lines(found.report):
            output.say(line)
    else:
        terminal = Terminal(_columns(), color=output.color(sys.stdout))
        table = lines_of(found, terminal, everything=everything)
        words = asked.words if asked is not None else ""
        output.out("\n".join([*table, *totals(found, manifest.limits, terminal, time.time(), asked=words)]))
    if asked is not None and asked.report.stop is not None and (given.as_json or given.quiet):
        output.say(f"batcher: {asked.report.stop}")
    if code:
        sys.exit(code)


def _ask(manifest: Manifest, settings: Settings, *, only_changes: bool = False) -> Asked:
    from ..refreshing import ask  # all that an operation needs, which a look at the journal does without

    return ask(manifest, settings, only_changes=only_changes)


def _look(manifest: Manifest, given: flags.CommonFlags, asked: Asked | None, *, most: int | None) -> BatchStatus:
    with closing(read_status(manifest, given.state) or empty_journal()) as journal:
        if asked is None:
            return batch_status(journal, manifest, most=most)
        return batch_status(journal, manifest, asked.found, asked.problems, most=most)


def _document(manifest: Manifest, found: BatchStatus, asked: Asked | None) -> dict[str, Any]:
    run = None
    if found.runs:
        began, document = found.runs[0]
        run = {"began": began, "command": document.get("command", "run"), "elapsed_s": document["elapsed_s"],
               "exit_code": document["exit_code"]}  # fmt: skip
    states = {status.word: found.counts[status] for status in FlowStatus}
    price = manifest.limits.price_per_start
    paid = {"starts": found.paid} | ({"price_per_start": str(price), "paid": price.times(found.paid)} if price else {})
    more: dict[str, Any] = {"states": states, "cost": paid, "folders": dict(found.sums.folders)}
    if asked is not None:
        more["refreshed"] = {"at": asked.found.at, "asked": asked.found.asked, "left": asked.found.left,
                             "changed": len(asked.found.changed), "requests": asked.report.requests.sent,
                             "elapsed_s": round(asked.report.elapsed_s, 3), "not_kept": asked.kept or None}  # fmt: skip
    listed = [_flow(line, found.at_work) for line in found.lines[:FIRST]]
    return found.report.json() | more | {"journal": listed, "last_run": run}


def _flow(line: StatusLine, at_work: Mapping[str, str]) -> dict[str, Any]:
    facts, end = line.facts, line.end
    shown: dict[str, Any] = {
        "flow": facts.name, "state": facts.state.value, "status": line.status.word, "flow_id": facts.flow_id,
        "inputs": facts.inputs, "uploaded": line.accepted,
    }  # fmt: skip
    if end is not None:
        shown |= {"ended": end.state, "reason": end.reason} if line.status.is_bad else {}
        shown |= {"service": {"state": end.state, "progress": end.progress, "reason": end.reason, "seen_at": end.seen_at},
                  "outputs": {"total": line.listed, "collected": line.collected, "to": line.folder or None}}  # fmt: skip
    if facts.name in at_work:
        shown["at_work"] = at_work[facts.name]
    if line.attempts:
        shown["attempts"] = [
            {"flow_id": one.flow_id, "started_at": one.started_at, "state": seen.state if seen is not None else None,
             "reason": seen.reason if seen is not None else ""}
            for one, seen in line.attempts
        ]  # fmt: skip
    return shown


def _columns() -> int:
    return max(NARROWEST, shutil.get_terminal_size((80, 24)).columns)


def _watch(manifest: Manifest, given: flags.CommonFlags, interval_s: float, *, refresh: bool) -> None:
    """Until Ctrl-C. Each picture is written at once, over the one before it, so that nothing flickers."""

    def ended(number: int, frame: object) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, ended)
    settings = setup.settings(given)
    drawn = 0
    seen: deque[UploadPace] = deque()
    out = sys.stdout
    try:
        out.write("\x1b[?25l")  # no cursor meanwhile
        while not getattr(out, "lost", None):  # until the terminal has gone
            asked = _ask(manifest, settings, only_changes=drawn > 0) if refresh else None
            columns, rows = shutil.get_terminal_size((80, 24))
            terminal = Terminal(max(NARROWEST, columns) - 1, rows, output.color(sys.stdout))
            found = _look(manifest, given, asked, most=rows)
            now = time.monotonic()
            seen.append(UploadPace(now, found.report.inputs.uploaded, found.report.inputs.bytes))
            while len(seen) > 2 and now - seen[1].at >= PACE_S:
                seen.popleft()
            words = asked.words if asked is not None else ""
            below = totals(found, manifest.limits, terminal, time.time(), seen[0], seen[-1], words)
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
