"""The folders below a folder, links to folders followed, each real folder once.

In: a folder. Out: the paths of the folders below it, and what cannot be followed. Called by `patterns` for `**`, and by
`batcher init`. Real folders come first, then the links in the order of their paths: so a file that is reached both ways
keeps the path without a link. Loops are found by device and inode: a folder that was walked is not walked again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TypeAlias

Entries: TypeAlias = "list[os.DirEntry[str]]"
_Identity: TypeAlias = "tuple[int, int]"  # device and inode


class Folders:
    """One walk. `read` gives what lies in a folder, whose path ends in a slash or is empty; it raises nothing.

    `unreadable` collects what cannot be followed, `upwards` the links to a folder above the one that the walk began in:
    what lies there, and nowhere below, is not walked.
    """

    def __init__(self, folder: str, read: Callable[[str], Entries]) -> None:
        self._folder = folder
        self._read = read
        self._links: list[str] = []
        self.unreadable: list[tuple[str, OSError]] = []
        self.upwards: list[str] = []

    def below(self, prefix: str) -> Iterator[str]:
        """`prefix` and every folder below it, hidden ones left out."""
        walked: list[str] = []
        waiting = [prefix]
        while waiting:
            current = waiting.pop()
            walked.append(current)
            yield current
            waiting += self._inside(current)
        if self._links:
            yield from self._by_links(prefix, walked)

    def _inside(self, current: str) -> list[str]:
        """The real folders in a folder, the first one last; links to folders are kept for later."""
        found: list[str] = []
        for entry in self._read(current):
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir():
                    (self._links if entry.is_symlink() else found).append(f"{current}{entry.name}/")
            except OSError as error:
                # A link to itself is none to a folder: where a pattern matches it, whoever opens it says so.
                if isinstance(error, PermissionError):
                    self.unreadable.append((f"{current}{entry.name}", error))
        found.sort(reverse=True)
        return found

    def _by_links(self, prefix: str, walked: list[str]) -> Iterator[str]:
        """What the links lead to, and no link-free path did. A link may lead outside."""
        above = self._above(prefix)
        seen = {self._identity(path) for path in walked} - {None}
        while self._links:
            waiting = sorted(self._links, reverse=True)
            self._links.clear()
            while waiting:
                current = waiting.pop()
                identity = self._identity(current)
                if identity in above:
                    self.upwards.append(current.rstrip("/"))
                elif identity is not None and identity not in seen:
                    seen.add(identity)
                    yield current
                    waiting += self._inside(current)

    def _above(self, prefix: str) -> set[_Identity | None]:
        path = os.path.realpath(os.path.join(self._folder, prefix))
        found: set[_Identity | None] = set()
        while path != os.path.dirname(path):
            path = os.path.dirname(path)
            found.add(self._identity(path))
        return found - {None}

    def _identity(self, path: str) -> _Identity | None:
        try:
            found = os.stat(os.path.join(self._folder, path))
        except OSError:
            return None  # gone meanwhile
        return found.st_dev, found.st_ino


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one. A link back to itself is none: whoever opens it says so."""
    try:
        return entry.is_dir()
    except OSError:
        return False
