"""The flags of the commands, each defined once.

In: what is typed, as click reads it. Out: `CommonFlags` for every command that takes a manifest, and options that each command
takes as it needs them; a limit's option has the name of its field in `Limits`. Called when a command is imported.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click
from click.core import ParameterSource

from ..core.errors import UsageError
from ..core.exit_codes import ExitCode
from ..core.objects import is_address
from ..journal.postgres.address import DatabaseAddress
from ..journal.postgres.address import is_address as is_database
from ..manifest import parse_bandwidth, parse_duration, parse_rate, parse_size
from . import completing, output
from .output import say

PLAIN_NUMBER: Final = re.compile("[0-9]{1,15}([.][0-9]{1,15})?", re.ASCII)
ADDRESS_LIKE: Final = re.compile("[a-z][a-z0-9+.-]*://|postgres(ql)?:", re.ASCII | re.IGNORECASE)

F = TypeVar("F", bound=Callable[..., Any])

if TYPE_CHECKING:
    _Folder = click.Path[Any]
    _Number = click.ParamType[float]
else:
    _Folder = click.Path
    _Number = click.ParamType  # before click 8.4 it takes no parameter when it runs


class _Parsed(_Number):
    """A value with a unit, read as the manifest reads it; `plain`: or a number without one."""

    def __init__(self, name: str, parse: Callable[[str | float], float], *, plain: bool = False) -> None:
        self.name = name
        self._parse = parse
        self._plain = plain

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value)
        try:
            return self._parse(float(text) if self._plain and PLAIN_NUMBER.fullmatch(text) else text)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _State(_Folder):
    """A folder, or the address of a database."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str) or not is_database(value):
            if not value:
                self.fail("it is empty; name a folder, or leave it out", param, ctx)
            if isinstance(value, str) and ADDRESS_LIKE.match(value):
                self.fail(f"{value.partition(':')[0]}: is no place for a journal; name a folder (write ./ before it), or "
                          "postgresql://USER@HOST/DB", param, ctx)  # fmt: skip
            return super().convert(value, param, ctx)
        try:
            return DatabaseAddress.parse(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


class _Where(click.Path):
    """A folder, or a prefix in an object store, which is kept as it is written."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if is_address(os.fspath(value)) else super().convert(value, param, ctx)


DURATION: Final = _Parsed("duration", parse_duration, plain=True)
SIZE: Final = _Parsed("size", parse_size)
WHERE: Final = _Where(path_type=Path)



# --- Of every command that takes a manifest -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CommonFlags:
    """What every command that takes a manifest is given; see docs/reference.md."""

    manifest: str
    endpoint: str | None
    state: Path | DatabaseAddress | None
    ca_file: str | None
    as_json: bool
    quiet: bool
    verbose: bool
    log_format: str | None
    log_file: str | None
    progress: str


MANIFEST: Final = click.argument("manifest", shell_complete=completing.manifests)
COMMON: Final = (
    click.option("--endpoint", metavar="URL", envvar="BATCHER_ENDPOINT", help="instead of the manifest's"),
    click.option("--state", type=_State(file_okay=False, path_type=Path), metavar="FOLDER", envvar="BATCHER_STATE",
                 help="where the journal lies; or postgresql://USER@HOST/DB, which hosts share"),
    click.option("--ca-file", type=click.Path(), help="certificates to trust instead of the system's, as PEM"),
    click.option("--json", "as_json", is_flag=True, help="one JSON document on stdout, nothing else there"),
    click.option("--quiet", is_flag=True, help="say nothing unless something is wrong"),
    click.option("--verbose", is_flag=True, help="say more; a traceback where batcher has a bug"),
    click.option("--log-format", type=click.Choice(["text", "json"]), help="of the log; in a file json unless given"),
    click.option("--log-file", type=click.Path(dir_okay=False), help="a line for every event; 60 MB at most"),
    click.option("--progress", type=click.Choice(["auto", "bar", "plain", "none"]), default="auto",
                 help="a bar on a terminal, a plain line now and then elsewhere"),
)  # fmt: skip
NO_NETWORK: Final = ("ca_file",)  # names of common flags that have no effect on a command that asks for nothing
NO_EVENTS: Final = ("log_format", "log_file")  # on one of which there is nothing to log
NO_PROGRESS: Final = ("progress",)  # on one that is over at once


def command(
    name: str, short_help: str, *, idle: Sequence[str] = (), context_settings: dict[str, Any] | None = None
) -> Callable[[Callable[..., Any]], click.Command]:
    """A command that takes a manifest, with the common flags as its first argument. Every such command takes all of them, so
    that one set of flags serves for all; those in `idle` have no effect on this one, and say so: in its help, and where they
    are given, unless --quiet is."""
    spelled = {name: f"--{name.replace('_', '-')}" for name in idle}
    epilog = f"Taken by every command, without effect on this one: {', '.join(sorted(spelled.values()))}." if idle else None

    def decorated(function: Callable[..., Any]) -> click.Command:
        @functools.wraps(function)
        def called(**params: Any) -> Any:
            given = CommonFlags(**{field.name: params.pop(field.name) for field in fields(CommonFlags)})
            context = click.get_current_context()
            for param, flag in spelled.items():
                if not given.quiet and context.get_parameter_source(param) is ParameterSource.COMMANDLINE:
                    say(f"batcher: {flag} has no effect on {name}")
            return function(given, **params)

        for option in reversed((MANIFEST, *COMMON)):
            option(called)
        made = click.command(name, short_help=short_help, epilog=epilog, context_settings=context_settings)
        return made(called)

    return decorated


def missing_folder(given: CommonFlags, command: str, about: str) -> NoReturn:
    """The folder that a command works on was not named."""
    error = UsageError(f"--to is missing: {about}", f"batcher {command} {given.manifest} --to out")
    output.exit_for(error, given.manifest, given.as_json)


def grouped(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one, in this order."""

    def decorated(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorated


# --- Limits of one run, over the manifest's: named as in `Limits` ----------------------------------------------------------

CONCURRENCY: Final = click.option("--concurrency", type=click.IntRange(1, 1024), help="requests in flight at most")
RATE: Final = click.option("--rate", "rate_per_s", type=_Parsed("rate", parse_rate), help="requests, as 20/s or 300/min")
BANDWIDTH: Final = click.option("--bandwidth", "bandwidth_bytes_per_s", type=_Parsed("bandwidth", parse_bandwidth),
                                help="bytes sent, as 20MB/s")  # fmt: skip
TIMEOUT: Final = click.option("--timeout", "timeout_s", type=DURATION,
                              help="no progress on a request for this long, as 60s")  # fmt: skip
RETRIES: Final = click.option("--retries", type=click.IntRange(0, 100), help="attempts after the first, per request")
MAX_STARTS: Final = click.option("--max-starts", "starts_per_run", type=click.IntRange(1),
                                 help=f"start so many flows at most, then end with {ExitCode.LIMIT}; the next run goes on",
                                )  # fmt: skip


LEASE: Final = click.option("--lease", "lease_s", type=DURATION, default="30s", show_default=True,
                            help="of runs that share a database: one that is silent for so long loses its flows")  # fmt: skip

REQUESTS: Final = grouped(CONCURRENCY, RATE, TIMEOUT, RETRIES)  # of commands that send no files


# --- Which flows, and what of them -----------------------------------------------------------------------------------------


def _names(flag: str, about: str) -> Callable[[F], F]:
    return click.option(flag, multiple=True, metavar="NAME", shell_complete=completing.flows, help=about)


ONLY: Final = _names("--only", "only these flows (a pattern; repeatable)")
REDO: Final = _names("--redo", "pay again for this flow, in each run that says so (a pattern; repeatable)")
REDO_FROM: Final = click.option("--redo-from", metavar="FILE", shell_complete=completing.files,
                                help="as --redo, for each name in the file; - is stdin")  # fmt: skip
REDO_FAILED: Final = click.option("--redo-failed", is_flag=True,
                                  help="pay again for each flow that failed or was aborted, as far as is known")  # fmt: skip
RESUBMIT_CHANGED: Final = click.option("--resubmit-changed", is_flag=True,
                                       help="pay again for flows that changed after they were started")  # fmt: skip
CHECKSUM: Final = click.option("--checksum", is_flag=True, help="read every file again, whatever its size and time say")
METRICS: Final = click.option("--metrics", metavar="FILE", type=click.Path(dir_okay=False),
                              help="a file for Prometheus, written at the end")  # fmt: skip
