"""`batcher cron`: in: a manifest and when to run it; out: a crontab line, and a systemd service and timer (or a property list
for launchd), on stdout.

Nothing is installed; `--write` puts the units into a folder. How they spell a command (each has its own rules of
quoting) stands in `cli.schedules`.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from ...api import load_manifest
from ...core.errors import BatcherError, UsageError
from ...core.model import SANDBOX, Manifest
from ...core.objects import is_address
from ...journal.open import State, state_folder
from ...journal.postgres.address import DatabaseAddress
from .. import flags, output, schedules, setup
from .run import command as run

KEY_FILE = "~/.generio-key"


@flags.command("cron", "a crontab line, a systemd timer", idle=flags.NO_PROGRESS,
               context_settings={"ignore_unknown_options": True})
@click.option("--at", metavar="HH:MM", help="every day at this time; 02:30 unless given")
@click.option("--every", metavar="STEP", help="5m, 30m, 1h, 6h …: what divides an hour or a day")
@click.option("--key-file", type=click.Path(dir_okay=False), help=f"where the key is; GENERIO_API_KEY_FILE, or {KEY_FILE}")
@click.option("--launchd", "mac", is_flag=True, help="for macOS: a property list for launchd in place of systemd's units")
@click.option("--system", is_flag=True, help="units for the system's manager, run as you; else for your own (systemctl --user)")
@click.option("--write", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="put the units there")
@click.argument("run_flags", nargs=-1, type=click.UNPROCESSED)
def command(
    given: flags.CommonFlags, at: str | None, every: str | None, key_file: str | None, mac: bool, system: bool,
    write: Path | None, run_flags: tuple[str, ...],
) -> None:  # fmt: skip
    """Print a crontab line, and a systemd service and timer, or a property list for launchd, that run MANIFEST.

    Flags of `batcher run` (as --max-duration 4h) are taken too, and stand in what is printed. All of them speak only where
    something is wrong. The key itself is never printed: they name the file that holds it.
    """
    try:
        asked = _Asked()
        setup.load(given)
        loaded = load_manifest(given.manifest, env=asked, endpoint=given.endpoint)
        when = schedules.when(at, every)
        words = _words(loaded, given, run_flags)
        key = None if loaded.endpoint == SANDBOX else _key_file(key_file)
        job = schedules.ScheduledJob(
            loaded.path, _name(loaded.path), words, key, _written(loaded, given.state, given.log_file, run_flags), when,
            user=_user() if system else None, hooks=any((loaded.notify.on_success, loaded.notify.on_failure,
                                                         loaded.notify.on_problem)),
        )  # fmt: skip
        line, made = schedules.crontab(job), schedules.launchd(job, os.path.expanduser("~")) if mac else schedules.systemd(job)
        if write is not None:
            _write(write, made, loaded.path, schedules.marks(job))
    except BatcherError as error:
        output.exit_for(error, given.manifest, given.as_json)
    if given.as_json:
        output.out(output.document({"manifest": given.manifest, "exit_code": 0, "crontab": line, "units": made}))
    else:
        output.out((_page_for_launchd if mac else _page)(line, made, write, system))
    if not given.quiet:
        for advice in _advice(key, asked.names, line):
            output.say(f"batcher: {advice}")


class _Asked(Mapping[str, str]):
    """The environment, which remembers what the manifest asked it for."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __getitem__(self, name: str) -> str:
        value = os.environ[name]
        if name not in self.names:
            self.names.append(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(os.environ)

    def __len__(self) -> int:
        return len(os.environ)


def _words(manifest: Manifest, given: flags.CommonFlags, run_flags: Sequence[str]) -> list[str]:
    """The command, as it can be called from any folder. Raises UsageError where a flag is none of `run`'s."""
    try:
        parsed = run.make_context("run", [manifest.path, *run_flags]).params
    except click.ClickException as error:
        raise UsageError(error.format_message(), "batcher run --help lists the flags") from error
    for flag, names in (("--redo", parsed["redo"]), ("--redo-from", parsed["redo_from"])):
        if names:
            once = f"batcher run {given.manifest} {flag} … does it once"
            raise UsageError(f"{flag} would pay for the same flows again each time", once)
    for flag, path in (("--metrics", parsed["metrics"]), ("--collect", parsed["collect_to"])):
        if path is not None and not (os.path.isabs(path) or is_address(str(path))):
            raise UsageError(f"{flag} {path}: cron runs in another folder", "give the whole path")
    words = [*_batcher(), "run", manifest.path, "--quiet"]
    paths = {"--state": given.state, "--log-file": given.log_file, "--ca-file": given.ca_file}
    for flag, value in {"--endpoint": given.endpoint, "--log-format": given.log_format}.items():
        words += [flag, value] if value is not None else []
    for flag, path in paths.items():
        words += [flag, _whole(path)] if path is not None else []
    return [*words, *run_flags]


def _whole(path: State | str) -> str:
    """As it is called from any folder. Raises UsageError for an address with a password."""
    if not isinstance(path, DatabaseAddress):
        return os.path.abspath(path)
    if path.has_password:
        raise UsageError("the password in --state would stand in the crontab", "put it into ~/.pgpass or a PGPASSFILE")
    return str(path)


def _batcher() -> list[str]:
    """How this very batcher is called: the script beside the interpreter, or the interpreter with the module."""
    script = Path(sys.executable).parent / "batcher"
    if os.access(script, os.X_OK):
        return [str(script)]
    called = shutil.which(sys.argv[0]) if os.path.basename(sys.argv[0]) == "batcher" else None
    return [os.path.abspath(called)] if called else [sys.executable, "-m", "batcher"]


def _key_file(given: str | None) -> str:
    return os.path.abspath(os.path.expanduser(given or os.environ.get("GENERIO_API_KEY_FILE") or KEY_FILE))


def _user() -> str:
    import pwd  # not on Windows, where this is never asked

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _name(path: str) -> str:
    """A name for the units: letters, digits and dashes, from the manifest's file name."""
    stem = "".join(c if c.isascii() and c.isalnum() else "-" for c in Path(path).stem)
    return "batcher-" + ("-".join(filter(None, stem.split("-")))[:60] or "batch")


def _written(manifest: Manifest, state: State | None, log_file: str | None, run_flags: Sequence[str]) -> list[str]:
    """The folders that a run writes into; they exist."""
    found = [state_folder(manifest, state.absolute() if isinstance(state, Path) else state)]
    parsed = run.make_context("run", [manifest.path, *run_flags]).params
    metrics = parsed["metrics"] or manifest.metrics
    found += [Path(path).parent for path in (metrics, log_file and os.path.abspath(log_file)) if path]
    found += [parsed["collect_to"]] if isinstance(parsed["collect_to"], Path) else []
    existing = []
    for folder in found:
        while not folder.exists():
            folder = folder.parent
        existing.append(str(folder))
    return list(dict.fromkeys(existing))


def _write(folder: Path, made: Mapping[str, str], manifest: str, marks: Sequence[str]) -> None:
    """Put the units into the folder. Raises UsageError where one of another manifest is there already."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in made.items():
            path = folder / name
            there = path.read_text(encoding="utf-8", errors="replace") if path.exists() else None
            if there is not None and not any(mark in there for mark in marks if mark in text):
                raise UsageError(f"{path} is not of {manifest}", "write into another folder, or give the manifest another name")
        for name, text in made.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder}: the units cannot be written: {error.strerror}", "name another folder") from error


def _page(line: str, made: Mapping[str, str], write: Path | None, system: bool) -> str:
    service, timer = made
    folder, manager = ("/etc/systemd/system", "systemctl") if system else ("~/.config/systemd/user", "systemctl --user")
    parts = ["# For cron: a line for `crontab -e`. It mails what is printed, which is nothing while all is well.", line]
    if write is not None:
        parts += [f"\n# For systemd, {service} and {timer} are in {write}."]
    else:
        parts += [f"\n# Or for systemd: {folder}/{service}", made[service], f"# {folder}/{timer}", made[timer].rstrip()]
    parts += [f"\n# Then: {manager} daemon-reload && {manager} enable --now {timer}"]
    if not system:
        parts += ["# To go on while you are logged out: loginctl enable-linger"]
    return "\n".join(parts)


def _page_for_launchd(line: str, made: Mapping[str, str], write: Path | None, system: bool) -> str:
    ((name, text),) = made.items()
    folder, domain = ("/Library/LaunchDaemons", "system") if system else ("~/Library/LaunchAgents", "gui/$(id -u)")
    sudo, owner = ("sudo ", " (owner root, mode 644)") if system else ("", "")
    parts = ["# For cron: a line for `crontab -e`. It mails what is printed, which is nothing while all is well.", line]
    if write is not None:
        parts += [f"\n# For launchd, {name} is in {write}. It belongs into {folder}{owner}."]
    else:
        parts += [f"\n# Or for launchd: {folder}/{name}{owner}", text.rstrip()]
    parts += [f"\n# Then: {sudo}launchctl bootstrap {domain} {folder}/{name}"]
    parts += ["# launchd mails nothing. What is printed, which is nothing while all is well, goes to the log that it names."]
    if not system:
        parts += ["# It runs while you are logged in; with --system, always."]
    return "\n".join(parts)


def _advice(key: str | None, asked: Sequence[str], line: str) -> Iterator[str]:
    """What is still to be done before these run."""
    if key is not None:
        try:
            mode = os.stat(key).st_mode
        except PermissionError as error:
            yield f"the key's file {key} may not be looked at: {error.strerror} (name one of your own)"
        except OSError:
            yield f"the key's file {key} is not there yet (umask 077; then put the key, and nothing else, into it)"
        else:
            if mode & 0o077:
                yield f"others can read the key's file {key} (chmod 600 it)"
    if asked:
        yield f"the manifest reads {', '.join(asked)} from the environment: set it in what is printed, too"
    if len(line) > schedules.CRON_CHARS:
        most = schedules.CRON_CHARS
        yield f"the line is longer than the {most} characters that cron takes (shorten the paths, or use systemd)"
