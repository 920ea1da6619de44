"""JSON lines that somebody may have spoilt, as rows.

In: lines. Out: those that are objects. Called for the lists of results, which `collect` writes and people keep.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

LINE_BYTES: Final = 1 << 20  # no row of ours is so long


def lines(readline: Callable[[int], bytes]) -> Iterator[bytes]:
    """Of an open file, none longer than `LINE_BYTES`: of a longer one each part counts as a line."""
    return iter(lambda: readline(LINE_BYTES), b"")


def rows(found: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """What is no object is passed over."""
    for line in found:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            yield row
