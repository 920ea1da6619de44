"""The words of the manifest as frozen values: what every stage is handed, and none of them changes.

In: nothing. Out: `Manifest`, `Flow`, `Input` with its source, `Limits`, `Place`, `Problem`. Called by everyone.
A `Flow` is one remote job after expansion; it can list its inputs as often as asked (a rebuild lists them again),
so that a manifest of a million rows is never held in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Final, Literal, TypeAlias

from .price import Price
from .rows import row

if TYPE_CHECKING:
    from .facts import CollectedView, FileStat

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

TAG: Final = "batcher"  # the member of `additional` that is ours

DEFAULT_ENDPOINT: Final = "https://flows.generio.ai"
SANDBOX: Final = "sandbox"  # the endpoint's name for the embedded service, whatever its port


class Absent(Enum):
    """`additional` was not given: unlike null, which is a value that is sent as it is."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT


@row(frozen=True, slots=True)
class Place:
    """Where something stands in a text file. `line` and `column` start at 1; 0 means the file as a whole."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


ProblemKind: TypeAlias = Literal[
    "manifest",  # the manifest, its tables or its patterns are wrong (exit code 2)
    "source",  # a source file is missing, unreadable, or changed while it was read (4)
    "refused",  # the service refused an input, a flow or a start (3)
    "unavailable",  # the service could not be reached, or not be brought to do it, within the retries (5)
    "fatal",  # the key was refused, or the credit is exhausted (7)
    "unsettled",  # an outcome cannot be settled, or the service shows what the journal does not say (12)
    "failed",  # a flow failed or was aborted on the service (13)
    "changed",  # changed after the flow was started (no failure; 0)
    "waiting",  # left alone this time, as `min_age` asks (no failure; 0)
    "note",  # worth a word (no failure; 0)
]

# Kinds of problem that keep nothing from being done; `limit` is a reason why a run ended, which is told as a problem is.
NOTES: Final[frozenset[str]] = frozenset({"changed", "waiting", "note", "limit"})


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that stands between a flow and its start: what is wrong, where, and what to do next.

    `flow` and `input` are names as the manifest spells them; `status` is the HTTP status where there was one.
    """

    kind: ProblemKind
    message: str
    hint: str = ""
    place: Place | None = None
    flow: str | None = None
    input: str | None = None
    status: int | None = None

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        return f"{where}{self.message}" + (f" ({self.hint})" if self.hint else "")


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a run; units in the names. None is "no bound". Defaults as in docs/manifest.md."""

    concurrency: int = 16
    rate_per_s: float | None = None
    bandwidth_bytes_per_s: float | None = None
    memory_bytes: int = 64 << 20
    timeout_s: float = 60.0
    retries: int = 8
    settle_s: float = 15.0
    min_age_s: float = 0.0
    max_duration_s: float | None = None
    max_starts: int | None = None  # flows started by one run: more are refused
    starts_per_run: int | None = None  # the same, and the others are left to the next runs
    max_bytes: int | None = None  # of sources, not encoded, sent by one run
    check_images: bool = False  # decode images before they are sent
    max_pixels: int | None = None  # of an image
    price_per_start: Price | None = None  # as the user says it
    max_cost: Price | None = None  # of the starts of one run, in the same unit


Hook: TypeAlias = "str | tuple[str, ...] | None"


@dataclass(frozen=True, slots=True)
class Notify:
    """Who is told of a run. `ping`: an address in the style of healthchecks. The hooks: a line for the shell, or words."""

    ping: str | None = None
    on_success: Hook = None
    on_failure: Hook = None
    on_problem: Hook = None


@row(frozen=True, slots=True)
class FileSource:
    """A file; `path` is where it can be opened."""

    stat_tells: ClassVar[bool] = True  # an unchanged stat stands for unchanged content
    path: str


@row(frozen=True, slots=True)
class TextSource:
    """A text that the manifest itself holds."""

    stat_tells: ClassVar[bool] = False  # it has a length only
    text: str


@row(frozen=True, slots=True)
class ObjectSource:
    """An object: `url` is where it can be read, and may be signed, so that it is never shown. `listed`: what a listing said of
    it (size, time of its last change, its mark), in place of a look at each."""

    stat_tells: ClassVar[bool] = True  # its mark is its ETag's, or its content's
    url: str = field(repr=False)
    listed: FileStat | None = None


# Where an input's content comes from. What can be done with each kind is settled in `batcher.sources`, by its type.
Source: TypeAlias = FileSource | TextSource | ObjectSource


@row(frozen=True, slots=True)
class Input:
    """One asset of a flow, as meant: where its content comes from, and what is attached to it.

    `label` is what people know it by: the path as the manifest spells it (relative to the manifest's folder, POSIX
    slashes), or for a text its first 60 characters. `mime` is the type the manifest demands (None: detect it). `additional`
    is any JSON value, or ABSENT. `key`, unique in the flow, is its identity instead of the label or text (None: those are).
    """

    label: str
    source: Source
    mime: str | None
    additional: JSON | Absent
    place: Place
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Flow:
    """One remote job, expanded: `inputs()` lists what it takes, lazily, the same each time; a Problem stands where an
    input could not be told (a pattern that matches nothing, an unknown column).

    Either `template` or `flow_id` is set. `additional` is the flow's own object (None: none). `template_place` tells where
    the template stands, where it is that of several flows (None: at `place`).
    """

    name: str
    template: str | None
    flow_id: str | None
    parameters: Mapping[str, JSON]
    additional: Mapping[str, JSON] | None
    place: Place
    inputs: Callable[[], Iterator[Input | Problem]] = field(repr=False, compare=False)
    template_place: Callable[[], Place] | None = field(default=None, repr=False, compare=False)


Sifted: TypeAlias = "tuple[Callable[[], Iterator[Flow | Problem]], Callable[[bool], list[Problem]]]"  # `flows` and `notes`


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest that has been read and is right as a text; its patterns and tables are expanded by `flows()`.

    `flows()` lists the flows lazily, the same each time, with a Problem where one could not be told (a repeated name,
    an unknown column). `path` and `folder` are absolute; `name` is the manifest as the user spelled it, for messages.
    `notes` tells, once, what was noticed while the flows were listed: what was left out for a reason (True), and what may
    have been meant (False).
    """

    name: str
    path: str
    folder: str
    batch: str
    endpoint: str
    limits: Limits
    flows: Callable[[], Iterator[Flow | Problem]] = field(repr=False, compare=False)
    notify: Notify = field(default=Notify(), repr=False)  # the address of a ping is a secret of a kind
    metrics: str | None = None  # absolute path of a file for Prometheus
    notes: Callable[[bool], list[Problem]] = field(default=lambda reasons: [], repr=False, compare=False)
    sifted: Callable[[CollectedView, Callable[[], None]], Sifted] | None = field(default=None, repr=False, compare=False)
    digest: str = ""  # of its text, by which several hosts tell that they have the same

    def knowing(self, journal: CollectedView, go_on: Callable[[], None] = lambda: None) -> Manifest:
        """The same manifest, whose patterns leave out what the journal has collected. `go_on` may end a long listing with an
        error."""
        if self.sifted is None:
            return self
        flows, notes = self.sifted(journal, go_on)
        return replace(self, flows=flows, notes=notes)
