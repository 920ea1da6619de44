"""Where the members of a text's mappings stand: looked up by reading the text once more, when the first of them is to be told.

In: the text of a manifest file. Out: the positions of each mapping's keys and values. Called by `findings`, on behalf of
`document`. What the reader has refused is in it, too: nobody asks for that. Of a key that is repeated the first counts.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from yaml.events import AliasEvent, MappingEndEvent, MappingStartEvent, ScalarEvent, SequenceEndEvent, SequenceStartEvent

from batcher.manifest.findings import Members, mark_of

LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class _Mapping:
    members: dict[str, tuple[int, int]] = field(default_factory=dict)
    key: str | None = None
    key_mark: int = 0
    wants_key: bool = True

    def child(self, mark: int, key: str | None) -> None:
        """A key or a value begins here; `key`: its text, where it would do for a key."""
        if self.wants_key:
            self.key, self.key_mark = key, mark
        elif self.key is not None:
            self.members.setdefault(self.key, (self.key_mark, mark))
        self.wants_key = not self.wants_key


def members_of(text: str, file: int, wanted: Collection[int] | None) -> Members:
    """The members of these mappings (None: of all), as far as the text can be read."""
    found: Members = {}
    loader = LOADER(text)
    try:
        _collect(loader.get_event, file, wanted, found)
    except yaml.YAMLError:
        pass  # told by who has read it before; what stands above is in order
    finally:
        loader.dispose()
    return found


def _collect(get_event: Any, file: int, wanted: Collection[int] | None, found: Members) -> None:
    stack: list[_Mapping | None] = []  # None: a list
    while event := get_event():
        kind = type(event)
        if kind is MappingEndEvent or kind is SequenceEndEvent:
            stack.pop()
            continue
        if kind not in (ScalarEvent, AliasEvent, MappingStartEvent, SequenceStartEvent):
            continue
        mark = mark_of(event.start_mark.line, event.start_mark.column, file)
        parent = stack[-1] if stack else None
        is_key = parent is not None and parent.wants_key
        if parent is not None:
            parent.child(mark, event.value if kind is ScalarEvent else None)
        if kind is MappingStartEvent:
            mapping = _Mapping()
            if not is_key and (wanted is None or mark in wanted):  # a key in braces begins where its mapping does
                found[mark] = mapping.members
            stack.append(mapping)
        elif kind is SequenceStartEvent:
            stack.append(None)
