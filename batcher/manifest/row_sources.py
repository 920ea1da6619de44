"""Where the rows of an expansion come from: the files that match a pattern, or the rows of a table.

In: the `glob` or `table` member, the folder of the manifest. Out: `OpenedRows`: the columns and the rows, lazily; a
Problem stands where a row, or the whole source, cannot be read. Called by `inputs` and `flows`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Final, TypeAlias

from batcher.core.model import Place, Problem
from batcher.core.objects import is_address
from batcher.manifest import files, object_patterns, patterns, tables
from batcher.manifest.environment import Data, pieces
from batcher.manifest.findings import Mark, Unfit, harmless, quoted
from batcher.manifest.object_patterns import LISTED, ListedObject
from batcher.manifest.paths import Base, spelled_path
from batcher.manifest.sieve import Sieve
from batcher.manifest.template import NO_SCOPE, Const, Node, Row, Scope, Text, bind_text

GLOB_COLUMNS: Final = ("path", "name", "stem", "suffix", "parent", "index")
GLOB_ORIGIN: Final = "a pattern's variables"

PlaceOf: TypeAlias = Callable[[], Place]  # asked for where it is told
Rows: TypeAlias = Iterator[tuple[Row, Place | None] | Problem]


@dataclass(slots=True)
class OpenedRows:
    """A source as one outer row sees it. A row's place is None where it stands in no text file (a match)."""

    name: str  # the pattern, or the table's path, as it was opened
    columns: tuple[str, ...]
    all_text: bool
    origin: str  # what the columns are of, for messages
    rows: Rows
    left_out: int = 0  # matches that `exclude` took away
    results: int = 0  # matches that are results, and no sources
    advice: str = ""  # where there is none

    def scope(self, outer: Scope) -> Scope:
        """The columns of the outer row, then of this one's rows, which shadow them."""
        columns = {**outer.columns, **{name: outer.width + i for i, name in enumerate(self.columns)}}
        return Scope(columns, outer.all_text and self.all_text, outer.width + len(self.columns), self.origin)


@dataclass(frozen=True, slots=True)
class Source:
    """A `glob` or a `table`, read but not opened."""

    kind: str
    node: Const | Text
    mark: Mark
    exclude: tuple[tuple[Const | Text, Mark], ...] = ()  # patterns of what to leave out, with their positions

    def nodes(self) -> list[Node | None]:
        return [self.node, *(node for node, _ in self.exclude)]

    @property
    def of_rows(self) -> bool:
        """Whether the outer row tells what is opened: what is wrong with it is not wrong for every row."""
        return isinstance(self.node, Text)

    def at(
        self, scope: Scope, base: Base, place: PlaceOf, sieve: Sieve
    ) -> Callable[[Row, Mapping[str, object]], OpenedRows | Problem]:
        """Binds it to the outer row's columns. The function opens it: `wanted` has the names that anyone asks for,
        and what stands for each where a row has no such column. Problems with the source stand at `place`.
        """
        spell = _pattern_text(self.node, scope) if self.kind == "glob" else bind_text(self.node, scope)
        without = [_pattern_text(node, scope) for node, _ in self.exclude]

        def opened(row: Row, wanted: Mapping[str, object]) -> OpenedRows | Problem:
            try:
                if self.kind == "glob" and is_address(text := spell(row)):
                    return _open_objects(text, [render(row) for render in without], place, sieve)
                if self.kind == "glob":
                    return _open_glob(spell(row), [render(row) for render in without], base, place, wanted, sieve)
                return _open_table(spell(row), base, place, wanted)
            except Unfit as unfit:
                return unfit.at(place())

        return opened


def check_pattern(node: Const | Text, text: str) -> None:
    """Raises Unfit for a pattern that can be seen to be wrong before any row is known."""
    if isinstance(node, Const):
        (object_patterns.parse if is_address(text) else patterns.parse)(literal_pattern(text))


