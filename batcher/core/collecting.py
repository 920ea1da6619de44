"""What becomes of a started flow's outputs: when to fetch them, what they are, and what they are called. No I/O.

In: states as the service shows them, first bytes and sizes of downloads, names of flows, inputs and outputs, a pattern.
Out: a `Step` per flow, a `Content` or what is wrong with it, relative paths that never leave the folder.
Called by `pipeline.collect`. A name depends on the manifest and the output only, never on what arrived first.
"""

from __future__ import annotations

import difflib
import errno
import hashlib
import re
import unicodedata
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from enum import Enum
from itertools import groupby
from typing import Final

from .errors import Reason, Stop, UsageError
from .facts import FileStat
from .model import Input, TextSource
from .retry import Chance

POLL_S: Final = (0.5, 1.0, 2.0, 4.0, 5.0, 7.0, 10.0, 14.0, 20.0, 30.0)  # the service asks for about 5 s; then it eases off
STILL_S: Final = 60.0  # so long an unknown state with a set end, or all of its progress, is held for one that goes on
CREATED_POLLS: Final = 4  # a flow that was started and is so often shown as `created` in a row was not started
FAILED: Final = "failed"  # the folder of what failed and aborted flows left
RESULTS: Final = "results"  # results.csv and results.jsonl
DEFAULT_NAME: Final = "{flow}/{stem}{suffix}"
VARIABLES: Final = ("flow", "stem", "suffix", "name", "parent", "index", "asset_id")
COMPONENT_BYTES: Final = 180  # of a file's 255: the rest is for what tells two outputs apart, and for the suffix
MARK_BYTES: Final = 32  # of what tells two outputs apart
ENDING_CHARS: Final = 20  # of a pattern's own ending; a longer one is a part of the name
LABELS: Final = 3  # of the inputs that an output is missing of, in a message
HEAD_BYTES: Final = 16  # enough for every magic below


@dataclass(frozen=True, slots=True)
class CollectWishes:
    """What the flags of `collect` ask for. `wait_s` bounds the waiting for flows that run; None: until they have ended.
    `accept_fewer`: a completed flow that lists fewer outputs than it has inputs is whole nevertheless."""

    name: NamePattern
    wait_s: float | None = None
    delete_remote: bool = False
    accept_fewer: bool = False


class Step(Enum):
    """What a flow's state asks for."""

    FETCH = "fetch"
    FETCH_APART = "fetch apart"  # it failed or was aborted: what it left is kept apart
    WAIT = "wait"


