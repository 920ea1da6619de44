"""The inputs of a flow: an entry, bound to the flow's columns, lists its `Input`s lazily.

In: an `Entry` as `input_entries` has read it, and rows. Out: `Input`s, and a Problem where one cannot be read. Called by
`flows`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeAlias

from batcher.core.model import (
    ABSENT,
    JSON,
    TAG,
    Absent,
    FileSource,
    Input,
    ObjectSource,
    Place,
    Problem,
    ProblemKind,
    TextSource,
)
from batcher.core.objects import is_address, shown
from batcher.manifest.findings import Mark, Unfit, harmless, quoted
from batcher.manifest.object_patterns import LISTED, ListedObject
from batcher.manifest.paths import Base, spelled_path
from batcher.manifest.row_sources import GLOB_COLUMNS, GLOB_ORIGIN, OpenedRows, Source
from batcher.manifest.sieve import Sieve
from batcher.manifest.template import (
    Const,
    Missing,
    Node,
    Render,
    Row,
    Scope,
    Text,
    bind,
    bind_checked,
    bind_text,
    unknown,
    uses,
)
from batcher.manifest.values import check_key, check_mime, check_text

LABEL_CHARS: Final = 60  # of a prompt

Make: TypeAlias = Callable[[Row, Place], Input]  # may raise Unfit
List: TypeAlias = Callable[[Row, "Place | None", str], Iterator[Input | Problem]]


def file_input(
    path: str, base: Base, mime: str | None, additional: JSON | Absent, place: Place, key: str | None,
    listed: ListedObject | None = None,
) -> Input:  # fmt: skip
    """The input of a path or an address, as `spelled_path` gives it. `listed`: what a listing said of the row's object."""
    if "//" in path and is_address(path):
        stat = listed.stat if listed is not None and listed.url == path else None
        return Input(shown(path), ObjectSource(path, stat), mime, additional, place, key)
    full = path if path[0] == "/" else base.inner + path
    return Input(base.label(path) if base.prefix else path, FileSource(full), mime, additional, place, key)


def text_input(text: str, additional: JSON | Absent, place: Place, key: str | None) -> Input:
    return Input(text[:LABEL_CHARS], TextSource(text), None, additional, place, key)


@dataclass(frozen=True, slots=True)
class Item:
    """What one input is made of: a path or a prompt, and what is attached to it."""

    is_text: bool
    content: Const | Text
    mime: Const | Text | None
    additional: Node | Absent
    key: Const | Text | None = None

    def nodes(self) -> list[Node | None]:
        return [self.content, self.mime, None if isinstance(self.additional, Absent) else self.additional, self.key]

    def bind(self, scope: Scope, base: Base) -> Make:
        """The function from a row to the input."""
        content = bind_text(self.content, scope)
        additional = _bind_additional(self.additional, scope)
        key = bind_checked(self.key, scope, check_key)
        if self.is_text:

            def make_text(row: Row, place: Place) -> Input:
                return text_input(check_text(content(row)), additional(row), place, key(row))

            return make_text
        mime = bind_checked(self.mime, scope, check_mime)
        listed_at = scope.columns.get(LISTED)

        def make_file(row: Row, place: Place) -> Input:
            path = spelled_path(content(row))
            listed = None if listed_at is None else row[listed_at]
            return file_input(path, base, mime(row), additional(row), place, key(row), listed)

        return make_file


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry that waits for the flow's row (no source), or expands a pattern or a table."""

    item: Item
    source: Source | None
    place: Place

    @property
    def of_files(self) -> bool:
        """Whether what differs between its inputs comes from the names of files."""
        return self.source is not None and self.source.kind == "glob"

    def nodes(self) -> list[Node | None]:
        return [*self.item.nodes(), *(() if self.source is None else self.source.nodes())]

    def may_use_outer(self) -> bool:
        """Whether a column of the flow's row may be used here; a table of its own may have one of that name."""
        own = GLOB_COLUMNS if self.of_files else ()
        outer = () if self.source is None else self.source.nodes()
        return any(uses(*outer)) or any(name not in own for name, _ in uses(*self.item.nodes()))

    def unknown_names(self, known: Scope | None) -> Iterator[tuple[Mark, Unfit]]:
        """The placeholders that name nothing, as far as the flow's columns show it (None: not known)."""
        if known is None:
            return
        if self.source is None:
            yield from unknown_in(self.item.nodes(), known)
            return
        yield from unknown_in(self.source.nodes(), known)
        if self.source.kind == "glob":
            names = {**known.columns, **dict.fromkeys(GLOB_COLUMNS, 0)}
            yield from unknown_in(self.item.nodes(), replace(known, columns=names, origin=GLOB_ORIGIN))

    def bind(self, outer: Scope, base: Base, place_of: Callable[[Mark], Place], sieve: Sieve) -> List:
        """The function that lists the inputs for a row of the flow's columns."""
        if self.source is not None:
            return _Expansion(self, self.source, outer, base, place_of, sieve).inputs
        make = self.item.bind(outer, base)
        own_place = self.place

        def one(row: Row, place: Place | None, flow: str) -> Iterator[Input | Problem]:
            found: Input | Problem
            try:
                found = make(row, place or own_place)
            except Unfit as unfit:
                found = unfit.at(place or own_place, flow=flow)
            yield found

        return one


