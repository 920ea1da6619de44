"""Glob patterns: `*`, `?` and `[a-z]` within one name, `**` for any folders.

In: a pattern and the folder that it is relative to. Out: the matching paths as spelled from that folder, sorted by
code point; folders themselves are never matches. Called by `row_sources`. The standard library's globs follow links
under `**` for ever, sort by nothing, and let an unmatched bracket match nothing in silence.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final, TypeAlias

from batcher.manifest.findings import Unfit, quoted
from batcher.manifest.folders import Entries, Folders, is_folder

CAPITALS_KEPT: Final = 1000  # files that a pattern leaves out for their capitals
_MAGIC: Final = re.compile(r"[*?\[]")
_RECURSIVE: Final = "**"

_Matches: TypeAlias = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class _Component:
    """One part of a pattern between slashes: a plain name, `**`, or a test for names."""

    name: str
    matches: _Matches | None = None  # None: a plain name, or `**`


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that has been read."""

    absolute: bool
    components: tuple[_Component, ...]

    @property
    def is_plain(self) -> bool:
        """Whether it is a path, with nothing of a pattern in it."""
        return all(component.matches is None and component.name != _RECURSIVE for component in self.components)

    @property
    def leading(self) -> list[str]:
        """The plain names that the pattern begins with: the folder that it names."""
        plain = takewhile(lambda one: one.matches is None and one.name != _RECURSIVE, self.components[:-1])
        return [component.name for component in plain]

    def matcher(self) -> Callable[[str], bool]:
        """The test whether `expand` could give a path, as it spells paths; no folder is looked at."""
        pieces = ["/" if self.absolute else ""]
        for component in self.components:
            if component.name == _RECURSIVE:
                pieces.append(r"(?:(?!\.)[^/]+/)*")
            else:
                pieces += [_expression(component.name, component.name), "/"]
        test = re.compile("".join(pieces[:-1]), re.DOTALL).fullmatch
        return lambda path: test(path) is not None


def escape(data: str) -> str:
    """`data` as a pattern that matches nothing but itself."""
    return _MAGIC.sub(lambda found: f"[{found[0]}]", data)


def parse(text: str) -> Pattern:
    """Reads a pattern. Raises Unfit for one that can never match, or that would be read differently elsewhere."""
    if not text:
        raise Unfit("the pattern is empty", 'write one like "photos/*.png"')
    if "\0" in text:
        raise Unfit("the pattern holds a NUL character", "remove it")
    if text.endswith("/") or text.rpartition("/")[2] in (".", ".."):
        raise Unfit(f"the pattern {quoted(text)} names a folder", "end it with a pattern for files, like /*.png")
    components: list[_Component] = []
    for part in text.split("/"):
        if part in ("", "."):
            continue
        if part == _RECURSIVE:
            if not components or components[-1].name != _RECURSIVE:
                components.append(_Component(part))
        elif _MAGIC.search(part):
            components.append(_Component(part, _matcher(part, text)))
        else:
            components.append(_Component(part))
    if components[-1].name == _RECURSIVE:
        components.append(_Component("*", _matcher("*", text)))
    return Pattern(text.startswith("/"), tuple(components))


def _matcher(part: str, whole: str) -> _Matches:
    """The test for one name. A leading dot is matched by a dot only, as in a shell."""
    if part.startswith("*") and not _MAGIC.search(part[1:]):
        suffix = part[1:]  # by far the commonest: three times as fast as the regular expression
        return lambda name: name.endswith(suffix) and not name.startswith(".")
    return re.compile(_expression(part, whole), re.DOTALL).fullmatch


def _expression(part: str, whole: str) -> str:
    """The regular expression for one part of a path."""
    expression = r"(?!\.)" if part[0] in "*?[" else ""
    at = 0
    while at < len(part):
        char = part[at]
        at += 1
        if char == "*":
            if not expression.endswith("[^/]*"):
                expression += "[^/]*"
        elif char == "?":
            expression += "[^/]"
        elif char == "[":
            end = part.find("]", at + (2 if part[at : at + 1] in ("!", "^") else 1))
            if end < 0:
                raise Unfit(f"the pattern {quoted(whole)} has a `[` without its `]`", "write [[] for a bracket")
            expression += _character_class(part[at:end], whole)
            at = end + 1
        else:
            expression += re.escape(char)
    return expression


def _character_class(inside: str, whole: str) -> str:
    negated = inside[0] in "!^"
    body = inside[1:] if negated else inside
    made, at = "", 0
    while at < len(body):
        if body[at + 1 : at + 2] == "-" and at + 2 < len(body):
            low, high = body[at], body[at + 2]
            if low > high:
                raise Unfit(f"the pattern {quoted(whole)} has a range that is upside down", f"write [{high}-{low}]")
            made += f"{re.escape(low)}-{re.escape(high)}"
            at += 3
        else:
            made += re.escape(body[at])
            at += 1
    return f"(?!/)[{'^' if negated else ''}{made}]"


