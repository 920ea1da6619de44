"""The list of results that `collect` wrote. In: a folder. Out: `Row`s by flow. Called by `gather`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..core import json_rows
from ..core.errors import UsageError
from ..core.output_names import RESULTS
from .cards import Row


def rows_of(folder: Path, batch: str, wanted: Callable[[str], bool]) -> dict[str, list[Row]]:
    """The rows of a batch's flows that are wanted, in their order. Other manifests may have collected into the folder, too.
    Raises UsageError where nothing was collected."""
    found: dict[str, list[Row]] = {}
    for row in _lines(folder):
        flow, of = row.get("flow"), row.get("batch")
        if isinstance(flow, str) and of in (batch, "", None) and wanted(flow):
            found.setdefault(flow, []).append(_row(row))
    return found


def _lines(folder: Path) -> Iterator[dict[str, Any]]:
    path = folder / f"{RESULTS}.jsonl"
    try:
        with open(path, "rb") as file:
            yield from json_rows.rows(json_rows.lines(file.readline))
    except FileNotFoundError:
        hint = f"bring the outputs there first: batcher collect MANIFEST --to {folder}"
        raise UsageError(f"nothing was collected into {folder}: it has no {path.name}", hint) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "name the folder of collect with --to") from error


def _row(row: dict[str, Any]) -> Row:
    def text(name: str) -> str:
        value = row.get(name)
        return value if isinstance(value, str) else ""

    size = row.get("bytes")
    return Row(text("source"), text("flow_id"), text("asset_id"), text("output"), text("state"),
               size if isinstance(size, int) else 0, text("reason"))  # fmt: skip