class _Expansion:
    """An entry with a pattern or a table, bound to the flow's columns."""

    def __init__(
        self, entry: Entry, source: Source, outer: Scope, base: Base, place_of: Callable[[Mark], Place], sieve: Sieve
    ) -> None:
        self._entry = entry
        self._source = source
        self._outer = outer
        self._base = base
        self._place_of = place_of
        self._open = source.at(outer, base, partial(place_of, source.mark), sieve)
        self._names = {name for name, _ in uses(*entry.item.nodes())}
        self._bound: tuple[Scope, Make] | None = None

    def inputs(self, row: Row, place: Place | None, flow: str) -> Iterator[Input | Problem]:
        opened = self._open(row, {name: self._outer_value(name, row) for name in self._names})
        if isinstance(opened, Problem):
            yield replace(opened, flow=flow)
            return
        scope = opened.scope(self._outer)
        wrong = list(unknown_in(self._entry.item.nodes(), scope))
        yield from (unfit.at(self._place_of(mark), flow=flow) for mark, unfit in wrong)
        make = None if wrong else self._make(scope)
        count = 0
        for count, found in enumerate(opened.rows, 1):  # noqa: B007 - used below the loop
            if isinstance(found, Problem):
                yield replace(found, flow=flow)
            elif make is not None:
                inner, where = found
                where = where or self._entry.place
                made: Input | Problem
                try:
                    made = make((*row, *inner) if row else inner, where)
                except Unfit as unfit:
                    made = unfit.at(where, flow=flow)
                    if self._source.kind == "glob":  # what the row has comes from the file's name
                        made = replace(made, kind="source", input=harmless(self._base.label(str(inner[0]))))
                yield made
        if not count:
            yield replace(self._nothing(opened), flow=flow)

    def _outer_value(self, name: str, row: Row) -> Any:
        position = self._outer.columns.get(name)
        return Missing(()) if position is None else row[position]

    def _make(self, scope: Scope) -> Make:
        """Binds the item; a flow after the other usually opens tables of the same columns."""
        if self._bound is None or self._bound[0] != scope:
            self._bound = scope, self._entry.item.bind(scope, self._base)
        return self._bound[1]

    def _nothing(self, opened: OpenedRows) -> Problem:
        """That there is nothing: the manifest's fault, or where the flow's row says where to look, that row's."""
        place = self._place_of(self._source.mark)
        kind: ProblemKind = "source" if self._source.of_rows else "manifest"
        shown = quoted(opened.name)
        if self._source.kind == "table":
            return Problem(kind, f"the table {shown} has no rows", "fill it, or remove the input", place)
        if opened.results:
            message = f"what the pattern {shown} matches are results that collect wrote, and no sources"
            return Problem(kind, message, "take results up in another manifest, whose pattern names their folder", place)
        if opened.left_out:
            message = f"the pattern {shown} matches {opened.left_out:,} files, and `exclude` leaves none of them"
            return Problem(kind, message, "correct `exclude`, or remove the input", place)
        hint = opened.advice or "correct it, or remove the input; it is relative to the manifest's folder"
        if "{" in opened.name:
            hint = "braces are no alternatives here: write one input per pattern"
        return Problem(kind, f"the pattern {shown} matches no file", hint, place)


def unknown_in(nodes: Iterable[Node | None], scope: Scope) -> Iterator[tuple[Mark, Unfit]]:
    """The placeholders in the nodes that name no column, with the positions of their strings."""
    for name, mark in uses(*nodes):
        if name not in scope.columns:
            yield mark, unknown(name, scope.columns, scope.origin)


def _bind_additional(node: Node | Absent, scope: Scope) -> Render:
    if isinstance(node, Absent):
        return lambda _: ABSENT
    render = bind(node, scope)
    if not isinstance(node, Text) or scope.all_text:
        return render

    def without_tag(row: Row) -> Any:
        value = render(row)
        if isinstance(value, dict) and TAG in value:
            raise Unfit(f"`additional` may not hold the member `{harmless(TAG)}`", "batcher puts its tag there")
        return value

    return without_tag
