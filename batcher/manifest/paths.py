"""Paths as a manifest spells them. In: a string. Out: the same path without `./` and doubled slashes, and what it
counts from; an object's address in its one spelling. No file is touched, no link followed; `~`, spaces and pattern characters
are ordinary.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field

from batcher.core import objects
from batcher.manifest.findings import Unfit


@dataclass(frozen=True, slots=True)
class Base:
    """The folder that the paths of one manifest file count from. `prefix` is how it is spelled from the main manifest's
    folder: empty for the main manifest itself, else with a slash at its end.
    """

    folder: str
    prefix: str = ""
    inner: str = field(init=False, repr=False, compare=False)  # the folder with a slash at its end

    def __post_init__(self) -> None:
        object.__setattr__(self, "inner", self.folder.rstrip("/") + "/")

    def label(self, path: str) -> str:
        """`path` of this file as it is spelled from the main manifest's folder: so that what moves into an included
        file keeps its identity."""
        if not self.prefix or path.startswith("/") or objects.is_address(path):
            return path
        joined = self.prefix + path
        return posixpath.normpath(joined) if path.startswith("../") else joined

    def inside(self, path: str) -> Base:
        """The base of a manifest file at `path`, which counts from here."""
        folder, slash, _ = path.rpartition("/")
        if not slash:
            return self
        label = posixpath.normpath(self.prefix + folder) if not folder.startswith("/") else folder
        return Base(posixpath.join(self.folder, folder or "/"), "" if label == "." else label + "/")


def spelled_path(text: str) -> str:
    """`text` as the label of an input. Raises Unfit for what can never be a path."""
    if not text:
        raise Unfit("the path is empty", "name a file")
    if "\0" in text:
        raise Unfit("the path holds a NUL character", "remove it")
    # Most paths need nothing done, and a million of them are looked at.
    if "./" not in text and "//" not in text and not text.endswith("/."):
        return text
    if objects.is_address(text):
        try:
            return objects.spelled(text)
        except objects.NoAddress as error:
            raise Unfit(str(error), error.hint) from error
    parts = [part for part in text.split("/") if part not in ("", ".")]
    kept = ("/" if text.startswith("/") else "") + "/".join(parts)
    if text.endswith("/") and not kept.endswith("/"):
        kept += "/"  # a path that ends in a slash names a folder: whoever opens it says so
    return kept or "."
