"""A list of results, as `collect` writes it: which of the files below it are results.

In: the folder that it lies in, what the journal has collected. Out: the results among files. Called by `sieve`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Final

from batcher.core import json_rows
from batcher.core.facts import CollectedView
from batcher.core.names import Names
from batcher.core.output_names import GALLERY, RESULTS

RESULTS_LIST: Final = f"{RESULTS}.jsonl"
COPIES: Final = re.compile(rf"{GALLERY}_files/[^/]+/inputs/[0-9a-f]{{32}}\.")  # of `gallery --copy-inputs`


@dataclass(eq=False)
class ResultsList:
    """The list of results in the folder `root`; false where the file is none of ours."""

    root: str
    journal: CollectedView | None = field(repr=False)

    def __bool__(self) -> bool:
        return self._first is not None

    @cached_property
    def own(self) -> bool:
        """Whether it is that of the journal's manifest."""
        flow_id = self._first and self._first.get("flow_id")
        if self.journal is None or not isinstance(flow_id, str):
            return False
        return self.journal.end(flow_id) is not None or self.journal.name_of(flow_id) is not None

    def among(self, matches: list[str], folder: str, *, lists_only: bool) -> Iterator[str]:
        """The matches that it lists, unchanged in size, the lists themselves, and copies of inputs beside a gallery."""
        inside = self.root.rstrip("/") + "/"
        for path in matches:
            full = os.path.join(folder, path)
            if not full.startswith(inside):
                continue
            place = full[len(inside) :]
            no_source = place in (RESULTS_LIST, f"{RESULTS}.csv") or COPIES.match(place)
            if no_source or (not lists_only and _hash(place, _size(full)) in self._outputs):
                yield path

    @cached_property
    def _first(self) -> dict[str, object] | None:
        """Its first row; None where there is none as `collect` writes them."""
        row = next(self._rows(1), None)
        return row if row is not None and {"flow", "flow_id", "output", "state"} <= row.keys() else None

    @cached_property
    def _outputs(self) -> Names:
        found = Names()
        for row in self._rows(None):
            output, size = row.get("output"), row.get("bytes")
            if output and isinstance(output, str) and isinstance(size, int):
                found.add(_hash(output, size))
        return found

    def _rows(self, count: int | None) -> Iterator[dict[str, object]]:
        try:
            with open(os.path.join(self.root, RESULTS_LIST), "rb") as file:
                yield from json_rows.rows(islice(json_rows.lines(file.readline), count))
        except OSError:
            return


def _hash(place: str, size: int) -> int:
    return hash((place, size)) or 1


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1
