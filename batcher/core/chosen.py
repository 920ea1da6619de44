"""Flows chosen by name. In: what --only or --redo say; names. Out: whether a flow is meant, and which slips there were.
Called by the planner and by `collect`, once per flow.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from itertools import islice
from typing import Final

from .model import Problem
from .suggestion import NAMES, did_you_mean

LISTED: Final = 5


class Chosen:
    """Flows by name, as --only and --redo choose them: each of `patterns` is a name, or a pattern for names.

    It remembers which patterns no name has matched so far: a flow that is not there is a slip, and nothing shall be written
    for one.
    """

    def __init__(self, flag: str, patterns: Sequence[str]) -> None:
        self._flag = flag
        self._patterns = tuple(patterns)
        self._missed = dict.fromkeys(patterns)
        self._names: dict[str, None] = {}  # the first ones, to suggest from

    def __call__(self, name: str) -> bool:
        if self._missed:
            if len(self._names) < NAMES:
                self._names[name] = None  # once, however often it is asked about
            for pattern in [pattern for pattern in self._missed if _fits(name, pattern)]:
                del self._missed[pattern]
        return any(_fits(name, pattern) for pattern in self._patterns)

    def missed(self) -> list[Problem]:
        """Once every name was asked about: a problem for each pattern that matched none."""
        return [self._miss(pattern) for pattern in self._missed]

    def _miss(self, pattern: str) -> Problem:
        return Problem("manifest", f"{self._flag} {pattern}: there is no such flow", self._advice(pattern))

    def _advice(self, pattern: str) -> str:
        some = ", ".join(islice(self._names, LISTED))
        more = ", …" if len(self._names) > LISTED else ""
        listed = f"give a flow's name, or a pattern for names; there are: {some}{more}" if some else "the manifest has no flows"
        return did_you_mean(pattern, self._names, listed)


def _fits(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)
