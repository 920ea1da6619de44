"""Where the rows of an expansion come from: the files that match a pattern, or the rows of a table.

In: the `glob` or `table` member, the folder of the manifest. Out: `Opened`: the columns and the rows, lazily; a
Problem stands where a row, or the whole source, cannot be told. Called by `inputs` and `flows`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from batcher.core.model import Place, Problem
from batcher.manifest import patterns, tables
from batcher.manifest.environment import Data, pieces
from batcher.manifest.errors import Unfit, harmless, quoted
from batcher.manifest.paths import Base, spelled_path
from batcher.manifest.template import NO_SCOPE, Const, Node, Row, Scope, Text, bind_text

GLOB_COLUMNS: Final = ("path", "name", "stem", "suffix", "parent", "index")
GLOB_ORIGIN: Final = "a pattern's variables"

Rows: TypeAlias = Iterator[tuple[Row, Place | None] | Problem]


@dataclass(frozen=True, slots=True)
class Opened:
    """A source as one outer row sees it. A row's place is None where it stands in no text file (a match)."""

    name: str  # the pattern, or the table's path, as it was opened
    columns: tuple[str, ...]
    all_text: bool
    origin: str  # what the columns are of, for messages
    rows: Rows
    left_out: int = 0  # matches that `exclude` took away

    def scope(self, outer: Scope) -> Scope:
        """The columns of the outer row, then of this one's rows, which shadow them."""
        columns = {**outer.columns, **{name: outer.width + i for i, name in enumerate(self.columns)}}
        return Scope(columns, outer.all_text and self.all_text, outer.width + len(self.columns), self.origin)


@dataclass(frozen=True, slots=True)
class Source:
    """A `glob` or a `table`, read but not opened."""

    kind: str
    node: Const | Text
    mark: int
    exclude: tuple[tuple[Const | Text, int], ...] = ()  # patterns of what to leave out, with their positions

    def nodes(self) -> list[Node | None]:
        return [self.node, *(node for node, _ in self.exclude)]

    def at(self, scope: Scope, base: Base, place: Place) -> Callable[[Row, Mapping[str, object]], Opened | Problem]:
        """Binds it to the outer row's columns. The function opens it: `wanted` has the names that anyone asks for,
        and what stands for each where a row has no such column. Problems with the source stand at `place`.
        """
        spell = _pattern_text(self.node, scope) if self.kind == "glob" else bind_text(self.node, scope)
        without = [_pattern_text(node, scope) for node, _ in self.exclude]

        def opened(row: Row, wanted: Mapping[str, object]) -> Opened | Problem:
            try:
                if self.kind == "glob":
                    return _open_glob(spell(row), [render(row) for render in without], base, place, wanted)
                return _open_table(spell(row), base, place, wanted)
            except Unfit as unfit:
                return unfit.at(place)

        return opened


def check_pattern(node: Const | Text, text: str) -> None:
    """Raises Unfit for a pattern that can be seen to be wrong before any row is known."""
    if isinstance(node, Const):
        patterns.parse(literal_pattern(text))


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
        tables.kind_of(spelled_path(str(node.value)))


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
    text: str, without: list[str], base: Base, place: Place, wanted: Mapping[str, object]
) -> Opened | Problem:
    pattern = patterns.parse(text)
    excluded = [patterns.parse(one) for one in without]
    try:
        matches = patterns.expand(pattern, base.folder)
    except OSError as error:
        message = f"the folder {quoted(_shown(error.filename))} cannot be read: {error.strerror}"
        return _at_fault(error, message, "check its permissions", place)
    left_out = 0
    if excluded:
        kept = _without(matches, pattern.absolute, excluded, base.folder)
        left_out, matches = len(matches) - len(kept), kept
    return Opened(text, GLOB_COLUMNS, "index" not in wanted, GLOB_ORIGIN, _matches(matches, base, place), left_out)


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


def _matches(matches: list[str], base: Base, place: Place) -> Rows:
    for index, path in enumerate(matches):
        if not path.isascii() and not _is_utf8(path):
            shown = _shown(base.label(path))
            message = f"the file name {quoted(shown)} is not UTF-8"
            yield Problem("source", message, "rename it: it cannot be sent as JSON", place, input=harmless(shown))
            continue
        parent, slash, name = path.rpartition("/")
        dot = name.rfind(".")
        stem, suffix = (name[:dot], name[dot:]) if 0 < dot < len(name) - 1 else (name, "")
        yield (path, name, stem, suffix, parent or (slash or "."), index), None


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(path: object) -> str:
    """A path whose undecodable bytes are spelled \\xff, not as lone surrogates."""
    return os.fsencode(str(path)).decode("utf-8", "backslashreplace")


def _open_table(text: str, base: Base, place: Place, wanted: Mapping[str, object]) -> Opened | Problem:
    path = spelled_path(text)
    kind = tables.kind_of(path)
    shown = harmless(base.label(path))
    try:
        return Opened(path, *tables.read(os.path.join(base.folder, path), shown, kind, wanted))
    except tables.NoTable as error:
        return _at_fault(error.__cause__, f"the table {quoted(path)} {error}", error.hint, place)


def _at_fault(error: BaseException | None, message: str, hint: str, place: Place) -> Problem:
    """The source is, but for too many open files, which are a matter of later."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return Problem("unavailable", message, "raise ulimit -n, or run again later", place)
    return Problem("source", message, hint, place)
