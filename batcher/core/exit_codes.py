"""The exit codes: the one table from which everything else that knows them is derived.

In: kinds of problems, reasons, errors. Out: the code that a command ends with, and each code's words. Called by `Report`, the
command line, the documents' tables, the report's page, the schedules of cron and systemd, and whoever is notified. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal, TypeAlias

from .errors import BatcherError, JournalError, Locked, ManifestError, Reason, Stop, UsageError
from .model import ProblemKind

Outcome: TypeAlias = Literal["success", "problem", "failure"]  # `problem`: not done, and the next run resumes by itself


@dataclass(frozen=True, slots=True)
class About:
    """What belongs to one code: its words, and what leads to it.

    `meaning` and `cron` stand in the documents' table, `happened` and `advice` on the report's page. `outcome` is for pings
    and hooks (None: nobody is notified). `kinds`, `reasons` and `errors` lead to the code; a command that ends with any other
    exception has a bug.
    """

    meaning: str
    cron: str
    happened: str
    advice: str
    outcome: Outcome | None
    kinds: tuple[ProblemKind, ...] = ()
    reasons: tuple[Reason, ...] = ()
    errors: tuple[type[BatcherError], ...] = ()


class ExitCode(IntEnum):
    """In order of precedence: where several apply, the first one counts. DONE and LOCKED never meet another one."""

    SIGHUP = 129, About(
        "drained, resumable", "run again",
        "its terminal was closed", "run again: it resumes", "problem", reasons=(Reason.SIGHUP,),
    )  # fmt: skip
    SIGINT = 130, About(
        "drained, resumable", "run again",
        "it was interrupted", "run again: it resumes", "problem", reasons=(Reason.SIGINT,),
    )  # fmt: skip
    SIGTERM = 143, About(
        "drained, resumable", "run again",
        "it was ended from outside", "run again: it resumes", "problem", reasons=(Reason.SIGTERM,),
    )  # fmt: skip
    BUG = 1, About(
        "a bug in batcher", "alert",
        "batcher itself failed", "run again with --verbose, and report what it prints", "failure",
    )  # fmt: skip
    USAGE = 2, About(  # before all other problems: nothing was written then, so nothing else can have happened
        "wrong usage or manifest; nothing was written", "alert",
        "the manifest is wrong; nothing was written", "put right what is named here, then run again", "failure",
        kinds=("manifest",), reasons=(Reason.USAGE,), errors=(UsageError, ManifestError),
    )  # fmt: skip
    UNSETTLED = 12, About(
        "an outcome cannot be settled, or the service shows what the journal does not say",
        "alert; the next run settles it first",
        "an outcome could not be settled", "run again: the next run asks first", "failure",
        kinds=("unsettled",), reasons=(Reason.UNSETTLED,), errors=(JournalError,),  # what was paid for is unknown
    )  # fmt: skip
    FATAL = 7, About(
        "fatal: key refused, credit exhausted", "alert; do not run again",
        "the key was refused, or the credit is exhausted", "see to that first: running again does not help", "failure",
        kinds=("fatal",), reasons=(Reason.FATAL,),
    )  # fmt: skip
    FAILED = 13, About(
        "with `collect`: a flow failed or was aborted", "alert",
        "a flow failed or was aborted on the service", "run --redo-failed pays for it again", "failure", kinds=("failed",),
    )  # fmt: skip
    SOURCE = 4, About(
        "a source is missing, unreadable or changed while it was read", "alert",
        "a source is missing, unreadable or changed while it was read", "put right what is named here, then run again",
        "failure", kinds=("source",),
    )  # fmt: skip
    REFUSED = 3, About(
        "some inputs were refused; their flows are not started, the others are", "alert; the next run resumes",
        "some inputs were refused; their flows are not started", "put right what is named here, then run again", "failure",
        kinds=("refused",),
    )  # fmt: skip
    UNAVAILABLE = 5, About(
        "the service was unavailable until the retries were spent", "run again",
        "the service was unavailable until the retries were spent", "run again later: it resumes", "problem",
        kinds=("unavailable",), reasons=(Reason.UNAVAILABLE,),
    )  # fmt: skip
    LIMIT = 10, About(
        "`--max-duration`, `--wait` or `--max-starts` reached; resumable", "run again",
        "its time was over, or as many flows were started as one run may start", "run again: it goes on", "problem",
        reasons=(Reason.DEADLINE, Reason.LIMIT),
    )  # fmt: skip
    LOCKED = 11, About(
        "another run holds this manifest", "ignore",
        "another run was at work", "", None, errors=(Locked,),  # the other run notifies
    )  # fmt: skip
    DONE = 0, About(
        "every flow is started, or there is nothing to do", "stay quiet",
        "every flow is started, or there was nothing to do", "", "success",
    )  # fmt: skip

    about: About

    def __new__(cls, code: int, about: About) -> ExitCode:
        made = int.__new__(cls, code)
        made._value_ = code
        made.about = about
        return made


SIGNALS: Final = (ExitCode.SIGHUP, ExitCode.SIGINT, ExitCode.SIGTERM)  # they beat all others
ALONE: Final = (ExitCode.LOCKED, ExitCode.DONE)  # they never meet another one
OF_KIND: Final[dict[ProblemKind, ExitCode]] = {kind: code for code in ExitCode for kind in code.about.kinds}
OF_REASON: Final[dict[Reason, ExitCode]] = {reason: code for code in ExitCode for reason in code.about.reasons}


def first_of(codes: Iterable[ExitCode]) -> ExitCode:
    """The one that counts where several apply; DONE where none does."""
    found = set(codes)
    return next((code for code in ExitCode if code in found), ExitCode.DONE)


def code_of(error: Exception) -> ExitCode:
    """The exit code of an error that ended a command."""
    if isinstance(error, Stop):
        return OF_REASON[error.reason]
    return next((code for code in ExitCode if isinstance(error, code.about.errors)), ExitCode.BUG)


def about(code: int) -> About | None:
    """What is known of a code; None for one that a newer batcher may have written into a journal."""
    return next((known.about for known in ExitCode if known == code), None)


def listed(codes: Iterable[ExitCode], between: str = ", ") -> str:
    """Codes for people, in this order: `5, 10, 129`."""
    return between.join(f"{code:d}" for code in codes)


def with_outcome(outcome: Outcome) -> list[ExitCode]:
    """The codes by which this is notified, in the order of their numbers."""
    return sorted(code for code in ExitCode if code.about.outcome == outcome)
