"""Flags that several commands take, the key, and the ways to say what is wrong.

In: parsed flags, the environment. Out: a `Manifest` and `Settings`; text on stderr; exit codes. Called by the commands.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol, TextIO, TypeAlias, TypeVar

import click

from ..api import Settings, load_manifest
from ..core.chosen import Chosen
from ..core.errors import BatcherError, Locked, ManifestError, Reason, Stop, UsageError
from ..core.events import SILENT, Events
from ..core.exit_codes import ExitCode, code_of
from ..core.model import Manifest, Problem
from ..core.planning import Options
from ..core.report import Report
from ..host import system
from ..manifest import parse_bandwidth, parse_duration, parse_rate, parse_size
from ..pipeline.context import Context
from ..reporting.progress import Style, show
from ..service.credentials import Mask
from . import completing

NAMES: dict[str, Any] = {"multiple": True, "metavar": "NAME", "shell_complete": completing.flows}  # of --only and --redo
PROGRESS_HELP = "a bar on a terminal, a plain line now and then elsewhere"
MAX_STARTS = click.option("--max-starts", type=click.IntRange(1),
                          help=f"start so many flows at most, then end with {ExitCode.LIMIT}; the next run goes on",
)  # fmt: skip
METRICS = click.option("--metrics", metavar="FILE", type=click.Path(dir_okay=False),
                       help="a file for Prometheus, written at the end")  # fmt: skip
F = TypeVar("F", bound=Callable[..., Any])

SHOWN = 50  # problems on a screen; --json has up to a thousand
KEY_WAIT_S = 10.0  # a new key may be written a moment after the old one has ended
# What a terminal obeys, or shows as something else: controls, escapes, marks that turn the direction, half characters.
_OBEYED = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


if TYPE_CHECKING:
    _Number = click.ParamType[float]
else:
    _Number = click.ParamType  # before click 8.4 it takes no parameter when it runs


class _Parsed(_Number):
    """A value with a unit, read as the manifest reads it."""

    def __init__(self, name: str, parse: Callable[[str], float]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return self._parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = _Parsed("duration", parse_duration)
RATE = _Parsed("rate", parse_rate)
BANDWIDTH = _Parsed("bandwidth", parse_bandwidth)
SIZE = _Parsed("size", parse_size)


def common(function: F) -> F:
    """Flags of every command that takes a manifest."""
    for option in (
        click.option("--progress", type=click.Choice(["auto", "bar", "plain", "none"]), default="auto", help=PROGRESS_HELP),
        click.option("--log-file", type=click.Path(dir_okay=False), help="a line for every event; 60 MB at most"),
        click.option("--log-format", type=click.Choice(["text", "json"]), help="of the log; in a file json unless given"),
        click.option("--verbose", is_flag=True, help="say more; a traceback where batcher has a bug"),
        click.option("--quiet", is_flag=True, help="say nothing unless something is wrong"),
        click.option("--json", "as_json", is_flag=True, help="one JSON document on stdout, nothing else there"),
        click.option("--ca-file", type=click.Path(), help="certificates to trust instead of the system's, as PEM"),
        click.option("--state", type=click.Path(file_okay=False, path_type=Path), help="folder of the journal"),
        click.option("--endpoint", metavar="URL", envvar="BATCHER_ENDPOINT", help="instead of the manifest's"),
    ):
        function = option(function)
    return click.argument("manifest", shell_complete=completing.manifests)(function)


def read_key(mask: Mask | None = None) -> str | None:
    """The key from GENERIO_API_KEY_FILE or GENERIO_API_KEY; asked again after a 401. `mask` gets to know it."""
    key = _read_key()
    if mask is not None:
        mask.add(key)
    return key


def _read_key() -> str | None:
    path = os.environ.get("GENERIO_API_KEY_FILE")
    if path:
        try:
            return _key("GENERIO_API_KEY_FILE", Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            what = getattr(error, "strerror", None) or "it is not text"
            raise UsageError(f"GENERIO_API_KEY_FILE: {path} cannot be read: {what}", "name a file that holds the key") from None
    return _key("GENERIO_API_KEY", os.environ.get("GENERIO_API_KEY", ""))


def _key(where: str, text: str) -> str | None:
    """The key without the white space around it. Raises UsageError where it cannot stand in a header."""
    key = text.strip()
    if not key.isprintable() or not key.isascii() or " " in key:
        raise UsageError(f"{where} holds no key: there is white space, or another odd character, in it", "give the key alone")
    return key or None


def open_log(log_file: str | None, log_format: str | None, verbose: bool, mask: Mask) -> Events:
    """What a run tells goes to a file where one is named, as JSON lines, else to stderr, as text, if --verbose asks for it.
    Exits with 2 where the file cannot be opened."""
    if log_file is None and not verbose:
        return SILENT
    from ..reporting.log import open_log

    form: Literal["text", "json"] = "json" if (log_format or ("json" if log_file else "text")) == "json" else "text"
    try:
        return open_log(log_file, form, lambda line: harmless(mask(line)), lambda words: say(f"batcher: {mask(words)}"))
    except OSError as error:
        say(f"batcher: --log-file {log_file} cannot be written: {error.strerror} (name another file)")
        sys.exit(ExitCode.USAGE)


def settings(
    *, state: Path | None, ca_file: str | None, max_duration: float | None = None, resubmit_changed: bool = False,
    redo: Sequence[str] = (), only: Sequence[str] = (), checksum: bool = False, keep_going: bool = False,
    no_start: bool = False, adopt: bool = False,
) -> Settings:  # fmt: skip
    """Flags as a value."""
    options = Options(
        resubmit_changed=resubmit_changed,
        redo=Chosen("--redo", redo) if redo else lambda name: False,
        only=Chosen("--only", only) if only else lambda name: True,
        checksum=checksum,
        keep_going=keep_going,
        start=not no_start,
        adopt=adopt,
    )
    wait_s = KEY_WAIT_S if os.environ.get("GENERIO_API_KEY_FILE") else 0.0  # a variable of ours cannot change
    return Settings(options, read_key, state, ca_file, max_duration, wait_s)


def load(path: str, endpoint: str | None, as_json: bool, **limits: Any) -> Manifest:
    """The manifest with the flags' limits; exits with 2 and a list where it is wrong. Raises UsageError on Windows."""
    system.check()
    try:
        manifest = load_manifest(path, env=os.environ, endpoint=endpoint)
    except ManifestError as error:
        report = Report(path, endpoint or "")
        for problem in error.problems:
            report.add(problem)
        finish(report, as_json)
    click.get_current_context().obj = manifest.endpoint  # for the document of an error
    gc.freeze()  # what is there by now stays: never looked through again
    given = {name: value for name, value in limits.items() if value is not None}
    return replace(manifest, limits=replace(manifest.limits, **given))


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


