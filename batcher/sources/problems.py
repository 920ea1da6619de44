"""What is wrong with a source, in words for people.

In: an input, and an error of the system. Out: a Problem that says what to do. Called by the engines.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from ..core.model import Input, Problem
from ..host.process import TOO_MANY
from .nearby import meant

AHEAD_S: Final = 86400.0  # so far a clock that is wrong, or in another time zone, may be ahead
SHOWN_CHARS: Final = 600  # of a message: a path can be a scalar of megabytes


def source_problem(item: Input, message: str, hint: str = "") -> Problem:
    return Problem("source", _short(message), hint, item.place, input=_short(item.label))


def changed(item: Input) -> Problem:
    """The source is not what it was when it was looked at."""
    return source_problem(item, f"{item.label} changed while it was read", "run again once nobody writes to it")


def young(item: Input, mtime_ns: int, min_age_s: float, now: Callable[[], float]) -> Problem | None:
    """The source has not been left alone for `min_age_s`, as far as can be told. `now` tells wall-clock seconds.

    A time a little ahead is that of another machine's clock, and says nothing against a copy that is still under way; one that
    is further ahead than clocks and time zones differ tells no age at all, and waiting for it could take years."""
    age_s = now() - mtime_ns / 1e9 if min_age_s else math.inf
    if age_s >= min_age_s or age_s < -AHEAD_S:
        return None
    message = f"{item.label} changed just now"
    return Problem("waiting", message, "min_age leaves it for a later run", item.place, input=item.label)


def unreadable(item: Input, path: str, error: OSError) -> Problem:
    """Of a file at `path`."""
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            near = meant(item.label, path)
            hint = "check the path; it counts from the manifest's folder"
            if near is not None:
                hint = f"did you mean {_quoted(near[0])}? {near[1]}"
            elif "*" in item.label or "?" in item.label:
                hint = f"a plain string is a path, never a pattern: write glob: {_quoted(item.label)}"
            elif item.label.startswith("~"):
                hint = "~ is no home folder in a manifest: write the path whole, or with ${HOME}"
            return source_problem(item, f"no such file: {_quoted(item.label)}", hint)
        case errno.EACCES | errno.EPERM:
            return source_problem(item, f"{item.label} may not be read", "check its permissions")
        case errno.ELOOP:
            return source_problem(item, f"{item.label} is a link to itself", "mend the link")
        case number if number in TOO_MANY:  # not the file's fault
            what = f"{item.label} cannot be opened: too many files are open"
            return replace(source_problem(item, what, "raise ulimit -n, or run again later"), kind="unavailable")
    hint = "check the disk or the network that it lies on"
    return source_problem(item, f"{item.label} cannot be read: {error.strerror}", hint)


def _quoted(path: str) -> str:
    """In quotes, so that blanks at its ends are seen."""
    return f"'{path}'"


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else f"{text[: SHOWN_CHARS // 2]}…{text[-SHOWN_CHARS // 2 :]}"
