"""What the machine gives a process: names in UTF-8, and so many open files.

In: the process's own state. Out: the same, made fit, or an error that says what to do. Called by the command line and by the
public API, before anything is read.
"""

from __future__ import annotations

import os
import sys

from ..core.errors import UsageError


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