class End(Enum):
    """How a flow ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    ABORTED = "aborted"


# The service's three words first (flows-api, States), then those that other services have for the same.
_ENDS: Final = {
    End.COMPLETED: ("completed", "complete", "succeeded", "success", "successful", "done", "finished"),
    End.FAILED: ("failed", "failure", "error", "errored", "expired", "timeout", "timed_out"),
    End.ABORTED: ("aborted", "cancelled", "canceled", "terminated"),
}
_END_OF: Final = {word: end for end, words in _ENDS.items() for word in words}
UNDER_WAY: Final = frozenset({"", "created", "starting", "running", "aborting"})


def end_of(state: str) -> End | None:
    """How a flow ended whose state is `state`, lower case; None: by all that is known it has not. States that nobody
    knows are not the end."""
    return _END_OF.get(state.replace("-", "_").replace(" ", "_"))


def step(state: str) -> Step:
    """What to do about a flow whose state is `state`, lower case."""
    match end_of(state):
        case None:
            return Step.WAIT
        case End.COMPLETED:
            return Step.FETCH
        case _:
            return Step.FETCH_APART


def stands_still(state: str, finished: bool, progress: float, unchanged_s: float, over: bool) -> bool:
    """Whether a flow in a state that nobody knows is to be waited for no longer: its end is set or its progress is 1, and
    nothing has changed for long. `over`: the waiting is, so that an end that is set has to do."""
    if state in UNDER_WAY or end_of(state) is not None:
        return False
    return (finished and over) or ((finished or progress >= 1.0) and unchanged_s >= STILL_S)


@dataclass(slots=True)
class Lack:
    """What the outputs of a completed flow leave open, counted while its inputs and its outputs are walked. `inputs`: as
    it was started; `unsourced`: outputs of nobody knows which input; `tagged` and `others`: inputs without an output, by
    whether an output of theirs would tell; `labels`: the first of the tagged ones."""

    inputs: int
    outputs: int = 0
    unsourced: int = 0
    tagged: int = 0
    others: int = 0
    labels: list[str] = field(default_factory=list)

    def add(self, label: str, tagged: bool) -> None:
        """An input that no output tells of."""
        self.tagged += tagged
        self.others += not tagged
        if tagged and len(self.labels) < LABELS:
            self.labels.append(label)

    @property
    def missing(self) -> int:
        """How many inputs have no output, at the least: one that tells of no input may be of any."""
        return max(0, self.inputs - self.outputs, self.tagged + self.others - self.unsourced)

    @property
    def told(self) -> int:
        """How many of them are known by name."""
        return self.tagged if self.tagged <= self.missing else 0

    @property
    def words(self) -> str:
        whose = ", ".join(self.labels) if self.told else ""
        more = f" and {self.missing - len(self.labels):,} more" if whose and self.missing > len(self.labels) else ""
        verb = "is" if self.missing == 1 else "are"
        whose = f", of {whose}{more}" if whose else "; of which inputs cannot be told"
        return f"{self.missing:,} {verb} missing{whose}"


def poll_delay_s(quiet_rounds: int, rng: Chance) -> float:
    """Seconds until the states are asked for again, after so many rounds (from 0) in which nothing had moved."""
    return POLL_S[min(quiet_rounds, len(POLL_S) - 1)] * rng.uniform(0.8, 1.2)


def cannot_write(error: OSError) -> Stop:
    """What ends a run whose folder fails it: no other output could be written or checked either."""
    what = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return Stop(Reason.UNAVAILABLE, f"{what}too many files are open", "raise the limit (ulimit -n), or collect again later")
    return Stop(Reason.UNSETTLED, f"the folder of outputs cannot be used: {what}{error.strerror}",
                "free some space or check the folder's permissions, then collect again")  # fmt: skip


class Unplaceable(Exception):
    """One output cannot be written to its place, for something else is in the way; others can."""


# ---- what was downloaded

GLB: Final = "model/gltf-binary"
# What each template makes (flows-api, Templates known today). Of another template every known kind of file is taken.
OUTPUT_TYPES: Final[dict[str, frozenset[str]]] = {
    "model_generate_fromprompt": frozenset({GLB}),
    "model_generate_fromimage": frozenset({GLB}),
    "model_optimize": frozenset({GLB}),
}
MAGIC: Final = (
    (b"glTF", GLB),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"GIF8", "image/gif"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"Kaydara FBX", "model/fbx"),
    (b"PK\x03\x04", "application/zip"),
)
_INSIDE: Final = ((b"WEBP", 8, b"RIFF", "image/webp"), (b"ftyp", 4, b"", "video/mp4"))  # (magic, where, start, type)
SUFFIXES: Final = {
    GLB: ".glb", "model/gltf+json": ".gltf", "model/obj": ".obj", "model/stl": ".stl", "model/ply": ".ply",
    "model/fbx": ".fbx", "model/vnd.usdz+zip": ".usdz", "image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp",
    "image/tiff": ".tiff", "image/gif": ".gif", "video/mp4": ".mp4", "video/webm": ".webm", "video/quicktime": ".mov",
    "text/plain": ".txt", "application/zip": ".zip",
}  # fmt: skip
_SAME: Final = {
    "image/jpg": "image/jpeg", "image/tif": "image/tiff", "model/x-stl": "model/stl", "application/sla": "model/stl",
    "model/x-ply": "model/ply", "application/ply": "model/ply", "application/fbx": "model/fbx",
    "application/x-fbx": "model/fbx", "model/vnd.fbx": "model/fbx", "model/usdz": "model/vnd.usdz+zip",
    "video/x-m4v": "video/mp4", "application/x-zip-compressed": "application/zip",
}  # fmt: skip
# Files of several kinds begin alike: which it is tells the type that it is said to have.
_ALSO: Final = {"application/zip": ("model/vnd.usdz+zip",), "video/mp4": ("video/quicktime",)}
# Types that say nothing of an output; a service's error page or a gateway's comes under one of them, too.
_NOTHING: Final = frozenset({"", "application/json", "text/html", "text/json", "application/xhtml+xml", "application/xml"})
# What is said to be one of these begins as one. (FBX is not among them: some of its files are plain text.)
_MAGICAL: Final = {*(mime for _, mime in MAGIC), *(mime for *_, mime in _INSIDE), "model/vnd.usdz+zip"} - {"model/fbx"}


@dataclass(frozen=True, slots=True)
class Spoiled:
    """A download that came to its end and is not what it should be; `message` is for people."""

    message: str


@dataclass(frozen=True, slots=True)
class Landed:
    """A download that is whole, checked and on the disk, beside its place. `more`: bytes after a GLB's declared end."""

    mime: str
    sha256: bytes
    stat: FileStat
    more: int = 0


def plain_mime(declared: str) -> str:
    """A declared type without parameters, lower case, in one spelling."""
    mime = declared.partition(";")[0].strip().lower()
    return _SAME.get(mime, mime)


def detect(head: bytes) -> str:
    """The type by the first bytes; "" where they tell nothing."""
    for magic, at, start, mime in _INSIDE:
        if head.startswith(start) and head[at : at + len(magic)] == magic:
            return mime
    return next((mime for magic, mime in MAGIC if head.startswith(magic)), "")


