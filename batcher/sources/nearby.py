"""The file that was meant by a path of none.

In: a path that is not there. Out: the one that is, where they differ by what people hardly see: capitals, Unicode forms, blanks
around a name, backslashes. Called by `sources`, for a message only. Each folder on the way is listed once, and so much of it.
"""

from __future__ import annotations

import os
import unicodedata
from functools import lru_cache
from itertools import islice
from typing import Final

from ..core.names import alike

LISTED: Final = 100_000  # names in a folder; 0.2 s, kept for the next file that is missing there


def meant(label: str, path: str) -> tuple[str, str] | None:
    """The label of what is there, and what it differs in. `path` is where `label` can be opened."""
    try:
        found = _there(path) or ("\\" in path and _there(path.replace("\\", "/")))
    except (OSError, ValueError):
        return None
    if not found:
        return None
    names = label.replace("\\", "/") if "\\" in path and "\\" not in found else label
    there = "/".join(found.split("/")[-1 - names.count("/") :])
    if "\\" in label and names != label:
        return there, "folders are told apart by /"
    if unicodedata.normalize("NFC", there) == unicodedata.normalize("NFC", label):
        return there, "it is spelled in another Unicode form"
    return there, "capitals count" if there.casefold() == label.casefold() else "blanks at the ends of names count"


def _there(path: str) -> str:
    """The path, with each name that is not there replaced by the one that is alike; empty where there is none."""
    found = "/" if path.startswith("/") else "."
    for name in path.split("/"):
        if name and not os.path.lexists(os.path.join(found, name)):
            name = _names(found, os.stat(found).st_mtime_ns).get(alike(name), "")
            if not name:
                return ""
        found = os.path.join(found, name) if name else found
    return found if os.path.isfile(found) else ""


@lru_cache(8)
def _names(folder: str, mtime_ns: int) -> dict[str, str]:
    """The names in a folder, by what is alike in them."""
    with os.scandir(folder) as entries:
        return {alike(entry.name): entry.name for entry in islice(entries, LISTED)}
