"""The inputs of a flow: what each entry under `inputs` says, and the `Input`s that it becomes.

In: an entry of the tree. Out: an `Input` where nothing is left to expand, else an `Entry` that is bound to the flow's
columns and lists its inputs lazily. Called by `flows`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from batcher.core.model import ABSENT, TAG, Absent, Input, Place, Problem
from batcher.manifest import sources
from batcher.manifest.document import BROKEN, Map, Value
from batcher.manifest.errors import Findings, Unfit, harmless, quoted
from batcher.manifest.paths import spelled_path
from batcher.manifest.sources import GLOB_COLUMNS, GLOB_ORIGIN, Opened, Source
from batcher.manifest.template import (
    NO_SCOPE,
    Const,
    Missing,
    Name,
    Node,
    Render,
    Row,
    Scope,
    Text,
    bind,
    bind_text,
    compile_text,
    compile_value,
    unknown,
    uses,
)

LABEL_CHARS: Final = 60  # of a prompt
_MIME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}", re.ASCII)

Make: TypeAlias = Callable[[Row, Place], Input]  # may raise Unfit
List: TypeAlias = Callable[[Row, "Place | None", str], Iterator[Input | Problem]]


@dataclass(frozen=True, slots=True)
class Item:
    """What one input is made of: a path or a prompt, and what is attached to it."""

    is_text: bool
    content: Const | Text
    mime: Const | Text | None
    additional: Node | Absent

    def nodes(self) -> list[Node | None]:
        return [self.content, self.mime, None if isinstance(self.additional, Absent) else self.additional]

    def bind(self, scope: Scope, folder: str) -> Make:
        """The function from a row to the input."""
        content = bind_text(self.content, scope)
        additional = _bind_additional(self.additional, scope)
        if self.is_text:

            def make_text(row: Row, place: Place) -> Input:
                text = check_text(content(row))
                return Input(text[:LABEL_CHARS], None, text, None, additional(row), place)

            return make_text
        mime = _bind_mime(self.mime, scope)
        base = folder.rstrip("/") + "/"

        def make_file(row: Row, place: Place) -> Input:
            path = spelled_path(content(row))
            full = path if path[0] == "/" else base + path
            return Input(path, full, None, mime(row), additional(row), place)

        return make_file


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry that waits for the flow's row (no source), or expands a pattern or a table."""

    item: Item
    source: Source | None
    place: Place

    def nodes(self) -> list[Node | None]:
        return [*self.item.nodes(), None if self.source is None else self.source.node]

    def unknown_names(self, known: Scope | None) -> Iterator[tuple[int, Unfit]]:
        """The placeholders that name nothing, as far as it can be told with the flow's columns (None: not known)."""
        if known is None:
            return
        if self.source is None:
            yield from unknown_in(self.item.nodes(), known)
            return
        yield from unknown_in([self.source.node], known)
        if self.source.kind == "glob":
            names = {**known.columns, **dict.fromkeys(GLOB_COLUMNS, 0)}
            yield from unknown_in(self.item.nodes(), replace(known, columns=names, origin=GLOB_ORIGIN))

    def bind(self, outer: Scope, folder: str, place_of: Callable[[int], Place]) -> List:
        """The function that lists the inputs for a row of the flow's columns."""
        if self.source is not None:
            return _Expansion(self, self.source, outer, folder, place_of).inputs
        make = self.item.bind(outer, folder)
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

    def __init__(self, entry: Entry, source: Source, outer: Scope, folder: str, place_of: Callable[[int], Place]) -> None:
        self._entry = entry
        self._source = source
        self._outer = outer
        self._folder = folder
        self._place_of = place_of
        self._open = source.at(outer, folder, place_of(source.mark))
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
                yield made
        if not count:
            yield replace(self._nothing(opened), flow=flow)

    def _outer_value(self, name: str, row: Row) -> Any:
        position = self._outer.columns.get(name)
        return Missing(()) if position is None else row[position]

    def _make(self, scope: Scope) -> Make:
        """Binds the item; a flow after the other usually opens tables of the same columns."""
        if self._bound is None or self._bound[0] != scope:
            self._bound = scope, self._entry.item.bind(scope, self._folder)
        return self._bound[1]

    def _nothing(self, opened: Opened) -> Problem:
        place = self._place_of(self._source.mark)
        shown = quoted(opened.name)
        if self._source.kind == "table":
            return Problem("manifest", f"the table {shown} has no rows", "fill it, or remove the input", place)
        hint = "correct it, or remove the input; it is relative to the manifest's folder"
        if "{" in opened.name:
            hint = "braces are no alternatives here: write one input per pattern"
        return Problem("manifest", f"the pattern {shown} matches no file", hint, place)


def unknown_in(nodes: Iterable[Node | None], scope: Scope) -> Iterator[tuple[int, Unfit]]:
    """The placeholders in the nodes that name no column, with the positions of their strings."""
    for name, mark in uses(*nodes):
        if name not in scope.columns:
            yield mark, unknown(name, scope.columns, scope.origin)