def check_exclude(node: Const | Text, text: str, beside: str) -> None:
    """Raises Unfit for a pattern that leaves out something else than its writer meant. `beside`: the `glob`."""
    check_pattern(node, text)
    # In .gitignore and rclone such a pattern counts everywhere; here it would miss what it was meant for, in silence.
    if isinstance(node, Const) and "/" not in text and "/" in beside:
        raise Unfit(
            f"{quoted(text)} names no folder, and the pattern {quoted(beside)} does",
            f'write "**/{harmless(text, 40)}" for any folder, or "./{harmless(text, 40)}" for the manifest\'s own',
        )


def check_table(node: Const | Text) -> None:
    """Raises Unfit for a table's path that can be seen to be wrong before any row is known."""
    if isinstance(node, Const):
        _check_here(str(node.value))
        tables.kind_of(spelled_path(str(node.value)))


def _check_here(text: str) -> None:
    if is_address(text):
        raise Unfit("a table is a file; an object cannot be one", "copy it beside the manifest; its cells may name objects")


def glob_node(node: Const | Text, text: str) -> Const | Text:
    """The node of a pattern: what the environment brought into it matches only itself."""
    return Const(literal_pattern(text)) if isinstance(node, Const) else node


def literal_pattern(text: str) -> str:
    """A pattern in which what the environment brought matches only itself."""
    return "".join(patterns.escape(piece) if isinstance(piece, Data) else piece for piece in pieces(text))


def _pattern_text(node: Const | Text, scope: Scope) -> Callable[[Row], str]:
    if isinstance(node, Const):
        return bind_text(node, NO_SCOPE)
    renders = [
        _escaped(bind_text(Text((part,), node.mark), scope)) if not isinstance(part, str) else _fixed(part)
        for part in node.parts
    ]
    return lambda row: "".join(render(row) for render in renders)


def _escaped(render: Callable[[Row], str]) -> Callable[[Row], str]:
    return lambda row: patterns.escape(render(row))


def _fixed(part: str) -> Callable[[Row], str]:
    text = patterns.escape(part) if isinstance(part, Data) else part
    return lambda _: text


def _open_glob(
    text: str, without: list[str], base: Base, place: PlaceOf, wanted: Mapping[str, object], sieve: Sieve
) -> OpenedRows | Problem:
    pattern = patterns.parse(text)
    excluded = [patterns.parse(one) for one in without]
    walk = patterns.Walk(pattern, base.folder, sieve.suspected)
    matches = walk.matches
    if not matches and not walk.unreadable and (missing := _missing(pattern, base, place, sieve)):
        return missing
    kept = _without(matches, pattern.absolute, excluded, base.folder) if excluded else matches
    results = sieve.results(text, pattern, walk, kept, base.folder)
    sieve.noticed(text, pattern, walk)
    left_out = len(matches) - len(kept)
    if results:
        kept = [path for path in kept if path not in results]
    rows = _matches(kept, base, place)
    if walk.unreadable:
        rows = chain(_unreadable(walk.unreadable, base, place), rows)
    return OpenedRows(text, GLOB_COLUMNS, "index" not in wanted, GLOB_ORIGIN, rows, left_out, len(results))


def _open_objects(text: str, without: list[str], place: PlaceOf, sieve: Sieve) -> OpenedRows | Problem:
    """Never all at once: there may be a million of them."""
    pattern = object_patterns.parse(text)
    tests = object_patterns.excluding(without, pattern)
    found = sieve.listings.of(pattern, place)
    if isinstance(found, Problem):
        return found
    matches, seen = found
    opened = OpenedRows(text, (*GLOB_COLUMNS, LISTED), False, GLOB_ORIGIN, iter(()))
    if not seen:
        opened.advice = f"nothing there has a key that begins with {harmless(pattern.begins)}; correct it, or remove the input"
    root = len(pattern.root.root) + 1

    def rows() -> Rows:
        index = 0
        for one in matches:
            if any(test(one.url[root:]) for test in tests):
                opened.left_out += 1
            elif sieve.is_result(text, one.url, one.stat):
                opened.results += 1
            elif one.stat.size or not sieve.listings.is_folder(one):
                yield _row(one.url, index, one), None
                index += 1

    opened.rows = rows()
    return opened


