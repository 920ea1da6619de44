"""What lies in a folder that a first manifest is to be made of.

In: a folder. Out: `FolderScan`: the files that a template takes, by kind, and those that none takes, each with a reason and
advice. Hidden names are skipped and links to folders followed, as the manifest's own patterns do. Called by `init`.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..core.media import GLB, IMAGES, INPUT_SUFFIXES, TEXT
from ..core.model import ABSENT, FileSource, Input, Place, Problem
from ..manifest.findings import Unfit
from ..manifest.folders import Folders, is_folder
from ..manifest.values import MAX_NAME_CHARS, check_name
from ..sources.dispatch import AllSources
from ..sources.local import NO_SUCH

MAX_FILES: Final = 100_000  # looked at; some 3 s. A manifest's patterns take all that match, however many
KINDS: Final = ("image", "text", "glb")  # the order in which they are proposed
TYPES: Final = {"image": IMAGES, "text": (TEXT,), "glb": (GLB,)}
_KIND_OF: Final = {mime: kind for kind, mimes in TYPES.items() for mime in mimes}
MANIFESTS: Final = (".yaml", ".yml")
_NO_PROMPTS: Final = (".md",)  # could be sent as prompts, and are hardly ever meant to be


@dataclass(frozen=True, slots=True)
class Odd:
    """A file that is left out: `path` counts from the folder; `why` and `hint` are for people."""

    path: str
    why: str
    hint: str


@dataclass(slots=True)
class FolderScan:
    """`files`: per kind the paths from the folder, sorted, with POSIX slashes. `odd`: files that a proposed pattern would
    match and that cannot be sent. `others`: files of no use here, counted by suffix. `whole`: all of it was looked at."""

    files: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    odd: list[Odd] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    whole: bool = True


def scan(folder: Path) -> FolderScan:
    """Walk the folder. Raises OSError where the folder itself cannot be listed."""
    found = FolderScan()
    sources = AllSources(0.0, time.time)
    place = Place(str(folder))
    try:
        listing = _Listing(folder, found)
        folders = Folders(str(folder), listing.read)
        seen = 0
        for prefix in folders.below(""):
            for entry in listing.read(prefix):
                if is_folder(entry):
                    continue
                seen += 1
                if seen > MAX_FILES:
                    found.whole = False
                    return found
                _look_at(f"{prefix}{entry.name}", folder, sources, place, found)
        for path, error in folders.unreadable:
            found.odd.append(Odd(path, f"the link cannot be followed: {error.strerror}", "check its permissions"))
        for path in folders.upwards:
            found.odd.append(Odd(path, "a link to a folder above it", "link to the folder that is meant"))
    finally:
        sources.close()
        for paths in found.files.values():
            paths.sort()
        found.odd.sort(key=lambda odd: odd.path)
    return found


class _Listing:
    """What lies in the folders below one, sorted; what was listed last is kept, for it is asked for twice."""

    def __init__(self, folder: Path, found: FolderScan) -> None:
        self._folder = folder
        self._found = found
        self._last: tuple[str, list[os.DirEntry[str]]] | None = None

    def read(self, prefix: str) -> list[os.DirEntry[str]]:
        """Raises OSError where the folder itself cannot be listed; of one below it, it is noted."""
        if self._last is None or self._last[0] != prefix:
            self._last = prefix, self._list(prefix)
        return self._last[1]

    def _list(self, prefix: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(os.path.join(self._folder, prefix)) as entries:
                return sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:
            if not prefix:
                raise
            self._found.odd.append(Odd(prefix, f"the folder cannot be listed: {error.strerror}", "check its permissions"))
            return []


def suffix_of(path: str) -> str:
    """As `{suffix}` of a pattern's match; empty for none."""
    name = path.rpartition("/")[2]
    dot = name.rfind(".")
    return name[dot:] if 0 < dot < len(name) - 1 else ""


def _look_at(path: str, folder: Path, sources: AllSources, place: Place, found: FolderScan) -> None:
    suffix = suffix_of(path)
    mime = INPUT_SUFFIXES.get(suffix.lower())
    if mime is None or suffix.lower() in _NO_PROMPTS:
        if suffix.lower() not in MANIFESTS:
            found.others[suffix.lower() or "no suffix"] += 1
        return
    kind = _KIND_OF[mime]
    trouble = _name_trouble(path)
    if trouble is not None:
        found.odd.append(trouble)
        return
    item = Input(path, FileSource(os.path.join(folder, path)), None, ABSENT, place)
    file_stat = sources.look(item)
    if isinstance(file_stat, Problem):
        found.odd.append(_odd(path, file_stat))
        return
    mime_found = sources.mime(item, TYPES[kind])
    if isinstance(mime_found, Problem):
        found.odd.append(_odd(path, mime_found))
        return
    found.bytes += file_stat.size
    found.files[kind].append(path)


def _odd(path: str, problem: Problem) -> Odd:
    """As the sources say it, without the path, which is shown beside it."""
    if problem.message.startswith("no such file"):
        return Odd(path, "a link to a file that is not there", "mend the link")
    if problem.message.endswith("which the template does not take"):
        return Odd(path, f"its content is {problem.message.partition(' is ')[2].partition(',')[0]}", "rename it as what it is")
    if f" {NO_SUCH} " in problem.message:
        return Odd(path, problem.message.removeprefix(f"{path} is {NO_SUCH.partition(':')[0]}: "), "mend it, or take it away")
    return Odd(path, problem.message.removeprefix("the prompt ").removeprefix(path).strip().removeprefix("is "),
               problem.hint.replace("take it out of the manifest", "take it away"))  # fmt: skip


def _name_trouble(path: str) -> Odd | None:
    """A flow may be called after it, and it is a member of what is sent."""
    try:
        path.encode()
        check_name(path)
    except UnicodeEncodeError:
        return Odd(path, "its name is not UTF-8", "rename it: it cannot be sent as JSON")
    except Unfit:
        if len(path) > MAX_NAME_CHARS:
            return Odd(path, f"its path has more than {MAX_NAME_CHARS} characters, too many for a flow's name", "shorten it")
        return Odd(path, "its name has control characters", "rename it")
    return None
