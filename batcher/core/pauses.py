"""How long to wait between two looks at something that takes its time. In: pauses in seconds, growing. Out: the next one.
Called by the pipeline wherever it asks again and again."""

from __future__ import annotations

from collections.abc import Sequence


def pause_after(looks: int, pauses_s: Sequence[float]) -> float:
    """The pause after so many looks before this one: each in turn, then the last again and again."""
    return pauses_s[min(looks, len(pauses_s) - 1)]