def _unreadable(folders: list[tuple[str, OSError]], base: Base, place: PlaceOf) -> Rows:
    """A folder that cannot be read is a problem; the other matches count."""
    for path, error in folders:
        shown = _shown(base.label(path or "."))
        message = f"the folder {quoted(shown)} cannot be read: {error.strerror}"
        yield _at_fault(error, message, "check its permissions, or name the folders beside it", place)


def _missing(pattern: patterns.Pattern, base: Base, place: PlaceOf, sieve: Sieve) -> Problem | None:
    """That the folder which a pattern names is not there: a mistake, or a disk that is not mounted. An empty one is fine."""
    path = "/" if pattern.absolute else ""
    for name in pattern.leading:
        above, path = path, f"{path}{name}/"
        full = os.path.join(base.folder, path)
        if os.path.isdir(full):
            continue
        shown = harmless(_shown(base.label(path)))
        if os.path.lexists(full.rstrip("/")):
            return Problem("source", f'"{shown.rstrip("/")}" is no folder', "correct the pattern", place())
        hint = "correct the pattern, make the folder, or mount the disk that it lies on"
        near = files.folder_like(os.path.join(base.folder, above), name) if sieve.may_suggest() else ""
        if near:
            hint = f"did you mean {harmless(_shown(base.label(above + near)))}/?"
        return Problem("source", f'there is no folder "{shown}"', hint, place())
    return None


def _without(matches: list[str], absolute: bool, excluded: list[patterns.Pattern], folder: str) -> list[str]:
    """The matches that no excluding pattern matches too; both are compared as counted from the manifest's folder."""
    for pattern in excluded:
        test = pattern.matcher()
        if pattern.absolute and not absolute:
            matches = [path for path in matches if not test(os.path.join(folder, path))]
        elif absolute and not pattern.absolute:
            inside = folder.rstrip("/") + "/"
            matches = [path for path in matches if not (path.startswith(inside) and test(path[len(inside) :]))]
        else:
            matches = [path for path in matches if not test(path)]
    return matches


def _matches(matches: list[str], base: Base, place: PlaceOf) -> Rows:
    for index, path in enumerate(matches):
        if not path.isascii() and not _is_utf8(path):
            shown = _shown(base.label(path))
            message = f"the file name {quoted(shown)} is not UTF-8"
            yield Problem("source", message, "rename it: it cannot be sent as JSON", place(), input=harmless(shown))
            continue
        yield _row(path, index), None


def _row(path: str, index: int, *more: ListedObject) -> Row:
    """The columns of a match."""
    parent, slash, name = path.rpartition("/")
    dot = name.rfind(".")
    stem, suffix = (name[:dot], name[dot:]) if 0 < dot < len(name) - 1 else (name, "")
    return path, name, stem, suffix, parent or (slash or "."), index, *more


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(path: object) -> str:
    """A path whose undecodable bytes are spelled \\xff, not as lone surrogates."""
    return os.fsencode(str(path)).decode("utf-8", "backslashreplace")


def _open_table(text: str, base: Base, place: PlaceOf, wanted: Mapping[str, object]) -> OpenedRows | Problem:
    _check_here(text)
    path = spelled_path(text)
    kind = tables.kind_of(path)
    shown = harmless(base.label(path))
    try:
        return OpenedRows(path, *tables.read(os.path.join(base.folder, path), shown, kind, wanted))
    except tables.NoTable as error:
        return _at_fault(error.__cause__, f"the table {quoted(path)} {error}", error.hint, place)


def _at_fault(error: BaseException | None, message: str, hint: str, place: PlaceOf) -> Problem:
    """The source is, but for too many open files, which are a matter of later."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return Problem("unavailable", message, "raise ulimit -n, or run again later", place())
    return Problem("source", message, hint, place())
