"""The rows of results.csv and results.jsonl. In: rows, open files. Out: lines. Called by the folders of outputs."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, TextIO

from ..core.model import JSON

COLUMNS: Final = ("source", "flow", "flow_id", "asset_id", "output", "state", "bytes", "sha256", "batch", "reason")


def write_rows(rows: Iterable[Mapping[str, JSON]], table: TextIO, lines: TextIO) -> None:
    """`table`: the CSV; `lines`: the JSON lines. Both are flushed."""
    writer = csv.DictWriter(table, COLUMNS)
    writer.writeheader()
    for row in rows:
        writer.writerow(row)
        lines.write(json.dumps(row, ensure_ascii=False) + "\n")
    table.flush()
    lines.flush()


def rows_of_others(lines: Iterable[str], ours: Callable[[Mapping[str, JSON]], bool]) -> Iterator[Mapping[str, JSON]]:
    """The rows of other manifests that were collected into the same folder; a line that is no row is left out."""
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict) and not ours(row):
                yield {name: row.get(name, "") for name in COLUMNS}