Started: TypeAlias = Callable[[Context], None]


class Work(Protocol):
    """What a command does with a manifest: it fills the report, and hands its context over before it begins."""

    def __call__(self, *, report: Report, started: Started) -> Coroutine[Any, Any, object]: ...


class Watchers(Protocol):
    """Whoever is told that the work begins, and how it ended: see `afterwards`."""

    def begin(self) -> None: ...
    async def end(self, report: Report, failure: Exception | None) -> None: ...


async def watched(work: Work, manifest: Manifest, style: Style, watchers: Watchers) -> Report:
    """Do the work with progress drawn, and end it in order on the first SIGHUP, SIGINT or SIGTERM, at once on another SIGINT
    or SIGTERM."""
    report = Report(manifest.name, manifest.endpoint)
    loop = asyncio.get_running_loop()
    context_of: list[Context] = []
    stops: list[Stop] = []
    telling: list[asyncio.Task[None]] = []

    def on(number: signal.Signals) -> None:
        if stops and number is signal.SIGHUP:
            return  # a terminal that is closed says it more than once, and systemd after its SIGTERM
        if stops:  # the second time: at once; what is durable stays
            os._exit(128 + number)
        stops.append(Stop(Reason(number.name.lower()), f"stopped by {number.name}", "the next run resumes"))
        if telling:  # the work is over, and its outcome stays
            telling[0].cancel()
            return
        if style == "bar":
            say("\nbatcher: finishing what is in flight; once more to stop at once")
        for context in context_of:
            context.halt(stops[0])

    def started(context: Context) -> None:
        watchers.begin()
        context_of.append(context)
        if style != "none":
            say_bounded(context.limits.concurrency, manifest.limits.concurrency)
        if stops:
            context.halt(stops[0])

    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # ignored: nohup
            loop.add_signal_handler(number, on, number)
    drawing = asyncio.ensure_future(show(report, style))
    failure: Exception | None = None
    try:
        await work(report=report, started=started)
    except Exception as error:
        failure = error
    finally:
        drawing.cancel()
        await asyncio.wait({drawing})
    telling.append(asyncio.ensure_future(watchers.end(report, failure)))
    await asyncio.wait(telling)
    if not telling[0].cancelled():
        telling[0].result()
    if failure is not None:
        raise failure
    return report


def say_bounded(most: int, wanted: int) -> None:
    """Once, where there can be fewer requests at once than were asked for."""
    if most < wanted:
        say(f"batcher: {most} requests at once, not {wanted}: no more files may be open here (raise ulimit -n)")


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
        lines.append(f"… and {report.problems_total - min(SHOWN, len(report.problems))} more (--json lists them)")
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
    return f"batcher: {report.manifest}: {', '.join(counts)} (exit code {report.exit_code})"


def finish(report: Report, as_json: bool, *, closing: bool = False) -> NoReturn:
    """Say what went wrong, print the document, exit. `closing`: also where the batch stands."""
    for line in [*problem_lines(report), *([closing_line(report)] if closing else [])]:
        say(line)
    if as_json:
        out(document(report.json()))
    sys.exit(report.exit_code)


def exit_for(error: BatcherError, manifest: str, as_json: bool, *, quiet: bool = False) -> NoReturn:
    """An error that ended a command, in a line and as a code. `quiet`: nothing is wrong where another run is at work."""
    code = code_of(error)
    if not (quiet and isinstance(error, Locked)):
        say(f"batcher: {error}")
    if as_json:
        context = click.get_current_context(silent=True)
        report = Report(manifest, str(context.obj or "") if context is not None else "")
        report.add(Problem("manifest", error.message, error.hint))
        out(document(report.json() | {"exit_code": code}))
    sys.exit(code)
