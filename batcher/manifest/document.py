"""YAML text → plain values that know where they stand.

In: the manifest's text and a function that resolves `${...}`. Out: a tree of `Map`, `Seq` and scalars with marks, or
nothing where the text is no YAML; what is wrong is added to `Findings`. Called by `load`.

The tree is built from the parser's events by a stack of our own: no recursion that a deep text could exhaust, no node
objects to hold (100,000 inputs: 2 s; `yaml.compose` needs 10 s, most of it in the garbage collector), and aliases are
counted before anything is expanded. No tag is honoured, so no code can be run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeAlias

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from batcher.manifest import scalars
from batcher.manifest.findings import FILE_SHIFT, Findings, Unfit, harmless, quoted
from batcher.manifest.syntax_errors import syntax_error, whole

MAX_DEPTH: Final = 100  # levels of nesting; people write five
# Nodes that aliases may add: generous for a list shared by every input, nothing for a bomb of a few lines.
ALIASED_NODES_FREE: Final = 1_000_000
ALIASED_NODES_PER_NODE: Final = 20

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Broken(Enum):
    """Stands where a value could not be read; its problem has been noted, and nothing more is reported about it."""

    BROKEN = "broken"


BROKEN: Final = Broken.BROKEN

Value: TypeAlias = "bool | int | float | str | Seq | Map | Broken | None"


class Map(dict[str, Value]):
    """A mapping; `marks` holds its own position, then those of each member's key and value, in order."""

    __slots__ = ("marks",)
    marks: list[int]

    def mark(self, key: str) -> int:
        """Where the value of `key` stands."""
        return self.marks[2 * list(self).index(key) + 2] if key in self else self.marks[0]

    def key_mark(self, key: str) -> int:
        return self.marks[2 * list(self).index(key) + 1] if key in self else self.marks[0]


class Seq(list[Value]):
    """A list; `marks` holds its own position, then those of its items, in order."""

    __slots__ = ("marks",)
    marks: list[int]


@dataclass(slots=True, eq=False)
class _Frame:
    """A container that is being filled, or a finished one that an anchor names."""

    value: Value
    wants_key: bool = False  # a mapping, and a key comes next
    key: str | None = None  # of the member whose value comes next; None: it has no usable key
    as_key: bool = False  # it stands where a key should be
    size: int = 1  # nodes in it, aliases counted in full
    height: int = 1  # levels of nesting in it
    open: bool = True

    def put(self, value: Value, mark: int) -> None:
        """The item, or the member's value, that has come."""
        container = self.value
        if type(container) is Seq:
            container.append(value)
            container.marks.append(mark)
        elif type(container) is Map:
            if self.key is not None:
                container[self.key] = value
                container.marks.append(mark)
            self.take_key(None, wants_key=True)

    def take_key(self, key: str | None, *, wants_key: bool = False) -> None:
        self.key = key
        self.wants_key = wants_key


class _Stop(Exception):
    """Nothing more can be read."""


def read(text: str, resolve: Callable[[str], str], findings: Findings, file: int = 0) -> Value:
    """The document's tree, or BROKEN after a problem that ends the reading (a syntax error, a bomb). `file`: its number."""
    builder = _Builder(resolve, findings, file)
    # Bounded by the file's size limit: a parser must see all of the text anyway.
    loader = _LOADER(text)
    try:
        builder.run(loader.get_event)
    except _Stop:
        return BROKEN
    except yaml.YAMLError as error:
        syntax_error(error, findings, file)
        return BROKEN
    finally:
        loader.dispose()
    if builder.root is None:
        findings.add(whole(file), "the manifest is empty", "write `version: 1` and `flows:`; see the examples")
        return BROKEN
    return builder.root.value


