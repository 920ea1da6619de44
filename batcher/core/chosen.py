"""Flows chosen by name. In: what --only or --redo say, or a list in a file; names. Out: whether a flow is meant, and which
slips there were. Called by the planner and by `collect`, once per flow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from typing import Final

from .model import Place, Problem
from .suggestion import NAMES, did_you_mean

LISTED: Final = 5
_QUOTED: Final = re.compile(r"\[([^]!^])\]")  # one character in brackets stands for itself
_SPECIAL: Final = re.compile(r"[*?[]")


class Chosen:
    """Flows by name, as --only and --redo choose them: each of `patterns` is a name, or a pattern for names. `places` says
    where a pattern stands that came from a file; `attempts`: by name, the id of the attempt that a list is about.

    It remembers which patterns no name has matched so far: a flow that is not there is a slip, and nothing shall be written
    for one.
    """

    def __init__(
        self, flag: str, patterns: Sequence[str], places: Mapping[str, Place] | None = None,
        attempts: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self._flag = flag
        self._attempts = attempts or {}
        self._places = places or {}
        self._missed = dict.fromkeys(patterns)
        # A list of thousands of names is looked up, not walked: for 5,000 of 10,000 flows that is 20 ms, not 40 s.
        self._exact: dict[str, list[str]] = {}  # a name: the patterns that are it
        self._patterns: list[str] = []
        for pattern in self._missed:
            for name in {pattern, _literal(pattern)} - {None}:
                self._exact.setdefault(str(name), []).append(pattern)
            if _literal(pattern) is None:
                self._patterns.append(pattern)
        self._names: dict[str, None] = {}  # the first ones, to suggest from

    def __call__(self, name: str) -> bool:
        exact = self._exact.get(name, ())
        if self._missed:
            if len(self._names) < NAMES:
                self._names[name] = None  # once, however often it is asked about
            for pattern in exact:
                self._missed.pop(pattern, None)
            for pattern in self._patterns:
                if pattern in self._missed and fnmatchcase(name, pattern):
                    del self._missed[pattern]
        return bool(exact) or any(fnmatchcase(name, pattern) for pattern in self._patterns)

    def attempt(self, name: str) -> str | None:
        """The id of the one attempt of this flow that is meant, however often it is said; None: whichever is there."""
        return self._attempts.get(name)

    def missed(self) -> list[Problem]:
        """Once every name was asked about: a problem for each pattern that matched none."""
        return [self._miss(pattern) for pattern in self._missed]

    def _miss(self, pattern: str) -> Problem:
        place = self._places.get(pattern)
        said = self._flag if place is None else f"{self._flag}-from"
        return Problem("manifest", f"{said} {pattern}: there is no such flow", self._advice(pattern), place)

    def _advice(self, pattern: str) -> str:
        some = ", ".join(islice(self._names, LISTED))
        more = ", …" if len(self._names) > LISTED else ""
        listed = f"give a flow's name, or a pattern for names; there are: {some}{more}" if some else "the manifest has no flows"
        return did_you_mean(pattern, self._names, listed)


def _literal(pattern: str) -> str | None:
    """The one name that a pattern stands for, as `a[*]` does for `a*`; None where it may stand for several."""
    return None if _SPECIAL.search(_QUOTED.sub("", pattern)) else _QUOTED.sub(r"\1", pattern)


def literal(name: str) -> str:
    """The pattern that stands for this name alone."""
    return re.sub(r"([*?[])", r"[\1]", name)


def plain(pattern: str) -> str:
    """The name that a pattern stands for; one for several is itself."""
    return _literal(pattern) or pattern


def listed(text: str) -> Iterator[tuple[int, str, str | None]]:
    """(number of the line, name or pattern, id of the attempt that is meant) of a list: one flow per line.

    From a # at the beginning of a word on, a line is a comment. The id follows the name after a tab; it may be left out."""
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text.removeprefix("\ufeff")), 1):
        said = re.split(r"(?:^|(?<=\s))#", line, maxsplit=1)[0]
        name, _, attempt = said.partition("\t")
        if name.strip():
            yield number, name.strip(), attempt.strip() or None
