"""Texts: those that the manifest itself holds, and what every prompt must be.

In: inputs whose source is a text. Out: their lengths, digests and contents. Called by `dispatch`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import NoReturn

from ..core.bodies import SmallBody
from ..core.facts import FileStat
from ..core.media import TEXT
from ..core.model import Input, Problem, TextSource
from ..core.planning import InputPlan
from .bodies import text_body
from .encode_worker import Seen
from .problems import source_problem


def unfit_prompt(item: Input, text: str) -> Problem | None:
    """What keeps a text from being sent as a prompt: that it is empty, or that the service would take it for a file."""
    if not text.strip():
        return source_problem(item, f"the prompt {item.label} is empty", "write it, or take it out of the manifest")
    if text.startswith("data:"):
        return source_problem(item, f"the prompt {item.label} starts with data:", "the service would take it for a file")
    return None


class Texts:
    """The engine of texts that the manifest holds: all is at hand."""

    def look(self, item: Input, seen: Seen | None) -> FileStat:
        return FileStat(len(self.text(item).encode()))

    def ahead(self, asked: Sequence[tuple[Input, bool]]) -> Callable[[], Sequence[Seen | None]]:
        return lambda: [None] * len(asked)

    def type_of(self, item: Input, types: tuple[str, ...] | None, seen: Seen | None) -> str:
        return TEXT

    def text(self, item: Input) -> str:
        assert isinstance(item.source, TextSource)
        return item.source.text

    def digest(self, item: Input) -> bytes:
        return hashlib.sha256(self.text(item).encode()).digest()

    def encode(self, plan: InputPlan) -> SmallBody:
        return text_body(plan, self.text(plan.input))

    def encode_many(self, plans: Sequence[InputPlan]) -> list[SmallBody]:
        return [self.encode(plan) for plan in plans]

    def stream(self, plan: InputPlan) -> NoReturn:
        raise AssertionError("a text is encoded at once, however long it is")

    def interrupt(self) -> None: ...
    def close(self) -> None: ...
