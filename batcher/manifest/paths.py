"""Paths as a manifest spells them. In: a string. Out: the same path without `./` and doubled slashes. No file is
touched, no link followed; `~`, spaces and pattern characters are ordinary.
"""

from __future__ import annotations

from batcher.manifest.errors import Unfit


def spelled_path(text: str) -> str:
    """`text` as the label of an input. Raises Unfit for what can never be a path."""
    if not text:
        raise Unfit("the path is empty", "name a file")
    if "\0" in text:
        raise Unfit("the path holds a NUL character", "remove it")
    # Most paths need nothing done, and a million of them are looked at.
    if "./" not in text and "//" not in text and not text.endswith("/."):
        return text
    parts = [part for part in text.split("/") if part not in ("", ".")]
    kept = ("/" if text.startswith("/") else "") + "/".join(parts)
    if text.endswith("/") and not kept.endswith("/"):
        kept += "/"  # a path that ends in a slash names a folder: whoever opens it says so
    return kept or "."
