"""Strings with `{placeholders}`: read once into parts, bound once per table to columns, rendered once per row.

In: values of the manifest's tree. Out: nodes that hold plain values (`Const`) or wait for a row, and functions from
a row to a value. Called by `inputs` and `flows`. A row is a sequence of columns; binding turns names into positions,
so that a million rows cost a lookup each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final, TypeAlias, cast

from batcher.core.model import JSON
from batcher.manifest.environment import Data, pieces
from batcher.manifest.findings import Findings, Mark, Unfit, harmless, quoted, suggestion
from batcher.manifest.scalars import OddFloat, OddInt, json_spelling
from batcher.manifest.tree import Map, Seq, Value

_BRACES: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_NOT_PLAIN: Final = re.compile(r"[.\[\]!:]")
MAX_NAME_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class Missing:
    """A column that this row does not have; `columns` are those that it has."""

    columns: tuple[str, ...]


Row: TypeAlias = Sequence[Any]  # of JSON values or Missing
Render: TypeAlias = Callable[[Row], Any]
RenderText: TypeAlias = Callable[[Row], str]


@dataclass(frozen=True, slots=True)
class Name:
    """A placeholder."""

    name: str


@dataclass(frozen=True, slots=True)
class Const:
    """A value that is the same for every row, and shared by all of them."""

    value: JSON


@dataclass(frozen=True, slots=True)
class Text:
    """A string with at least one placeholder."""

    parts: tuple[str | Data | Name, ...]
    mark: Mark


@dataclass(frozen=True, slots=True)
class Members:
    """A mapping in which something waits for a row."""

    members: Mapping[str, Node]


@dataclass(frozen=True, slots=True)
class Items:
    """A list in which something waits for a row."""

    items: tuple[Node, ...]


Node: TypeAlias = Const | Text | Members | Items


@dataclass(frozen=True, slots=True)
class Scope:
    """The columns that placeholders can name, and where in the row they are."""

    columns: Mapping[str, int]
    all_text: bool  # every value is a string (csv, glob), so that none has to be looked at
    width: int  # of the row; with shadowed columns it is more than there are names
    origin: str  # what the columns are of, for messages


NO_SCOPE: Final = Scope({}, True, 0, "")


def parse(text: str) -> tuple[str | Data | Name, ...]:
    """The parts of a string. Raises Unfit for braces that are no plain name. What the environment brought is data."""
    parts: list[str | Data | Name] = []
    for piece in pieces(text):
        if isinstance(piece, Data):
            parts.append(piece)
            continue
        literal, end = "", 0
        for found in _BRACES.finditer(piece):
            literal += piece[end : found.start()]
            end = found.end()
            brace = found[0]
            if brace in ("{{", "}}"):
                literal += brace[0]
                continue
            if found[1] is None:
                raise Unfit(f"a single `{brace}` in {quoted(text)}", f"write {brace * 2} for a brace")
            parts += [literal, Name(_checked(found[1]))] if literal else [Name(_checked(found[1]))]
            literal = ""
        literal += piece[end:]
        if literal:
            parts.append(literal)
    return tuple(parts)


def _checked(name: str) -> str:
    if not name.strip():
        raise Unfit("`{}` names nothing", "write {column}, or {{}} for braces")
    if _NOT_PLAIN.search(name) or len(name) > MAX_NAME_CHARS:
        raise Unfit(
            f"the placeholder {{{harmless(name)}}} is no plain name",
            "only {column} is read: no attributes, indexes, conversions or formats; {{ is a brace",
        )
    return name


def compile_value(value: Value, mark: Mark, findings: Findings, *, active: bool) -> Node:
    """The node for any value; placeholders count only where `active`. Problems are noted where they stand."""
    if isinstance(value, str):
        if active and ("{" in value or "}" in value):
            return compile_text(value, mark, findings, active=True)
        return Const(str(value))
    if isinstance(value, Map):
        members = {
            key: compile_value(item, value.mark(key), findings, active=active)
            for key, item in value.items()
        }
        constants = {key: node.value for key, node in members.items() if isinstance(node, Const)}
        return Const(constants) if len(constants) == len(members) else Members(members)
    if isinstance(value, Seq):
        items = [compile_value(item, value.marks[i + 1], findings, active=active) for i, item in enumerate(value)]
        fixed = [node.value for node in items if isinstance(node, Const)]
        return Const(fixed) if len(fixed) == len(items) else Items(tuple(items))
    if isinstance(value, OddInt | OddFloat):
        sent = json_spelling(value)
        findings.add(mark, f"{quoted(value)} would be sent as {sent}", f"quote it if it is a text, or write {sent}")
    # BROKEN has its problem noted, and the manifest will not be used.
    return Const(value if isinstance(value, bool | int | float) else None)


_SENT_AS_THEY_ARE: Final = frozenset({str, int, float, bool, type(None)})  # of no other class: OddInt is an int, too


def constant(value: Value) -> JSON:
    """The value, as compile_value has it, where no placeholder counts and nothing is wrong. Raises ValueError where
    something is."""
    if type(value) in _SENT_AS_THEY_ARE:
        return cast(JSON, value)
    if isinstance(value, Map):
        return {key: constant(item) for key, item in value.items()}
    if isinstance(value, Seq):
        return [constant(item) for item in value]
    if isinstance(value, str):
        return str(value)
    raise ValueError


def compile_text(text: str, mark: Mark, findings: Findings, *, active: bool) -> Const | Text:
    """As compile_value, for a member that is a string."""
    if not active:
        return Const(str(text))
    try:
        parts = parse(text)
    except Unfit as unfit:
        findings.add(mark, unfit.message, unfit.hint)
        return Text((), mark)  # no constant, and it asks for nothing: no more is said about it
    if any(isinstance(part, Name) for part in parts):
        return Text(parts, mark)
    return Const("".join(str(part) for part in parts))


def uses(*nodes: Node | None) -> Iterator[tuple[str, Mark]]:
    """The placeholders in the nodes, with the positions of their strings."""
    for node in nodes:
        match node:
            case Text():
                yield from ((part.name, node.mark) for part in node.parts if isinstance(part, Name))
            case Members():
                yield from uses(*node.members.values())
            case Items():
                yield from uses(*node.items)


def unknown(name: str, known: Iterable[str], origin: str) -> Unfit:
    """What to say of a placeholder that names no column."""
    named = [one for one in known if not one.startswith("\0")]  # that of a listing is ours
    return Unfit(f"no {{{harmless(name)}}} in {origin}", suggestion(name, named, "there are") or "it has no columns")


def bind(node: Node, scope: Scope) -> Render:
    """The function from a row to the node's value; what does not depend on the row is shared, not copied."""
    match node:
        case Const(value):
            return lambda _: value
        case Text((Name(name),), _):
            return itemgetter(scope.columns[name]) if scope.all_text else _typed(name, scope.columns[name])
        case Text():
            return bind_text(node, scope)
        case Members(members):
            return _members(members, scope)
        case Items(items):
            renders = [bind(item, scope) for item in items]
            return lambda row: [render(row) for render in renders]


