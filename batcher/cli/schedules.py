"""What makes cron, systemd and launchd run a command: texts, no I/O.

In: a `ScheduledJob`. Out: a crontab line; a service and a timer; a property list. Called by `batcher cron`. Each has its own
rules of quoting: a shell's with cron's `%` on top (crontab(5)); systemd's, where `%` is doubled and a word stands in quotes
(systemd.service(5)); XML's, where each word is an element of its own (launchd.plist(5)).
"""

from __future__ import annotations

import plistlib
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..core.errors import UsageError
from ..core.exit_codes import ExitCode, listed
from ..manifest import parse_duration

CRON_CHARS: Final = 990  # of a line: Debian's cron takes 998 of the command, others 1000 in all
STOP_S: Final = 150  # 5 s for what is in flight, 35 for a ping, 62 for a hook, and room
DELAY_S: Final = 300  # the longest random delay of a timer, so that not all machines start at once
AT: Final = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")


@dataclass(frozen=True, slots=True)
class When:
    """A time of day, or a step. `cron` has five fields, `calendar` is systemd's, `delay_s` the timer's at random. `times` are
    launchd's, by the clock as cron's: an interval of its own would be missed where the machine sleeps, and these are not."""

    cron: str
    calendar: str
    delay_s: int
    text: str
    times: Sequence[dict[str, int]]


@dataclass(frozen=True, slots=True)
class ScheduledJob:
    """`words`: the command, with absolute paths. `key`: the file that holds the key (None: none is needed). `writes`: folders
    that a run writes into. `user`: whose service the system's manager is to run (None: it is for the user's own manager).
    `hooks`: the manifest has commands of the user's own, which may need more than batcher does."""

    manifest: str
    name: str
    words: Sequence[str]
    key: str | None
    writes: Sequence[str]
    when: When
    user: str | None
    hooks: bool


