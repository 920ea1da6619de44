"""What a pattern matches and is no source: results, which `collect` wrote. And notes on patterns, for people.

In: a look for matches (`Walk`), what the journal has collected. Out: the results among the matches, notes. Called by
`row_sources`.
A result is known by two things. The journal has its file stat (size, time, inode), wherever it lies by now. And the list of
results that `collect` writes lies above it (results.jsonl), which moves with the folder and is there for other manifests too.
The manifest's own results are never sources: each run would pay for what the last one made. Those of another manifest are
none where a wildcard leads into their folder; a pattern that names that folder asks for them.
"""

from __future__ import annotations

import os
import threading
from array import array
from bisect import bisect_left
from collections.abc import Callable, Set
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Concatenate, Final, ParamSpec, TypeVar

from batcher.core.facts import CollectedView, FileStat
from batcher.core.model import Problem
from batcher.core.names import Names
from batcher.manifest.findings import harmless, quoted
from batcher.manifest.object_patterns import Listings
from batcher.manifest.patterns import Pattern, Walk
from batcher.manifest.results_list import RESULTS_LIST, ResultsList

CACHED_FOLDERS: Final = 10_000  # of which it is known whether they hold results
SUGGESTED: Final = 20  # missing folders for which the one that was meant is looked for
PATTERNS_KEPT: Final = 100
_INODES: Final = (1 << 63) - 1  # as the journal keeps them


P = ParamSpec("P")
T = TypeVar("T")


