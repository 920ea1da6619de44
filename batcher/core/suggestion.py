"""`did you mean …?`: the known name that a wrong one was probably meant for. In: names. Out: a hint. Called wherever a name is
refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

NAMES: Final = 1000  # compared at most: difflib takes some 10 ms for so many
CHARS: Final = 100  # of the wrong name: beyond it difflib takes seconds, and nobody has mistyped so much
LIKENESS: Final = 0.6  # difflib's own


def closest(wrong: str, known: Iterable[str], likeness: float = LIKENESS) -> str | None:
    """The known name that is most like the wrong one; None where none is like it."""
    import difflib  # 3 ms that only a mistake costs

    return next(iter(difflib.get_close_matches(wrong[:CHARS], list(islice(known, NAMES)), 1, likeness)), None)


def did_you_mean(wrong: str, known: Iterable[str], otherwise: str = "", *, spell: Callable[[str], str] = str) -> str:
    """The hint for a wrong name: the closest known one as `spell` shows it, else what is to be said otherwise."""
    near = closest(wrong, known)
    return otherwise if near is None else f"did you mean {spell(near)}?"