def when(at: str | None, every: str | None) -> When:
    """Raises UsageError for what cron cannot say."""
    if at is not None and every is not None:
        raise UsageError("--at and --every exclude each other", "give one of them")
    if every is None:
        found = AT.fullmatch(at or "02:30")
        if found is None:
            raise UsageError(f"--at {at} is no time of day", "write one like 02:30")
        hour, minute = int(found[1]), int(found[2])
        calendar, text = f"*-*-* {hour:02}:{minute:02}:00", f"every day at {hour:02}:{minute:02}"
        return When(f"{minute} {hour} * * *", calendar, DELAY_S, text, [{"Hour": hour, "Minute": minute}])
    try:
        seconds = parse_duration(every)
    except ValueError as error:
        raise UsageError(f"--every {every}: {error}", "write one like 30m or 6h") from error
    minutes, rest = divmod(seconds, 60)
    step = int(minutes)
    delay_s = min(DELAY_S, int(seconds) // 10)
    if not rest and 1 <= step < 60 and 60 % step == 0:
        each = [{"Minute": minute} for minute in range(0, 60, step)]
        return When(f"*/{step} * * * *", f"*:0/{step}", delay_s, f"every {step} minutes", each)
    if not rest and step and step % 60 == 0 and 1440 % step == 0:
        hours = step // 60
        cron = {1: "0 * * * *", 24: "0 0 * * *"}.get(hours, f"0 */{hours} * * *")
        each = [{"Hour": hour, "Minute": 0} for hour in range(0, 24, hours)]
        return When(cron, f"0/{hours}:00" if hours < 24 else "*-*-* 00:00:00", delay_s, f"every {hours} hours", each)
    raise UsageError(f"--every {every} does not divide an hour or a day", "give 1m … 30m, 1h, 2h, 3h, 4h, 6h, 8h, 12h or 1d")


def _plain(word: str) -> str:
    if not word.isprintable():
        raise UsageError(f"{word!r} has characters that no line can hold", "give it another name")
    return word


def crontab(job: ScheduledJob) -> str:
    """One line. Raises UsageError for a word that has a line end or another control character in it."""
    words = [shlex.quote(_plain(word)) for word in job.words]
    if job.key is not None:
        words.insert(0, f"GENERIO_API_KEY_FILE={shlex.quote(_plain(job.key))}")
    # cron ends the command at a bare % and takes the backslash of \% away, whatever the quotes; but not that of \\%, where
    # a backslash before the % has to be kept from it by an empty pair of quotes.
    text = " ".join(words).replace("\\%", "\\''%").replace("%", "\\%")
    return f"{job.when.cron}  {text}"


def systemd(job: ScheduledJob) -> dict[str, str]:
    """Name → text of the service and of the timer, in this order. Raises UsageError as `crontab`."""
    what = f"batcher run {_value(job.manifest)}"
    return {
        f"{job.name}.service": "\n".join(_service(job, what)) + "\n",
        f"{job.name}.timer": "\n".join(_timer(job, what)) + "\n",
    }


def _service(job: ScheduledJob, what: str) -> Iterator[str]:
    system = job.user is not None
    yield from (_mark(job), "[Unit]", f"Description={what}")
    if system:
        yield from ("Wants=network-online.target", "After=network-online.target")
    yield from ("", "[Service]", "Type=oneshot")
    if system:
        yield f"User={job.user}"
    yield f"ExecStart=:{' '.join(_word(word) for word in job.words)}"  # the colon: no $ means anything
    if job.key is not None and system:
        yield from (f"LoadCredential=key:{_value(job.key)}", "Environment=GENERIO_API_KEY_FILE=%d/key")
    elif job.key is not None:
        yield f"Environment={_word('GENERIO_API_KEY_FILE=' + job.key)}"
    yield from (
        f"# {ExitCode.LOCKED}: another run is at work. {ExitCode.SIGTERM}: it was stopped in order.",
        f"SuccessExitStatus={listed((ExitCode.LOCKED, ExitCode.SIGTERM), ' ')}",
        "KillMode=mixed",
        "KillSignal=SIGTERM",
        f"TimeoutStopSec={STOP_S}",
        "UMask=0077",
    )
    if system:
        yield from _hardening(job)
    elif not job.hooks:
        yield "NoNewPrivileges=yes"


def _timer(job: ScheduledJob, what: str) -> Iterator[str]:
    yield from (_mark(job), "[Unit]", f"Description={what}, {job.when.text}", "")
    yield from ("[Timer]", f"OnCalendar={job.when.calendar}", f"RandomizedDelaySec={job.when.delay_s}", "Persistent=true", "")
    yield from ("[Install]", "WantedBy=timers.target")


def launchd(job: ScheduledJob, home: str) -> dict[str, str]:
    """Name → text of the property list. Raises UsageError as `crontab`."""
    log = f"{_plain(home)}/Library/Logs/{job.name}.log"
    made: dict[str, Any] = {
        "Label": job.name,
        "ProgramArguments": [_plain(word) for word in job.words],
        "StartCalendarInterval": list(job.when.times),
        "ExitTimeOut": STOP_S,
        "Umask": 0o077,
        "StandardOutPath": log,
        "StandardErrorPath": log,
    }
    if job.key is not None:
        made["EnvironmentVariables"] = {"GENERIO_API_KEY_FILE": _plain(job.key)}
    if job.user is not None:
        made["UserName"] = job.user
    return {f"{job.name}.plist": plistlib.dumps(made, sort_keys=False).decode()}


def _mark(job: ScheduledJob) -> str:
    return f"# {job.manifest}, as `batcher cron` printed it"


def marks(job: ScheduledJob) -> tuple[str, str]:
    """By which a file that is there already is known as one for the same manifest: in a unit, in a property list. Called
    once one of them has been made: for a name that none can hold, it raises ValueError."""
    return _mark(job), plistlib.dumps(job.manifest).decode().splitlines()[3]


def _hardening(job: ScheduledJob) -> list[str]:
    """What a run does not need is taken from it; less where the user's own commands are among it (mail needs set-uid)."""
    writes = f"ReadWritePaths={' '.join(_word(folder) for folder in job.writes)}"
    if job.hooks:
        return ["# The manifest's own commands run in here too: no more than this is locked.", "ProtectSystem=full", writes]
    lines = ["ProtectSystem=strict", "ProtectHome=read-only", writes]
    paths = (job.manifest, *(word for word in job.words if word.startswith("/")), *job.writes)
    if not any(path.startswith(("/tmp/", "/var/tmp/")) for path in paths):  # noqa: S108  # it would hide them
        lines += ["PrivateTmp=yes"]
    return [
        *lines,
        "PrivateDevices=yes",
        "ProtectKernelTunables=yes",
        "ProtectKernelModules=yes",
        "ProtectControlGroups=yes",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "LockPersonality=yes",
        "NoNewPrivileges=yes",
        *(["CapabilityBoundingSet="] if job.user != "root" else []),  # by which root reads what is not its own
    ]


def _value(text: str) -> str:
    """A text that is the rest of a line: only % means something, and a backslash at its end."""
    if text.endswith("\\"):
        raise UsageError(f"{text} ends in a backslash, which a unit cannot hold", "give it another name")
    return _plain(text).replace("%", "%%")


def _word(text: str) -> str:
    """A word among others."""
    return '"' + _plain(text).replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"') + '"'
