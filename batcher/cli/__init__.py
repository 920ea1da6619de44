"""The command line: the only place that reads the environment, draws, and picks exit codes.

In: argv, the environment. Out: text on stderr, results on stdout, an exit code. One file per command, imported when it
is called, so that help is quick.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
from typing import Any

import click

from ..core.errors import UsageError
from ..core.exit_codes import ExitCode
from ..core.suggestion import did_you_mean
from ..host.process import raise_open_files, run_in_utf8
from ..version import __version__
from .streams import lost, prepare

COMMANDS = {  # in the order in which they are needed
    "init": "write a first manifest from the files in a folder",
    "run": "bring a batch to done: create, upload, verify, start; resume where an earlier run stopped",
    "plan": "what run would do, without a write",
    "status": "how each flow stands, by the journal; with --refresh by the service, too",
    "report": "a page about a batch: outcome, problems, every flow, how the last run went",
    "collect": "wait for started flows and download their outputs",
    "gallery": "a page of each input and the model that came of it, to be turned, accepted or rejected",
    "cron": "print a crontab line, and a systemd service and timer, or launchd's property list",
    "clean": "list, and with --yes delete, flows of a batch that were never started",
    "abort": "list, and with --yes abort, flows of a batch that run on the service",
    "sandbox": "serve a local Flows API to try things against",
    "schema": "print the manifest's JSON Schema, for editors",
    "completion": "print a completion script for bash, zsh or fish",
    "help": "what there is to know: commands, manifest, exit-codes, cron, …",
}
GROUPS = {  # commands that stand in none of them are listed at the end
    "A batch": ("init", "plan", "run", "collect"),
    "How it stands": ("status", "report", "gallery"),
    "By itself": ("cron",),
}
OTHERS = "Around it"
WIDEST = max(map(len, COMMANDS))
WORKING = ("run", "collect", "clean", "abort")  # their codes are about the batch; of the others the output is all there is
COLLECTION = (50_000, 10, 10)  # of garbage: what is imported is none, and looking it through was a tenth of the start


class Commands(click.Group):
    """Commands that are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"{__name__}.commands.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        grouped = {name for names in GROUPS.values() for name in names}
        rest = tuple(name for name in COMMANDS if name not in grouped)
        for title, names in {**GROUPS, OTHERS: rest}.items():
            with formatter.section(title):  # from the table, so that help imports no command
                formatter.write_dl([(f"{name:<{WIDEST}}", COMMANDS[name]) for name in names])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        options = click.Command.shell_complete(self, ctx, incomplete)
        return [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)] + options

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # outside of a run, which has its own way to end; click would say 1, which is a bug of ours
            print("batcher: stopped by SIGINT", file=sys.stderr)
            sys.exit(ExitCode.SIGINT)

    @staticmethod
    def advice(wrong: str) -> str:
        near = did_you_mean(wrong, COMMANDS)
        if not near and os.path.exists(wrong):  # `batcher chairs.yaml`, `batcher photos`
            return f"did you mean batcher {'init' if os.path.isdir(wrong) else 'run'} {wrong}?"
        return near or f"there are {', '.join(COMMANDS)}"

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"there is no command {args[0]!r} ({self.advice(args[0])})")
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="batcher")
def cli() -> None:
    """Push large batches of files into a generative service, once each, and sleep well.

    Begin with: batcher init FOLDER
    """


def main() -> None:
    """The `batcher` command."""
    gc.set_threshold(*COLLECTION)
    try:
        run_in_utf8()
    except UsageError as error:
        print(f"batcher: {error}", file=sys.stderr)
        sys.exit(ExitCode.USAGE)
    raise_open_files()
    if "_BATCHER_COMPLETE" in os.environ:  # a shell asks how a word goes on
        from .shells import answer

        answer(cli)
    prepare()
    code = _code()
    why = lost()
    if why is not None:
        print(f"batcher: the output cannot be written: {why}", file=sys.stderr)
        code = code or (0 if sys.argv[1:2] and sys.argv[1] in WORKING else ExitCode.USAGE)
    sys.exit(code)


def _code() -> int:
    """What the command that is asked for ends with."""
    try:
        code = cli.main(prog_name="batcher", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except click.ClickException as error:
        error.show()
        if isinstance(error, click.MissingParameter) and error.param is not None and error.param.name == "manifest":
            _say_manifest()
        taken = error.ctx.command.params if isinstance(error, click.UsageError) and error.ctx is not None else []
        if "--json" in sys.argv and any("--json" in param.opts for param in taken):
            _print_wrong_usage(error)
        return error.exit_code
    except click.Abort:  # SIGINT before a run could listen for it: nothing had been sent
        print("batcher: stopped by SIGINT", file=sys.stderr)
        return ExitCode.SIGINT
    except Exception as error:  # a bug of ours: said in one line, with a traceback only where it is asked for
        _say_bug(error, "--verbose" in sys.argv)
        return ExitCode.BUG


def _print_wrong_usage(error: click.ClickException) -> None:
    """Whoever reads documents gets one."""
    from ..core.model import Problem
    from ..core.report import Report
    from .output import document, out

    report = Report("", "")
    report.add(Problem("manifest", error.format_message(), "--help lists what a command takes"))
    out(document(report.json()))


def _say_manifest() -> None:
    """After a command that lacks its manifest: which one may be meant."""
    from .output import harmless

    here: list[str] = []
    with contextlib.suppress(OSError):  # a folder that may not be read, or is gone
        here = sorted(name for name in os.listdir() if name.endswith((".yaml", ".yml")))
    here.sort(key=lambda name: name != "batcher.yaml")
    advice = f"did you mean {here[0]}?" if here else "`batcher init FOLDER` writes a first manifest"
    print(harmless(f"  {advice}"), file=sys.stderr)


def _say_bug(error: Exception, verbose: bool) -> None:
    import traceback

    from ..service.credentials import Mask
    from .output import harmless
    from .setup import read_key

    mask = Mask()
    with contextlib.suppress(Exception):  # whatever is wrong with the key, it is not what is to be said now
        mask.add(read_key())
    if verbose:
        print(mask("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    print(harmless(mask(f"batcher: a bug in batcher: {type(error).__name__}: {error}")), file=sys.stderr)
    print("  report this" if verbose else "  run again with --verbose and report what it prints", file=sys.stderr)