class _Builder:
    def __init__(self, resolve: Callable[[str], str], findings: Findings, file: int) -> None:
        self.root: _Frame | None = None
        self._file = file << FILE_SHIFT
        self._resolve = resolve
        self._findings = findings
        self._stack: list[_Frame] = []
        self._top: _Frame | None = None  # of the stack
        self._keys: set[str] = set()  # plain ones that are texts: most keys stand in many members
        self._anchors: dict[str, _Frame] = {}
        self._nodes = 0
        self._aliased = 0

    def run(self, get_event: Callable[[], Any]) -> None:
        documents = 0
        # Falsy, not None: the C parser ends with None, the pure one after the end of the stream too.
        while event := get_event():
            kind = type(event)
            if kind is ScalarEvent:
                self._scalar(event)
            elif kind is MappingStartEvent:
                self._begin(event, Map())
            elif kind is SequenceStartEvent:
                self._begin(event, Seq())
            elif kind is MappingEndEvent or kind is SequenceEndEvent:
                self._end()
            elif kind is AliasEvent:
                self._alias(event)
            elif kind is DocumentStartEvent:
                documents += 1
                if documents > 1:
                    self._stop(self._mark(event), "a manifest is one YAML document; a second one begins here",
                               "put it into a file of its own")  # fmt: skip

    def _scalar(self, event: Any) -> None:
        text: str = event.value
        start = event.start_mark
        mark = self._file | start.line << 32 | start.column
        self._nodes += 1
        if event.tag is not None:
            self._refuse_tag(event)
        top = self._top
        if top is not None and top.wants_key:
            self._key(top, event, text, mark)
            return
        value: Value = text
        try:
            if event.implicit[0]:
                value = scalars.plain(text)
            if "$" in text:
                value = self._resolve(text)
        except Unfit as unfit:
            self._findings.add(mark, unfit.message, unfit.hint)
            value = BROKEN
        if event.anchor is not None:
            self._anchors[event.anchor] = _Frame(value, height=0, open=False)
        if top is None:
            self.root = _Frame(value, open=False)
        else:
            top.size += 1
            top.put(value, mark)

    def _key(self, top: _Frame, event: Any, text: str, mark: int) -> None:
        mapping = top.value
        assert isinstance(mapping, Map)
        if event.anchor is not None:
            self._anchors[event.anchor] = _Frame(text, height=0, open=False)
        if text not in self._keys and event.implicit[0] and not self._key_is_text(text, mark):
            top.take_key(None)
        elif text in mapping:
            first = self._findings.place(mapping.key_mark(text))
            self._findings.add(mark, f"the key `{harmless(text)}` is repeated; it first stands at {first}", "keep one of them")
            top.take_key(None)
        else:
            top.take_key(sys.intern(text))
            mapping.marks.append(mark)

    def _key_is_text(self, text: str, mark: int) -> bool:
        if text == "<<":
            self._findings.add(
                mark, "merge keys (`<<`) are not read", "put what flows share under `defaults`, or use a plain alias"
            )
            return False
        try:
            if isinstance(scalars.plain(text), str):
                self._keys.add(text)
                return True
        except Unfit:
            pass
        self._findings.add(mark, f"a key must be a text, not {harmless(text) or 'empty'}", "put it in quotes")
        return False

    def _begin(self, event: Any, container: Map | Seq) -> None:
        mark = self._mark(event)
        self._nodes += 1
        if event.tag is not None:
            self._refuse_tag(event)
        if len(self._stack) >= MAX_DEPTH:
            self._too_deep(mark)
        container.marks = [mark]
        frame = _Frame(container, wants_key=type(container) is Map)
        if self._top is not None and self._top.wants_key:
            self._findings.add(mark, f"a key must be a text, not {quoted(container)}", "put it in quotes")
            frame.as_key = True
        if event.anchor is not None:
            self._anchors[event.anchor] = frame
        self._stack.append(frame)
        self._top = frame

    def _end(self) -> None:
        frame = self._stack.pop()
        frame.open = False
        self._top = top = self._stack[-1] if self._stack else None
        if top is None:
            self.root = frame
        elif frame.as_key:
            top.take_key(None)
        else:
            assert isinstance(frame.value, Map | Seq)
            self._attach(frame.value, frame.value.marks[0], frame.size, frame.height)

    def _alias(self, event: Any) -> None:
        mark = self._mark(event)
        named = self._anchors.get(event.anchor)
        if named is None:
            self._findings.add(mark, f"nothing is anchored as `&{harmless(event.anchor)}`", "define it further up")
            self._attach(BROKEN, mark, 1, 0)
            return
        if named.open:
            self._stop(mark, f"`*{harmless(event.anchor)}` stands within itself", "an alias cannot hold itself")
        top = self._stack[-1]
        if top.wants_key:
            self._findings.add(mark, "a key must be a text, not an alias", "write it out")
            top.take_key(None)
            return
        if len(self._stack) + named.height > MAX_DEPTH:
            self._too_deep(mark)
        self._aliased += named.size
        if self._aliased > ALIASED_NODES_FREE + ALIASED_NODES_PER_NODE * self._nodes:
            self._stop(mark, f"aliases make this manifest {self._aliased:,} values large", "write a `table` instead")
        self._attach(named.value, mark, named.size, named.height)

    def _attach(self, value: Value, mark: int, size: int, height: int) -> None:
        if not self._stack:
            self.root = _Frame(value, open=False)
            return
        top = self._stack[-1]
        top.size += size
        if height >= top.height:
            top.height = height + 1
        top.put(value, mark)

    def _refuse_tag(self, event: Any) -> None:
        self._findings.add(
            self._mark(event), f"the YAML tag {quoted(event.tag)} is not read", "leave it out; quote a value to make it a text"
        )

    def _too_deep(self, mark: int) -> None:
        self._stop(mark, f"more than {MAX_DEPTH} levels of nesting", "flatten it")

    def _mark(self, event: Any) -> int:
        start = event.start_mark
        return int(self._file | start.line << 32 | start.column)

    def _stop(self, mark: int, message: str, hint: str) -> None:
        self._findings.add(mark, message, hint)
        raise _Stop
