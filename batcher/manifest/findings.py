"""What is wrong with a manifest, collected; and how a user's own words are shown back.

In: positions and sentences. Out: `Findings`, and the helpers that make foreign text harmless on a
terminal. Used by every module of the package.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from hashlib import sha256
from typing import Final, NamedTuple, TypeAlias

from batcher.core import text as texts
from batcher.core.errors import ManifestError
from batcher.core.model import Place, Problem
from batcher.core.suggestion import did_you_mean

SHOWN_CHARS: Final = 80  # what is longer is cut, so that a 10 MB scalar is one line of message
LISTED_NAMES: Final = 12  # names listed in a hint when none of them is close to the wrong one


class Unfit(Exception):
    """A value does not do where it stands: `message` says why, `hint` what to do. It knows no place."""

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(message)

    def at(self, place: Place | None, *, flow: str | None = None) -> Problem:
        """The Problem that this is at `place`."""
        return Problem("manifest", self.message, self.hint, place, flow)


FILE_SHIFT: Final = 60  # of a mark: below it 28 bits of line and 32 of column, above it which file


def mark_of(line: int, column: int, file: int = 0) -> int:
    """A position (line and column from 0, and which file of the manifest) as one integer: a million of them stay small."""
    return file << FILE_SHIFT | line << 32 | column


class Spot(NamedTuple):
    """The position of a mapping's member: of its key, or of its value. It is looked up when it is told, in the text: a million
    of them that nobody asks for take no time and no room. `start`: the position of the mapping."""

    start: int
    key: str
    of_key: bool = False


Mark: TypeAlias = int | Spot
Members: TypeAlias = dict[int, dict[str, tuple[int, int]]]  # by a mapping's position: those of each key and of its value
LookUp: TypeAlias = Callable[[Collection[int] | None], Members]  # the members of these mappings (None: of all)


class _Finding(NamedTuple):
    mark: Mark | None
    message: str
    hint: str
    flow: str | None
    first: Mark | None


class Findings:
    """Collects the problems of one manifest, included files too, so that all are reported in one go."""

    def __init__(self, file: str) -> None:
        self._files = [file]
        self._found: list[_Finding] = []
        self._look_up: dict[int, LookUp] = {}  # by file
        self._members: Members = {}  # of mappings that were asked about
        self.digest = sha256()  # of the texts of all files, and of what the environment has put into them

    def __bool__(self) -> bool:
        return bool(self._found)

    def begin(self, file: str) -> int:
        """The number of one more file, for marks in it. The main manifest is 0."""
        self._files.append(file)
        return len(self._files) - 1

    def read(self, file: int, look_up: LookUp) -> None:
        """A file is read; `look_up` finds where the members of its mappings stand, should anybody ask."""
        self._look_up[file] = look_up

    def place(self, mark: Mark) -> Place:
        if isinstance(mark, Spot):
            mark = self._position(mark)
        line = mark >> 32 & (1 << FILE_SHIFT - 32) - 1
        return Place(self._files[mark >> FILE_SHIFT], line + 1, (mark & 0xFFFFFFFF) + 1)

    def _position(self, spot: Spot) -> int:
        look_up = self._look_up.get(spot.start >> FILE_SHIFT)
        if spot.start not in self._members and look_up is not None:
            self._members |= look_up(None)
        of_key, of_value = self._members.setdefault(spot.start, {}).get(spot.key, (spot.start, spot.start))
        return of_key if spot.of_key else of_value

    def add(
        self, mark: Mark | None, message: str, hint: str = "", *, flow: str | None = None, first: Mark | None = None
    ) -> None:
        """Notes a problem at `mark`; None is the main manifest as a whole. `first`: of what is repeated, where it first
        stands."""
        self._found.append(_Finding(mark, message, hint, flow, first))

    def error(self) -> ManifestError:
        """What was found, without repetitions, in the order of the files and their texts."""
        self._look_up_all()
        once = dict.fromkeys(map(self._problem, self._found))
        order = {file: number for number, file in enumerate(self._files)}
        return ManifestError(
            sorted(once, key=lambda p: (order[p.place.file], p.place.line, p.place.column) if p.place else (0, 0, 0))
        )

    def _look_up_all(self) -> None:
        """Each text is read once for all that is to be told of it, and no more is held than that."""
        spots = {mark.start for one in self._found for mark in (one.mark, one.first) if isinstance(mark, Spot)}
        for file, look_up in self._look_up.items():
            if wanted := {start for start in spots - self._members.keys() if start >> FILE_SHIFT == file}:
                self._members |= look_up(wanted)

    def _problem(self, one: _Finding) -> Problem:
        place = Place(self._files[0]) if one.mark is None else self.place(one.mark)
        first = "" if one.first is None else f"; it first stands at {self.place(one.first)}"
        return Problem("manifest", one.message + first, one.hint, place, one.flow)


def harmless(text: str, limit: int = SHOWN_CHARS) -> str:
    """`text` on one line of at most `limit` characters, control characters and terminal escapes spelled out."""
    return texts.harmless(text, limit)


def quoted(value: object) -> str:
    """A value of the manifest as a message shows it: texts in quotes, containers by their kind."""
    match value:
        case str():
            return f'"{harmless(value)}"'
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float():
            return harmless(repr(value))
        case int():
            # No str() of huge integers: it is quadratic, and refused beyond 4,300 digits.
            return str(value) if abs(value) < 10**SHOWN_CHARS else "a number of many digits"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _:
            return "this"


def suggestion(wrong: str, known: Iterable[str], what: str) -> str:
    """The hint for an unknown name: the closest known one, else the known ones listed under `what`."""
    names = list(known)
    listed = ", ".join(harmless(name, 40) for name in names[:LISTED_NAMES])
    more = ", …" if len(names) > LISTED_NAMES else ""
    return did_you_mean(wrong, names, f"{what}: {listed}{more}" if names else "", spell=in_backticks)


def in_backticks(name: str) -> str:
    return f"`{harmless(name)}`"