def _members(members: Mapping[str, Node], scope: Scope) -> Render:
    # The copy keeps the order of the members; the ones that wait are then filled in.
    base = {key: node.value if isinstance(node, Const) else None for key, node in members.items()}
    waiting = [(key, bind(node, scope)) for key, node in members.items() if not isinstance(node, Const)]
    if len(waiting) == len(members) == 1:
        ((only, render),) = waiting
        return lambda row: {only: render(row)}

    def fill(row: Row) -> dict[str, Any]:
        filled = base.copy()
        for key, render in waiting:
            filled[key] = render(row)
        return filled

    return fill


def bind_text(node: Const | Text, scope: Scope) -> RenderText:
    """The function from a row to a string; numbers and booleans are spelled as in JSON. It may raise Unfit."""
    if isinstance(node, Const):
        text = str(node.value)
        return lambda _: text
    if not scope.all_text:
        return _spelling(node, scope)
    positions = [scope.columns[part.name] for part in node.parts if isinstance(part, Name)]
    if len(positions) > 1:
        pattern = "".join("%s" if isinstance(part, Name) else part.replace("%", "%%") for part in node.parts)
        values = itemgetter(*positions)
        return lambda row: pattern % values(row)
    (position,) = positions
    before, after = _around(node)
    if before or after:
        return lambda row: before + row[position] + after
    return itemgetter(position)


def bind_checked(node: Const | Text | None, scope: Scope, check: Callable[[str], str]) -> Render:
    """As bind_text, for a member that may be absent (None) and whose values `check` looks at; a constant was looked at."""
    if node is None or isinstance(node, Const):
        value = None if node is None else node.value
        return lambda _: value
    render = bind_text(node, scope)
    return lambda row: check(render(row))


def _around(node: Text) -> tuple[str, str]:
    """The text before and after the only placeholder."""
    at = next(i for i, part in enumerate(node.parts) if isinstance(part, Name))
    before = "".join(part for part in node.parts[:at] if isinstance(part, str))
    after = "".join(part for part in node.parts[at + 1 :] if isinstance(part, str))
    return before, after


def _typed(name: str, position: int) -> Render:
    def value(row: Row) -> Any:
        found = row[position]
        if type(found) is Missing:
            raise unknown(name, found.columns, "this row")
        return found

    return value


def _spelling(node: Text, scope: Scope) -> RenderText:
    steps = [(part.name, scope.columns[part.name]) if isinstance(part, Name) else ("", str(part)) for part in node.parts]

    def text(row: Row) -> str:
        return "".join(at if isinstance(at, str) else spelled(row[at], name) for name, at in steps)

    return text


def spelled(value: Any, name: str) -> str:
    """A row's value inside a longer text. Raises Unfit for what has no obvious spelling."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if type(value) is Missing:
        raise unknown(name, value.columns, "this row")
    raise Unfit(f"{{{harmless(name)}}} is {quoted(value)} in this row", "a text takes texts, numbers and booleans only")