def expand(pattern: Pattern, folder: str) -> list[str]:
    """The paths of the files that match, sorted. Raises OSError where a folder cannot be read (a missing one matches
    nothing). What is neither file nor folder is a match too: whoever reads the sources says what is wrong with it.
    """
    walk = Walk(pattern, folder)
    for _, error in walk.unreadable:
        raise error
    return walk.matches


class Walk:
    """One look for what matches: `matches`, sorted, and what was noticed on the way.

    `unreadable`: folders that could not be read, `upwards`: links that lead back up and are not followed (see `Folders`);
    `folders`: where there are matches, as prefixes; `suspects`: matches of which `suspected` says so, and all whose entries
    were not seen; `capitals`: files that a pattern leaves out for their capitals only, the first ones.
    """

    def __init__(
        self, pattern: Pattern, folder: str, suspected: Callable[[os.DirEntry[str]], bool] | None = None
    ) -> None:
        self._folder = folder
        self._suspected = suspected
        self._last: tuple[str, Entries] = "\0", []  # what was read last is asked for twice under `**`
        self.matches: list[str] = []
        self.unreadable: list[tuple[str, OSError]] = []
        self.upwards: list[str] = []
        self.folders: set[str] = set()
        self.suspects: list[str] = []
        self.capitals: list[str] = []
        self._descend("/" if pattern.absolute else "", pattern.components)
        recursions = sum(component.name == _RECURSIVE for component in pattern.components)
        if recursions > 1:  # then a path can match in several ways
            self.matches = list(set(self.matches))
        self.unreadable = list(dict(self.unreadable).items())  # a folder may have been asked for twice
        self.matches.sort()

    def _descend(self, prefix: str, components: Sequence[_Component]) -> None:
        """Adds the matches of `components` below `prefix`, a path that ends in a slash or is empty.

        Recurses once per component; the folders below `**` are walked by a loop, however deep they are.
        """
        first, rest = components[0], components[1:]
        if first.name == _RECURSIVE:
            folders = Folders(self._folder, self._entries)
            for below in folders.below(prefix):
                self._descend(below, rest)
            self.unreadable += folders.unreadable
            self.upwards += folders.upwards
        elif first.matches is None:
            path = prefix + first.name
            if rest:
                self._descend(path + "/", rest)
            elif os.path.lexists(self._at(path)) and not os.path.isdir(self._at(path)):
                self.matches.append(path)
                self.suspects.append(path)
                self.folders.add(prefix)
        elif rest:
            matches = first.matches
            for name in sorted(e.name for e in self._entries(prefix) if matches(e.name) and is_folder(e)):
                self._descend(f"{prefix}{name}/", rest)
        else:
            self._files(prefix, first)

    def _files(self, prefix: str, last: _Component) -> None:
        matches = last.matches
        assert matches is not None  # by `_descend`
        entries = self._entries(prefix)
        fitting = [e for e in entries if matches(e.name)]
        files = [e for e in fitting if not is_folder(e)]
        if files:
            self.matches.extend([prefix + e.name for e in files])
            self.folders.add(prefix)
            if self._suspected is not None:
                self.suspects.extend([prefix + e.name for e in files if self._suspected(e)])
        if len(fitting) < len(entries) and len(self.capitals) < CAPITALS_KEPT:
            self.capitals += _but_for_capitals(prefix, last, entries)

    def _entries(self, prefix: str) -> Entries:
        if self._last[0] != prefix:
            self._last = prefix, self._read(prefix)
        return self._last[1]

    def _read(self, prefix: str) -> Entries:
        try:
            with os.scandir(self._at(prefix) if prefix else self._folder) as entries:
                return list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self.unreadable.append((prefix, error))
            return []

    def _at(self, path: str) -> str:
        return os.path.join(self._folder, path)


def _but_for_capitals(prefix: str, last: _Component, entries: Entries) -> list[str]:
    """The files that would match if capitals did not count. Most names of other files are lower case, and no more is done."""
    matches, folded = last.matches, None
    found: list[str] = []
    if last.name.lower() == last.name.upper():
        return found  # there are no letters in it
    for entry in entries:
        name = entry.name
        if (not name.islower() or not last.name.islower()) and matches is not None and not matches(name):
            folded = folded or _matcher(last.name.lower(), last.name)
            if folded(name.lower()) and not is_folder(entry):
                found.append(prefix + name)
    return found[:CAPITALS_KEPT]
