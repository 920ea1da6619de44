"""What outputs are called: a place from a pattern and the manifest, an ending from the type, and what tells two apart. No I/O.

In: names of flows, inputs and outputs, a pattern. Out: relative paths that never leave the folder. Called by `pipeline.collect`
and the journal, which finds paths again that differ by case only. A name depends on the manifest and the output only, never on
what arrived first.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Final

from .errors import UsageError
from .media import output_suffix
from .model import Input, TextSource
from .names import folded
from .suggestion import did_you_mean

FAILED: Final = "failed"  # the folder of what failed and aborted flows left
RESULTS: Final = "results"  # results.csv and results.jsonl
GALLERY: Final = "gallery"  # gallery.html, and gallery_files beside it
DEFAULT_NAME: Final = "{flow}/{stem}{suffix}"
VARIABLES: Final = ("flow", "stem", "suffix", "name", "parent", "index", "asset_id")
COMPONENT_BYTES: Final = 180  # of a file's 255: the rest is for what tells two outputs apart, and for the suffix
MARK_BYTES: Final = 32  # of what tells two outputs apart
ENDING_CHARS: Final = 20  # of a pattern's own ending; a longer one is a part of the name

_BRACES: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_UNFIT: Final = frozenset('<>:"/\\|?*')
_DEVICES: Final = frozenset({"con", "prn", "aux", "nul", "conin$", "conout$"}
                            | {f"{name}{n}" for name in ("com", "lpt") for n in (*range(10), "¹", "²", "³")})  # fmt: skip


def component(text: str) -> str:
    """One name that is safe on any file system: nothing that leads elsewhere, hides, or steers a terminal or a device."""
    name = "".join("_" if c in _UNFIT or not c.isprintable() else c for c in text).strip(" ")
    name = name.rstrip(". ")
    if not name:
        return "_"
    if name[0] == ".":
        name = "_" + name[1:]
    if name.partition(".")[0].rstrip(" ").casefold() in _DEVICES:
        stem, dot, rest = name.partition(".")
        name = f"{stem}_{dot}{rest}"
    raw = name.encode()
    if len(raw) > COMPONENT_BYTES:
        mark = hashlib.blake2b(raw, digest_size=4).hexdigest()
        name = raw[: COMPONENT_BYTES - 9].decode(errors="ignore").rstrip(". ") + "~" + mark
    return name


def path_digest(path: str) -> bytes:
    """8 bytes that two paths share where a file system that ignores case or Unicode forms would take them for one."""
    return hashlib.blake2b(folded(path).encode(), digest_size=8).digest()


@dataclass(frozen=True, slots=True)
class Values:
    """What the variables of a name stand for."""

    flow: str
    stem: str
    name: str
    parent: str = ""
    index: str = ""
    asset_id: str = ""


def values_of(flow: str, item: Input | None, index: int, asset_id: str) -> Values:
    """For an output made from `item`, the flow's input number `index` (from 0); None: from nobody knows which."""
    if item is None:
        return Values(flow, asset_id, asset_id, asset_id=asset_id)
    if isinstance(item.source, TextSource):
        return Values(flow, item.label, item.label, "", str(index), asset_id)
    parent, _, name = item.label.rpartition("/")
    stem = name.rpartition(".")[0] or name
    return Values(flow, stem, name, parent, str(index), asset_id)


@dataclass(frozen=True, slots=True)
class NamePattern:
    """A pattern that has been read. `parts`: texts and variables in turn, folders apart; `ending` is None where the
    output's own suffix ends the name."""

    folders: tuple[tuple[tuple[bool, str], ...], ...]
    ending: str | None
    text: str

    def place(self, values: Values) -> str:
        """The path without its ending; relative, and safe whatever the values are."""
        names: list[str] = []
        for number, parts in enumerate(self.folders):
            last = number == len(self.folders) - 1
            if parts == ((True, "parent"),) and not last:  # a path of its own
                names += [component(part) for part in values.parent.split("/") if part not in ("", ".", "..")]
                continue
            names.append(component("".join(getattr(values, text) if variable else text for variable, text in parts)))
        first = names[0].casefold()
        if first == FAILED or (len(names) == 1 and first.partition(".")[0] == RESULTS):
            names[0] = "_" + names[0]  # what batcher itself writes there stays its own
        return "/".join(names)

    def uses(self, *variables: str) -> bool:
        return any(variable and text in variables for parts in self.folders for variable, text in parts)

    def ends_in(self, mime: str) -> str:
        """What follows the place, for an output of this type."""
        return self.ending if self.ending is not None else output_suffix(mime)


