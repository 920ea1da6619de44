"""YAML text → plain values that know where they stand.

In: the manifest's text and a function that resolves `${...}`. Out: a `tree`, or nothing where the text is no YAML; what is
wrong is added to `Findings`. Called by `load`.

The tree is built from the parser's events by a stack of our own: no recursion that a deep text could exhaust, no node
objects to hold (40,000 inputs with an object each: 0.5 s; `yaml.compose` needs 2.3 s, most of it in the garbage collector), and
aliases are counted before anything is expanded. No tag is honoured, so no code can be run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

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
from batcher.manifest.positions import LOADER, members_of
from batcher.manifest.syntax_errors import syntax_error, whole
from batcher.manifest.tree import BROKEN, Map, Seq, Value

MAX_DEPTH: Final = 100  # levels of nesting; people write five
# Nodes that aliases may add: generous for a list shared by every input, nothing for a bomb of a few lines.
ALIASED_NODES_FREE: Final = 1_000_000
ALIASED_NODES_PER_NODE: Final = 20


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

    def take_key(self, key: str | None) -> None:
        self.key = key
        self.wants_key = False

    def put(self, value: Value, mark: int) -> None:
        """The value that comes next; of a mapping's members no `mark` is kept."""
        container = self.value
        if type(container) is Map:
            if self.key is not None:
                container[self.key] = value
            self.key, self.wants_key = None, True
        elif type(container) is Seq:
            container.append(value)
            container.marks.append(mark)


class _Stop(Exception):
    """Nothing more can be read."""


def read(text: str, resolve: Callable[[str], str], findings: Findings, file: int = 0) -> Value:
    """The document's tree, or BROKEN after a problem that ends the reading (a syntax error, a bomb). `file`: its number."""
    builder = _Builder(resolve, findings, file)
    findings.read(file, partial(members_of, text, file))
    # Bounded by the file's size limit: a parser must see all of the text anyway.
    loader = LOADER(text)
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
        findings.add(whole(file), "the manifest is empty", "write `version: 1` and `flows:`; batcher help manifest shows how")
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
                self._begin_map(event)
            elif kind is SequenceStartEvent:
                self._begin_seq(event)
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
        self._nodes += 1
        if event.tag is not None:
            self._refuse_tag(event)
        top = self._top
        if top is not None and top.wants_key:
            self._key(top, event)
            return
        text: str = event.value
        value: Value = text
        try:
            if event.implicit[0]:
                value = scalars.plain(text)
            if "$" in text:
                value = self._resolve(text)
        except Unfit as unfit:
            self._findings.add(self._mark(event), unfit.message, unfit.hint)
            value = BROKEN
        if event.anchor is not None:
            self._anchors[event.anchor] = _Frame(value, height=0, open=False)
        if top is None:
            self.root = _Frame(value, open=False)
            return
        top.size += 1
        top.put(value, self._mark(event) if type(top.value) is Seq else 0)

    def _key(self, top: _Frame, event: Any) -> None:
        mapping, text = top.value, event.value
        assert type(mapping) is Map
        if event.anchor is not None:
            self._anchors[event.anchor] = _Frame(text, height=0, open=False)
        if text not in self._keys and event.implicit[0] and not self._key_is_text(text, event):
            top.take_key(None)
        elif text in mapping:
            message = f"the key `{harmless(text)}` is repeated"
            self._findings.add(self._mark(event), message, "keep one of them", first=mapping.key_mark(text))
            top.take_key(None)
        else:
            top.take_key(sys.intern(text))

    def _key_is_text(self, text: str, event: Any) -> bool:
        mark = self._mark(event)
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

    def _begin_map(self, event: Any) -> None:
        made = Map()
        made.start = self._mark(event)
        made.homes = None
        self._begin(event, made, made.start)

    def _begin_seq(self, event: Any) -> None:
        made, mark = Seq(), self._mark(event)
        made.marks = [mark]
        self._begin(event, made, mark)

    def _begin(self, event: Any, container: Map | Seq, mark: int) -> None:
        self._nodes += 1
        if event.tag is not None:
            self._refuse_tag(event)
        if len(self._stack) >= MAX_DEPTH:
            self._too_deep(mark)
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
            value = frame.value
            assert isinstance(value, Map | Seq)
            self._attach(value, value.start if isinstance(value, Map) else value.marks[0], frame.size, frame.height)

    def _alias(self, event: Any) -> None:
        mark = self._mark(event)
        named = self._anchors.get(event.anchor)
        if named is None:
            self._findings.add(mark, f"nothing is anchored as `&{harmless(event.anchor)}`", "define it further up")
            if self._top is not None and self._top.wants_key:
                self._top.take_key(None)
            else:
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
        mark: int = self._file | start.line << 32 | start.column
        return mark

    def _stop(self, mark: int, message: str, hint: str) -> None:
        self._findings.add(mark, message, hint)
        raise _Stop
