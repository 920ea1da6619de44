"""What the machine gives a process: names in UTF-8, so many open files, journals that it may read.

In: the process's own state. Out: the same, made fit, or an error that says what to do. Called by the command line and by the
public API before anything is read, and by whatever opens files.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from ..core.errors import JournalError, Reason, Stop, UsageError

OWN_FILES: Final = 32  # open beside requests: the journal 8, the loop 3, processes that help 11, tables, readers, the log
LEAST_FILES: Final = 20  # with fewer not even one request goes out
REQUEST_FILES: Final = 2  # its socket, and the file that it sends or writes
SANDBOX_FILES: Final = 2  # more for each, where the embedded sandbox is at the other end
MOST_FILES: Final = 10_240  # where the hard limit is none: what macOS grants at most
TOO_MANY: Final = (errno.EMFILE, errno.ENFILE)  # open files: of this process, of the machine
PATIENCE_S: Final = 5.0  # for one of them to be closed
PAUSE_S: Final = 0.05

NOT_YOURS: Final = "run as its owner, or name another folder with --state"

T = TypeVar("T")


def run_in_utf8() -> None:
    """Names of files are bytes, read as UTF-8 whatever the locale: by another encoding (LANG=en_US.ISO-8859-1 in cron) the
    same files would have other names, and be sent and paid for again. Python goes by the locale, but for its UTF-8 mode (PEP
    540), which can only be chosen when it starts: so where that matters the process replaces itself, once, with the same
    arguments, descriptors and number. An option, not PYTHONUTF8: hooks stay in their own locale. Returns where there is
    nothing to do; raises UsageError where it cannot be done."""
    if sys.getfilesystemencoding() != "utf-8" and sys.executable and "utf8" not in sys._xoptions:  # else it was tried
        os.execv(sys.executable, [sys.orig_argv[0], "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - our own command
    require_utf8()


def require_utf8() -> None:
    """Raises UsageError where this process reads names of files by another encoding than UTF-8."""
    encoding = sys.getfilesystemencoding()
    if encoding != "utf-8":
        message = f"names of files would be read as {encoding}, and the same files have other names in another locale"
        raise UsageError(message, "start Python with -X utf8 or PYTHONUTF8=1, or with a UTF-8 locale")


def raise_open_files() -> None:
    """The soft limit of open files is for programs that count them in 1,024 bits (`select`); ours is the hard one."""
    soft, hard = _limits()
    most = MOST_FILES if hard is None else hard
    if soft is not None and soft < most:
        import resource

        with contextlib.suppress(OSError, ValueError):  # then the soft one it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, resource.RLIM_INFINITY if hard is None else hard))


def requests_at_once(wanted: int, *, sandbox: bool) -> int:
    """So many of the `wanted` requests may be in flight as there can be open files for. Raises UsageError where nothing can
    be done with so few."""
    soft, _ = _limits()
    if soft is None:
        return wanted
    left = soft - _open_files()
    if left < LEAST_FILES:
        raise UsageError(f"only {max(left, 0)} more files may be open here, of {soft}", "raise the limit: ulimit -n 1024")
    return max(1, min(wanted, (left - OWN_FILES) // (REQUEST_FILES + (SANDBOX_FILES if sandbox else 0))))


def _limits() -> tuple[int | None, int | None]:
    """How many files may be open: the soft limit and the hard one; None: any number."""
    try:
        import resource
    except ImportError:  # no Unix
        return None, None
    soft, hard = (None if limit == resource.RLIM_INFINITY else limit for limit in resource.getrlimit(resource.RLIMIT_NOFILE))
    return soft, hard


def _open_files() -> int:
    try:
        return len(os.listdir("/dev/fd"))
    except OSError:
        return 8  # a process that has just begun


def patiently(work: Callable[[], T], go_on: Callable[[], None] = lambda: None) -> T:
    """`work`, which opens files: where too many are open it is tried again for a while, in the caller's thread. `go_on` may end
    the waiting with an error. Raises OSError."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return work()
        except OSError as error:
            if error.errno not in TOO_MANY or time.monotonic() >= until:
                raise
            go_on()
            time.sleep(PAUSE_S)


@contextlib.contextmanager
def opening_a_journal() -> Iterator[None]:
    """Where no file can be opened now, whatever could not be opened is not at fault: a matter of later. Raises Stop."""
    try:
        yield
    except (JournalError, UsageError) as error:
        if no_more_files():
            message = "the journal cannot be opened: too many files are open"
            raise Stop(Reason.UNAVAILABLE, message, "raise ulimit -n, or run again later") from error
        raise


def no_more_files() -> bool:
    """Whether no file can be opened now: then whatever could not be opened is not at fault."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno in TOO_MANY
    return False


def is_journal(path: Path) -> bool:
    """Whether there is a journal. Raises UsageError where that may not be told, or it may not be read: another user's is no
    missing one. (pathlib's `is_file` raises up to Python 3.13, and says no from 3.14.)"""
    try:
        found = stat.S_ISREG(os.stat(path).st_mode)
        for part in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            # Not by opening it: once closed again, the locks would be gone that SQLite holds on it.
            if part.exists() and not os.access(part, os.R_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise UsageError(f"the journal {path} may not be read: {error.strerror}", NOT_YOURS) from error
    return found
