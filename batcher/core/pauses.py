"""How long to wait between two looks at something that takes its time. In: pauses in seconds, growing. Out: the next one.
Called by the pipeline wherever it asks again and again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence


def pause_after(looks: int, pauses_s: Sequence[float]) -> float:
    """The pause after so many looks before this one: each in turn, then the last again and again."""
    return pauses_s[min(looks, len(pauses_s) - 1)]


def endless(pauses_s: Sequence[float]) -> Iterator[float]:
    """Each pause in turn, then the last again and again."""
    return itertools.chain(pauses_s, itertools.repeat(pauses_s[-1]))