# --- From the tree ----------------------------------------------------------------------------------------------------


def compile_entry(raw: Value, mark: int, folder: str, findings: Findings, *, active: bool) -> Input | Entry | None:
    """What an entry says. `active`: the flow has columns. None: a problem was noted."""
    place = findings.place(mark)
    if isinstance(raw, str):
        raw_map = Map(file=raw)
        raw_map.marks = [mark, mark, mark]
        return compile_entry(raw_map, mark, folder, findings, active=active)
    if not isinstance(raw, Map):
        return None
    source = compile_source(raw, findings, active=active)
    inside = active or source is not None
    item = _compile_item(raw, findings, active=inside)
    if item is None:
        return None
    if source is None and all(isinstance(node, Const | None) for node in item.nodes()):
        try:
            return item.bind(NO_SCOPE, folder)((), place)
        except Unfit:
            return None  # noted by the checks of its members
    return Entry(item, source, place)


def compile_source(raw: Map, findings: Findings, *, active: bool) -> Source | None:
    """The `glob` or `table` of an entry, or of `each`; None where there is none, or it is wrong."""
    for kind in ("glob", "table"):
        text = raw.get(kind)
        if isinstance(text, str):
            mark = raw.mark(kind)
            node = compile_text(text, mark, findings, active=active)
            try:
                if kind == "glob":
                    sources.check_pattern(node, text)
                    node = sources.glob_node(node, text)
                else:
                    sources.check_table(node)
            except Unfit as unfit:
                findings.add(mark, unfit.message, unfit.hint)
            return Source(kind, node, mark)
    return None


def _compile_item(raw: Map, findings: Findings, *, active: bool) -> Item | None:
    if "glob" in raw:
        content: Const | Text = Text((Name("path"),), raw.mark("glob"))
        is_text = False
    else:
        if "table" in raw and not _one_content(raw, findings):
            return None
        is_text = raw.get("text") is not None
        found = _checked_text(raw, "text" if is_text else "file", check_text if is_text else spelled_path, findings, active)
        if found is None:
            return None
        content = found
    mime = _checked_text(raw, "mime", check_mime, findings, active)
    if is_text and mime is not None:
        findings.add(raw.key_mark("mime"), "`mime` is for files: a prompt is always text/plain", "leave it out")
    additional: Node | Absent = ABSENT
    if "additional" in raw:
        check_no_tag(raw["additional"], findings)
        additional = compile_value(raw["additional"], raw.mark("additional"), findings, active=active)
    return Item(is_text, content, mime, additional)


def _one_content(raw: Map, findings: Findings) -> bool:
    """Whether a table says which column is the input: `file` or `text`."""
    given = [key for key in ("file", "text") if raw.get(key) is not None]
    if len(given) == 2:
        findings.add(raw.key_mark("text"), "a table's row cannot be both `file` and `text`", "make two inputs of it")
    elif not given:
        findings.add(raw.marks[0], "this table says neither `file` nor `text`", 'add one, like file: "photos/{file}"')
    return len(given) == 1


def _checked_text(raw: Map, key: str, check: Callable[[str], object], findings: Findings, active: bool) -> Const | Text | None:
    text = raw.get(key)
    if not isinstance(text, str):
        return None
    mark = raw.mark(key)
    node = compile_text(text, mark, findings, active=active)
    if isinstance(node, Const):
        try:
            check(str(node.value))
        except Unfit as unfit:
            findings.add(mark, unfit.message, unfit.hint)
    return node


def check_no_tag(raw: Value, findings: Findings) -> None:
    """Notes the member that is batcher's own."""
    if isinstance(raw, Map) and TAG in raw and raw[TAG] is not BROKEN:
        findings.add(raw.key_mark(TAG), f"`additional` may not hold the member `{TAG}`", "batcher puts its tag there")


# --- Values -------------------------------------------------------------------------------------------------------------


def check_text(text: str) -> str:
    """A prompt as the service takes it. Raises Unfit."""
    if not text or text.isspace():
        raise Unfit("the prompt is empty", "write what to make, or remove the input")
    if text[:5].lower() == "data:":
        raise Unfit("the prompt begins with `data:`", "the service would read it as a file; reword it, or use `file`")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Unfit("the prompt has half a surrogate pair", "write the character itself") from None
    return text


def check_mime(mime: str) -> str:
    if not _MIME.fullmatch(mime):
        raise Unfit(f"{quoted(mime)} is no MIME type", "write one like image/png, without parameters")
    return mime


def _bind_mime(node: Const | Text | None, scope: Scope) -> Render:
    if node is None or isinstance(node, Const):
        mime = None if node is None else node.value
        return lambda _: mime
    render = bind_text(node, scope)
    return lambda row: check_mime(render(row))


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