def _alone(method: Callable[Concatenate[Sieve, P], T]) -> Callable[Concatenate[Sieve, P], T]:
    """The method, for one thread at a time."""

    @wraps(method)
    def alone(self: Sieve, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._turn:
            return method(self, *args, **kwargs)

    return alone


class Sieve:
    """What is known of results while the patterns of one manifest are expanded. Any thread may ask: the planner's walks the
    manifest while others look names up in it."""

    def __init__(self, journal: CollectedView | None = None, go_on: Callable[[], None] = lambda: None) -> None:
        self.listings = Listings(go_on)
        self._turn = threading.RLock()
        self._journal = journal
        self._roots: dict[str, ResultsList | None] = {}  # by folder: the list of results at it or above it
        self._counted = Names()
        self._said: dict[str, _Said] = {}
        self._capitals: dict[str, str] = {}  # path: the pattern that leaves it out
        self._patterns: dict[str, Callable[[str], bool]] = {}
        self._suggestions = iter(range(SUGGESTED))

    @cached_property
    def _own(self) -> _Prints:
        return _Prints(self._journal)

    @property
    @_alone
    def suspected(self) -> Callable[[os.DirEntry[str]], bool] | None:
        """Whether a match may be one of the manifest's own results, as far as its entry tells; None: there are none."""
        return self._own.suspected if self._own else None

    @_alone
    def results(self, text: str, pattern: Pattern, walk: Walk, matches: list[str], folder: str) -> Set[str]:
        """Which of the matches are results and no sources; `folder` is what relative ones count from."""
        found: set[str] = set()
        for path in walk.suspects if self._own else ():
            if self._own.has(os.path.join(folder, path)):
                found.add(path)
        named = os.path.normpath(os.path.join(folder, "/" if pattern.absolute else "", *pattern.leading))
        lists = {self._list_above(os.path.join(folder, prefix).rstrip("/") or "/") for prefix in walk.folders} - {None}
        for listed in lists:
            assert listed is not None
            asked_for = bool(pattern.leading) and (named + "/").startswith(os.path.normpath(listed.root) + "/")
            found.update(listed.among(matches, folder, lists_only=asked_for and not listed.own))
        if found:
            found.intersection_update(matches)
        for path in sorted(found):
            self._note("results", text, path)
        return found

    @_alone
    def is_result(self, text: str, url: str, listed: FileStat) -> bool:
        """Whether an object is one of the manifest's own results, by what was listed of it."""
        if not self._own or not self._own.has_stat(FileStat(listed.size, 0 if listed.inode else listed.mtime_ns, listed.inode)):
            return False
        self._note("results", text, url)
        return True

    @_alone
    def noticed(self, text: str, pattern: Pattern, walk: Walk) -> None:
        """Keep what is worth a note of a look for matches."""
        for path in walk.upwards:
            self._note("upwards", text, path)
        if len(self._patterns) < PATTERNS_KEPT:
            self._patterns.setdefault(text, pattern.matcher())
        for path in walk.capitals[: max(0, CACHED_FOLDERS - len(self._capitals))]:
            self._capitals.setdefault(path, text)

    @_alone
    def may_suggest(self) -> bool:
        """Whether the folder that was meant is to be looked for: it takes a while, and many may be missing."""
        return next(self._suggestions, None) is not None

    @_alone
    def notes(self, reasons: bool) -> list[Problem]:
        """What has been noticed and not returned so far. `reasons`: what was left out for a reason; else what may have
        been meant."""
        if not reasons:
            return self._of_capitals()
        said, self._said = self._said, {}
        found: list[Problem] = []
        for what, one in said.items():
            if what == "results":
                files = "1 file that a pattern matches is a result of `collect`, and left out"
                if one.count > 1:
                    files = f"{one.count:,} files that the patterns match are results of `collect`, and left out"
                message = f"{files}: {_shown(one.first)}" + (", for one" if one.count > 1 else "")
                hint = ("collect into a folder that no pattern matches; a pattern that names the folder takes the results of "
                        "another manifest")  # fmt: skip
            else:
                message = f"{_shown(one.first)} is a link to a folder above it, and not followed"
                hint = "link to the folder that is meant"
                if one.count > 1:
                    message += f"; {one.count - 1:,} more are"
            found.append(Problem("note", message, hint))
        return found

    def _of_capitals(self) -> list[Problem]:
        left = {path: text for path, text in self._capitals.items() if not any(test(path) for test in self._patterns.values())}
        self._capitals = {}
        found: list[Problem] = []
        for text in dict.fromkeys(left.values()):
            paths = [path for path, of in left.items() if of == text]
            more = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
            message = f"the pattern {quoted(text)} leaves out {_shown(paths[0])}{more}: capitals count"
            found.append(Problem("note", message, f'write "{harmless(_any_case(text))}" to take both'))
        return found

    def _note(self, what: str, text: str, path: str) -> None:
        if not self._counted.suspected(f"{what}\0{path}"):
            said = self._said.setdefault(what, _Said(path))
            said.count += 1

    def _list_above(self, folder: str) -> ResultsList | None:
        """The list of results that lies in a folder, or in the next one above it."""
        below: list[str] = []
        found: ResultsList | None = None
        while folder not in self._roots:
            below.append(folder)
            if os.path.lexists(os.path.join(folder, RESULTS_LIST)) and (listed := ResultsList(folder, self._journal)):
                found = listed
                break
            above = os.path.dirname(folder)
            if above == folder:
                break
            folder = above
        else:
            found = self._roots[folder]
        if len(self._roots) > CACHED_FOLDERS:
            self._roots.clear()
        self._roots.update(dict.fromkeys(below, found))
        return found


@dataclass(slots=True)
class _Said:
    first: str
    count: int = 0


class _Prints:
    """The file stats of what the journal has collected: 24 bytes each, in the order of their inode numbers."""

    def __init__(self, journal: CollectedView | None) -> None:
        self._inodes, self._sizes, self._times = array("q"), array("q"), array("q")
        for found in journal.collected() if journal is not None else ():
            self._inodes.append(found.inode)
            self._sizes.append(found.size)
            self._times.append(found.mtime_ns)
        order = sorted(range(len(self._inodes)), key=self._inodes.__getitem__)
        for values in (self._inodes, self._sizes, self._times):
            values[:] = array("q", (values[at] for at in order))

    def __bool__(self) -> bool:
        return bool(self._inodes)

    def suspected(self, entry: os.DirEntry[str]) -> bool:
        inode = entry.inode() & _INODES
        at = bisect_left(self._inodes, inode)
        return (at < len(self._inodes) and self._inodes[at] == inode) or entry.is_symlink()

    def has(self, path: str) -> bool:
        try:
            found = os.stat(path)
        except OSError:
            return False  # whoever reads it says so
        return self.has_stat(FileStat(found.st_size, found.st_mtime_ns, found.st_ino & _INODES))

    def has_stat(self, found: FileStat) -> bool:
        at = bisect_left(self._inodes, found.inode)
        while at < len(self._inodes) and self._inodes[at] == found.inode:
            if (self._sizes[at], self._times[at]) == (found.size, found.mtime_ns):
                return True
            at += 1
        return False


def _any_case(text: str) -> str:
    """The pattern, for either case of the letters of its ending."""
    stem, dot, ending = text.rpartition(".")
    return stem + dot + "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in ending) if dot else text


def _shown(path: str) -> str:
    return harmless(os.fsencode(path).decode("utf-8", "backslashreplace"))
