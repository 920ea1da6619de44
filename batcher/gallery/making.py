"""The gallery of a batch, made: results and inputs are looked at, and the page is written with what it needs beside it.

In: a manifest, how its flows stand, the folder of the results. Out: `gallery.html`, whole or not at all. Called by `batcher
gallery` and `batcher collect --gallery`. No network; no more than `MOST` cards are held, however many inputs there are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeAlias, assert_never
from urllib.parse import quote

from ..core.errors import BatcherError, UsageError
from ..core.markup import embedded
from ..core.model import FileSource, Flow, Input, Manifest, ObjectSource, TextSource
from ..core.output_names import GALLERY
from ..core.text import shown
from ..host import system
from .cards import Card, CardState, OfFlow, Row, State, cards_of
from .files import PROMPT_BYTES, GalleryFolder, Look, address, file_address, is_below, look, safe_output
from .page import PageSums, head, tail
from .results import rows_of

MOST: Final = 50_000  # cards on a page: 25 MB of it
META_BYTES: Final = 4096  # in which a page says whose it is
IMAGES: Final = (".png", ".jpg", ".webp", ".gif")


@dataclass(frozen=True, slots=True)
class GalleryOptions:
    """`served`: for a web server only, without the models as scripts. `copy_inputs`: lay the inputs beside the page."""

    served: bool = False
    copy_inputs: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """What came of it. `left_out`: cards beyond the most that a page has; `written`: files beside the page made anew."""

    path: Path
    sums: PageSums
    models: int
    copies: int
    written: int
    bytes: int
    page_bytes: int

    def json(self) -> dict[str, Any]:
        states = {state.name.lower(): number for state, number in self.sums.states.items()}
        return {"gallery": str(self.path), "cards": states, "left_out": self.sums.left_out, "models": self.models,
                "inputs_copied": self.copies, "files_written": self.written, "bytes_written": self.bytes,
                "page_bytes": self.page_bytes}  # fmt: skip


CardStates: TypeAlias = Callable[[Callable[[str], bool]], Mapping[str, CardState]]


def make(manifest: Manifest, card_states: CardStates, to: Path, options: GalleryOptions, now: float) -> Made:
    """Make it. `card_states`: of the flows that are wanted, and of those that only the journal knows. Raises UsageError."""
    root = Path(os.path.abspath(to))
    try:
        return _make(manifest, card_states, root, options, now)
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        raise UsageError(f"the gallery cannot be written: {what}{error.strerror or error}",
                         "free some space or check the folder's permissions") from error  # fmt: skip


def _make(manifest: Manifest, card_states: CardStates, root: Path, options: GalleryOptions, now: float) -> Made:
    names, more = _names(manifest)

    def wanted(name: str) -> bool:
        return not more or name in names

    rows = rows_of(root, manifest.batch, wanted)
    known = card_states(wanted)
    beside = GalleryFolder(root, manifest.batch, manifest.endpoint)
    lock = os.open(os.path.dirname(beside.folder("models")), os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            system.lock(lock, wait=True)
        writer = _Writer(manifest, root, beside, options, bool(rows))
        gone = [name for name in {**known, **rows} if name not in names]
        for of_flow in _flows(manifest, rows, known, gone):
            writer.add(of_flow)
        writer.sums.left_out += more
        viewer = beside.viewer()
        path = _page_path(root, beside.slug)
        size = writer.write(path, viewer, now)
        beside.sweep()
    finally:
        os.close(lock)
    return Made(path, writer.sums, beside.models, beside.copies, beside.written, beside.bytes, size)


def _names(manifest: Manifest) -> tuple[set[str], int]:
    """The names of the flows that can have a card, and how many there are beyond them."""
    names: set[str] = set()
    more = 0
    for flow in _of_manifest(manifest):
        if len(names) < MOST:
            names.add(flow.name)
        else:
            more += 1
    return names, more


def _of_manifest(manifest: Manifest) -> Iterator[Flow]:
    with suppress(BatcherError, OSError):  # a pattern that cannot be expanded today: what the lists know remains
        for item in manifest.flows():
            if isinstance(item, Flow):
                yield item


def _flows(
    manifest: Manifest, rows: Mapping[str, list[Row]], known: Mapping[str, CardState], gone: list[str]
) -> Iterator[OfFlow]:
    for flow in islice(_of_manifest(manifest), MOST):
        inputs: list[Input] = []
        with suppress(BatcherError, OSError):
            inputs += (item for item in islice(flow.inputs(), MOST) if isinstance(item, Input))
        yield cards_of(flow.name, flow, inputs, rows.get(flow.name, ()), known.get(flow.name))
    for name in gone:
        yield cards_of(name, None, (), rows.get(name, ()), known.get(name))


class _Writer:
    """Cards as they are put into the page: small pieces of JSON."""

    def __init__(self, manifest: Manifest, root: Path, beside: GalleryFolder, options: GalleryOptions, collected: bool) -> None:
        self._manifest = manifest
        self._at = str(root)
        self._beside = beside
        self._served = options.served
        # Without a list of results nothing tells the manifest's own patterns that copies are no sources.
        self._copies = options.copy_inputs and collected
        self._flows: list[str] = []
        self._cards: list[str] = []
        self._members: dict[str, int] = {}
        self._looked: dict[str, tuple[Look, str, str]] = {}
        self.sums = PageSums()

    def add(self, of_flow: OfFlow) -> None:
        room = MOST - len(self._cards)
        self.sums.left_out += max(0, len(of_flow.cards) - room)
        if room <= 0:
            return
        raw, name = of_flow.name, shown(of_flow.name)
        self._flows.append(embedded([name, of_flow.flow_id, of_flow.inputs, *([raw] if raw != name else [])]))
        self.sums.flows += 1
        for card in of_flow.cards[:room]:
            made = self._card(card)
            self.sums.states[State(made["s"])] += 1
            self._cards.append(embedded({name: value for name, value in made.items() if value != ""}))

    def _card(self, card: Card) -> dict[str, Any]:
        made: dict[str, Any] = {"f": len(self._flows) - 1, "s": int(card.state), "w": shown(card.said)}
        if card.source is not None:
            made |= self._source(card.source)
        elif card.row is not None:
            made |= {"l": shown(card.row.source), "k": "unknown"}
        if card.row is not None:
            made |= {"a": shown(card.row.asset_id), **self._output(card.row)}
            if card.row.output and "o" not in made:
                made |= {"s": int(State.MISSING), "w": "it is gone from the folder"}
        made |= {"u": 1 if card.unsure and card.row is not None else "", "e": 1 if card.earlier else ""}
        pairs = [(self._members.setdefault(shown(name), len(self._members)), shown(value)) for name, value in card.members]
        return made | ({"x": [part for pair in pairs for part in pair]} if pairs else {})

    def _source(self, source: Input) -> dict[str, Any]:
        made: dict[str, Any] = {"l": shown(source.label)}
        match source.source:
            case TextSource(text):
                return made | {"k": "text", "p": _words(text[:PROMPT_BYTES])}
            case FileSource(path):
                return made | self._file(os.path.abspath(path))
            case ObjectSource():  # the page asks no other host
                return made | {"k": "elsewhere"}
            case _ as other:
                assert_never(other)

    def _file(self, path: str) -> dict[str, Any]:
        if path not in self._looked:
            if len(self._looked) > 1000:
                self._looked.clear()
            self._looked[path] = self._look(path)
        seen, link, model = self._looked[path]
        if seen.kind == "gone":
            return {"k": "gone", "h": shown(path)}
        return {"k": seen.kind, "h": link, "i": model, "p": _words(seen.text)}

    def _look(self, path: str) -> tuple[Look, str, str]:
        """The file, its address, its id as a model."""
        seen = look(path)
        if seen.stat is None:
            return seen, "", ""
        model = self._beside.model(path, seen.stat) if seen.kind == "model" and not self._served else ""
        if self._copies:
            return seen, self._beside.copy(path, seen), model
        root, folder = self._at, self._manifest.folder
        near = is_below(path, root) or (is_below(path, folder) and is_below(root, folder))
        return seen, address(path, root) if near else file_address(path), model

    def _output(self, row: Row) -> dict[str, Any]:
        if not safe_output(row.output):
            return {}
        path = os.path.join(self._at, row.output)
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            return {}
        made = {"o": quote(os.fsencode(os.path.normpath(row.output))), "n": shown(row.output), "b": found.st_size}
        if row.output.endswith(".glb"):
            return made | {"t": "model", "m": "" if self._served else self._beside.model(path, found)}
        return made | {"t": "image" if row.output.endswith(IMAGES) else "other"}

    def write(self, path: Path, viewer: str, now: float) -> int:
        """The page, whole or not at all; its size."""
        data = {"batch": shown(self._manifest.batch), "manifest": shown(self._manifest.name), "key": self._beside.slug,
                "place": self._beside.place, "viewer": viewer, "words": [state.word for state in State],
                "members": list(self._members), "served": self._served, "most": MOST}  # fmt: skip
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with open(part, "wb") as file:
                def put(text: str) -> None:
                    file.write(text.encode("utf-8", "backslashreplace"))  # half a character: as JSON spells it

                put(head(self._manifest, self.sums, self._beside.slug, now))
                put(embedded(data)[:-1] + ',"flows":[')
                for name, pieces in (("", self._flows), ('],"cards":[', self._cards)):
                    put(name)
                    for n, piece in enumerate(pieces):
                        put(f",\n{piece}" if n else piece)
                put("]}" + tail())
                file.flush()
                system.to_disk(file.fileno())
            size = part.stat().st_size
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return size


def _words(text: str) -> str:
    """A text of several lines, with its line ends."""
    return "\n".join(shown(line) for line in text.splitlines())


def _page_path(root: Path, slug: str) -> Path:
    """`gallery.html`, unless that is the gallery of another batch whose outputs are in the folder, too."""
    path = root / f"{GALLERY}.html"
    with suppress(OSError), open(path, "rb") as file:
        if b'<meta name="batcher-gallery"' in (start := file.read(META_BYTES)) and f'content="{slug}"'.encode() not in start:
            return root / f"{GALLERY}-{slug}.html"
    return path