def parse_name(text: str) -> NamePattern:
    """Read a pattern like `{flow}/{stem}{suffix}`. Raises UsageError, which says what would be right."""
    if text.startswith("/") or "\0" in text or "\\" in text:
        raise UsageError(f"--name {text!r} would leave the folder", "write a path relative to it, with / between folders")
    folders: list[list[tuple[bool, str]]] = [[]]
    at = 0
    for found in _BRACES.finditer(text):
        _literal(folders, text[at : found.start()])
        at = found.end()
        match found[0]:
            case "{{" | "}}":
                _literal(folders, found[0][0])
            case "{" | "}":
                raise UsageError(f"--name {text!r} has a single {found[0]}", f"write {found[0] * 2} for a brace")
            case _:
                folders[-1].append((True, _variable(found[1], text)))
    _literal(folders, text[at:])
    for parts in folders:
        plain = "".join(part for _, part in parts)
        if not parts or (plain in (".", "..") and not any(variable for variable, _ in parts)):
            raise UsageError(f"--name {text!r} has an empty, `.` or `..` part", f"write it like {DEFAULT_NAME}")
    last = folders[-1]
    ending: str | None = ""
    if last[-1] == (True, "suffix"):
        ending = None
        last.pop()
    elif not last[-1][0] and "." in last[-1][1][-ENDING_CHARS:]:
        literal, _, suffix = last.pop()[1].rpartition(".")
        ending = "." + component(suffix) if suffix else ""
        last += [(False, literal)] if literal else []
    if not last:
        raise UsageError(f"--name {text!r} names no file", f"write it like {DEFAULT_NAME}")
    if any(part == (True, "suffix") for parts in folders for part in parts):
        raise UsageError(f"--name {text!r} has {{suffix}} in the middle", "it belongs at the end of the name")
    return NamePattern(tuple(tuple(parts) for parts in folders), ending, text)


def _literal(folders: list[list[tuple[bool, str]]], text: str) -> None:
    head, *rest = text.split("/")
    if head:
        folders[-1].append((False, head))
    folders += [[(False, part)] if part else [] for part in rest]


def _variable(name: str, text: str) -> str:
    if name in VARIABLES:
        return name
    known = " ".join(map(_in_braces, VARIABLES))
    hint = did_you_mean(name, VARIABLES, f"there are {known}", spell=_in_braces)
    raise UsageError(f"--name {text!r}: there is no variable {{{name}}}", hint)


def _in_braces(name: str) -> str:
    return f"{{{name}}}"


class Places:
    """Which places the manifest's inputs ask for, 8 bytes each, so that two that ask for the same one both give way."""

    def __init__(self) -> None:
        self._all = array("Q")

    def add(self, place: str) -> None:
        self._all.append(int.from_bytes(path_digest(place), "big"))

    def freeze(self) -> int:
        """No more will be added; how many share their place with another."""
        self._all = array("Q", sorted(self._all))
        every = self._all
        return sum(
            (at > 0 and every[at - 1] == one) or (at + 1 < len(every) and every[at + 1] == one)
            for at, one in enumerate(every)
        )

    def times(self, place: str) -> int:
        """How many inputs ask for this place."""
        one = int.from_bytes(path_digest(place), "big")
        return bisect_right(self._all, one) - bisect_left(self._all, one)


def place_of(pattern: NamePattern, places: Places, values: Values, key: bytes | None, number: int) -> str:
    """The place of one output: the pattern's, with a short key where two inputs ask for the same place (`key` is the
    input's; None: of none), and the output's `number` (from 1) where an input has several."""
    place = pattern.place(values)
    if pattern.uses("asset_id"):
        return place
    if key is None:
        if pattern.uses("stem", "name") and not places.times(place):
            return place
        raw = values.asset_id.encode(errors="replace")
        short = component(values.asset_id) if len(raw) <= MARK_BYTES else hashlib.blake2b(raw, digest_size=16).hexdigest()
        return f"{place}-{short}"
    short = key.hex()[:8]
    if places.times(place) > 1:
        place = f"{place}-{short}"
    if number > 1:
        numbered = f"{place}-{number}"
        place = numbered if not places.times(numbered) else f"{numbered}-{short}"
    return place


def candidates(place: str, ending: str, flow_id: str, asset_id: str) -> tuple[str, ...]:
    """Paths to try in turn: something that is not this output may stand in the way of the first."""
    mark = asset_mark(flow_id, asset_id)
    return place + ending, f"{place}-{mark[:8]}{ending}", f"{place}-{mark}{ending}"


def asset_mark(flow_id: str, asset_id: str) -> str:
    """32 hex digits that no other output has."""
    return hashlib.blake2b(f"{len(flow_id)}:{flow_id}{asset_id}".encode(), digest_size=16).hexdigest()


def part_path(place: str, flow_id: str, asset_id: str) -> str:
    """Where an output is written before it is checked: beside its place, so that a rename is one step."""
    folder, slash, _ = place.rpartition("/")
    return f"{folder}{slash}.{asset_mark(flow_id, asset_id)}.part"