def content_of(head: bytes, size: int, declared: str) -> str | Spoiled:
    """The MIME type of a download of `size` bytes that begins with `head` (16 bytes of it), or what is wrong with it."""
    declared, found = plain_mime(declared), detect(head)
    if size == 0:
        return Spoiled("it is empty")
    if found == GLB:
        return _glb(head, size) or found
    if declared in _ALSO.get(found, ()):
        return declared
    if declared in _MAGICAL and found != declared:
        return Spoiled(f"it is said to be {declared}, and its first bytes are {head[:4]!r}")
    stray = _is_text(head) and not declared.startswith(("text/", "model/"))
    if not found and (declared in _NOTHING or stray):
        return Spoiled(f"it is no file of a kind that is known ({declared or 'without a type'}, {size} bytes)")
    return found or declared


def _is_text(head: bytes) -> bool:
    """Whether a file that begins so is most likely a text: an error in words, for example."""
    text = head.decode(errors="replace").rstrip("\ufffd")  # the last character may be cut
    return bool(text) and all((char.isprintable() and char != "\ufffd") or char in "\t\r\n" for char in text)


def not_made_by(template: str | None, mime: str) -> Spoiled | None:
    """That an output of this type is none of the template's; None where it is, or the template is not known."""
    made = OUTPUT_TYPES.get(template or "")
    if made is None or mime in made:
        return None
    return Spoiled(f"it is {mime}, and {template} makes {' or '.join(sorted(made))}")


def bytes_after(head: bytes, size: int) -> int:
    """How many bytes follow the declared end of a GLB of `size` bytes that begins with `head`."""
    return max(0, size - int.from_bytes(head[8:12], "little")) if detect(head) == GLB else 0


def _glb(head: bytes, size: int) -> Spoiled | None:
    """What is wrong with a GLB. Source: the glTF 2.0 specification, GLB File Format, Header."""
    if size < 12:
        return Spoiled(f"it is a GLB of {size} bytes, less than its header")
    version, length = int.from_bytes(head[4:8], "little"), int.from_bytes(head[8:12], "little")
    if version not in (1, 2):
        return Spoiled(f"it is a GLB of version {version}")
    if not 12 <= length <= size:
        return Spoiled(f"it is a GLB that declares {length} bytes, and {size} came")
    return None  # more bytes harm nobody: readers stop at the declared end


# ---- what it is called

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


def spot(path: str) -> bytes:
    """8 bytes that two paths share where a file system that ignores case or Unicode forms would take them for one."""
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


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
        return self.ending if self.ending is not None else SUFFIXES.get(mime, ".bin")


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
    near = difflib.get_close_matches(name, VARIABLES, 1)
    known = " ".join(f"{{{each}}}" for each in VARIABLES)
    hint = f"did you mean {{{near[0]}}}?" if near else f"there are {known}"
    raise UsageError(f"--name {text!r}: there is no variable {{{name}}}", hint)


class Names:
    """Which places the manifest's inputs ask for, 8 bytes each, so that two that ask for the same one both give way."""

    def __init__(self) -> None:
        self._all = array("Q")

    def add(self, place: str) -> None:
        self._all.append(int.from_bytes(spot(place), "big"))

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
        one = int.from_bytes(spot(place), "big")
        return bisect_right(self._all, one) - bisect_left(self._all, one)


class Ids:
    """How many different ids there are, and whether they are the same as others: 8 bytes for each that was added."""

    def __init__(self) -> None:
        self._all = array("Q")

    def add(self, asset_id: str) -> None:
        self._all.append(int.from_bytes(hashlib.blake2b(asset_id.encode(), digest_size=8).digest(), "big"))

    def distinct(self) -> array[int]:
        """In order, each once: a list may show an output twice."""
        return array("Q", (one for one, _ in groupby(sorted(self._all))))


def place_of(pattern: NamePattern, names: Names, values: Values, key: bytes | None, number: int) -> str:
    """The place of one output: the pattern's, with a short key where two inputs ask for the same place (`key` is the
    input's; None: of none), and the output's `number` (from 1) where an input has several."""
    place = pattern.place(values)
    if pattern.uses("asset_id"):
        return place
    if key is None:
        if pattern.uses("stem", "name") and not names.times(place):
            return place
        raw = values.asset_id.encode(errors="replace")
        short = component(values.asset_id) if len(raw) <= MARK_BYTES else hashlib.blake2b(raw, digest_size=16).hexdigest()
        return f"{place}-{short}"
    short = key.hex()[:8]
    if names.times(place) > 1:
        place = f"{place}-{short}"
    if number > 1:
        numbered = f"{place}-{number}"
        place = numbered if not names.times(numbered) else f"{numbered}-{short}"
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
