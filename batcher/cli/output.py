"""What commands say: results on stdout, everything for people on stderr, and the end with an exit code.

In: texts, a `Report`, an error. Out: text that no terminal obeys, JSON documents, the process's exit. Called by the commands
and by whatever speaks for them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from typing import Final, NoReturn, TextIO

import click

from ..core.errors import BatcherError, Locked
from ..core.exit_codes import code_of
from ..core.report import Report
from ..core.text import OBEYED
from .readable import counted

SHOWN: Final = 50  # problems on a screen; --json has up to a thousand
_OBEYED: Final = re.compile(f"[{OBEYED}]")


def harmless(text: str) -> str:
    """The text with everything spelled out that a terminal would obey; line ends stay."""
    return _OBEYED.sub(lambda found: _spelled(found[0]), text)


def _spelled(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # a byte of a name that is not UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()


def document(value: object) -> str:
    """A JSON document for stdout: readable, and harmless on a terminal too."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def argument(path: os.PathLike[str]) -> str:
    """A path as it can be typed after a command: quoted for the shell, and never taken for a flag."""
    text = os.fspath(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def dumb() -> bool:
    """Whether the terminals obey nothing but line ends."""
    return os.environ.get("TERM") == "dumb"


def color(stream: TextIO) -> bool:
    """Whether what is written to this stream may be coloured: on a terminal that can, unless NO_COLOR says no."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and not dumb()


def say(text: str) -> None:
    print(harmless(text), file=sys.stderr, flush=True)


def out(text: str, end: str = "\n") -> None:
    """A result, on stdout. Where that cannot be written the command goes on; see `streams`."""
    print(text, end=end, flush=True)


def problem_lines(report: Report) -> list[str]:
    """Each problem on a line of its own, with its place and advice; then why the run ended early."""
    lines = []
    for problem in report.problems[:SHOWN]:
        flow = f" [{problem.flow}]" if problem.flow and problem.flow not in problem.message else ""
        lines.append(f"{problem}{flow}".replace("\n", "\\n"))
    if report.problems_total > SHOWN:
        listed = "them" if report.problems_total == len(report.problems) else f"the first {len(report.problems):,}"
        lines.append(f"… and {report.problems_total - SHOWN:,} more (--json lists {listed})")
    if report.stop is not None:
        lines.append(f"batcher: {report.stop}")
    return lines


def closing_line(report: Report) -> str:
    """Where the batch stands, as far as that is known, for a mail that says nothing else of it."""
    flows = report.flows
    if not flows.total:
        return f"batcher: {report.manifest}: it ended early (exit code {report.exit_code})"
    others = {"failed": flows.failed, "pending": flows.pending, "changed": flows.changed}
    counts = [f"{flows.started} of {flows.total} flows started", *(f"{n} {what}" for what, n in others.items() if n)]
    if report.outputs is not None:
        counts.append(f"{report.outputs.collected} of {report.outputs.total} outputs collected")
    if report.price is not None:
        counts.append(f"paid {paid(report)}")
    return f"batcher: {report.manifest}: {', '.join(counts)} (exit code {report.exit_code})"


def sent(report: Report) -> str:
    """Requests and retries, for people."""
    requests = report.requests
    return f"{counted(requests.sent, 'request')}, {counted(requests.retried, 'retry', 'retries')}"


def paid(report: Report) -> str:
    """What was paid by this run and in all, and what is to come, as the manifest's price says it; "" where there is none."""
    price, now = report.price, report.flows.started_now
    if price is None:
        return ""
    return f"{price.times(now)} now for {counted(now, 'start')}, {price.times(report.paid)} in all for {report.paid:,}" + (
        price.to_come(report.flows.pending)
    )


def finish(report: Report, as_json: bool, *, closing: bool = False) -> NoReturn:
    """Say what went wrong, print the document, exit. `closing`: also where the batch stands."""
    for line in [*problem_lines(report), *([closing_line(report)] if closing else [])]:
        say(line)
    if as_json:
        out(document(report.json()))
    sys.exit(report.exit_code)


def conclude(report: Report, as_json: bool, quiet: bool, summary: str) -> None:
    """The end of a command that worked on a batch: what came of it, then the exit. Returns where all is well and `quiet`."""
    if not quiet and not as_json:
        out(summary)
    if quiet and report.exit_code == 0:
        if as_json:
            out(document(report.json()))
        return
    finish(report, as_json, closing=quiet and not as_json)


def exit_for(error: BatcherError, manifest: str, as_json: bool, *, quiet: bool = False) -> NoReturn:
    """An error that ended a command, in a line and as a code. `quiet`: nothing is wrong where another run is at work."""
    code = code_of(error)
    if not (quiet and isinstance(error, Locked)):
        say(f"batcher: {error}")
    if as_json:
        context = click.get_current_context(silent=True)
        report = Report(manifest, str(context.obj or "") if context is not None else "")
        report.end_with(error)
        out(document(report.json() | {"exit_code": code}))
    sys.exit(code)
