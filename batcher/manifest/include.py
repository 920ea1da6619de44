"""`include`: other files that belong to the manifest.

In: the main file's tree. Out: `ManifestFile`s, the main one first, then what each includes, in order; what is wrong is noted
where it stands. Called by `load`. An included file brings flows, profiles, and defaults for its own flows; its paths count
from its own folder. Each file is included once, so that they make a tree.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from batcher.manifest import document, files, patterns, sound
from batcher.manifest.findings import Findings, Unfit, harmless, quoted
from batcher.manifest.paths import Base, spelled_path
from batcher.manifest.row_sources import literal_pattern
from batcher.manifest.tree import BROKEN, Map, Seq

MAX_NESTING: Final = 20  # files that include one another in a row; people write one or two
MAIN_ONLY: Final = ("batch", "endpoint", "limits", "notify", "metrics")


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file of the manifest. `defaults` are those that lie under its flows, the main file's first."""

    tree: Map
    base: Base
    defaults: tuple[Map, ...]


def collect(tree: Map, name: str, folder: str, resolve: Callable[[str], str], findings: Findings) -> list[ManifestFile]:
    """The files of the manifest `name`, whose own tree has been checked."""
    main = ManifestFile(tree, Base(folder), _own_defaults(tree))
    included = _IncludedFiles(resolve, findings, os.path.dirname(name))
    path = os.path.join(folder, os.path.basename(name))
    included.add(main, (os.path.realpath(path),), (os.path.basename(name),))
    return included.files


def _own_defaults(tree: Map) -> tuple[Map, ...]:
    given = tree.get("defaults")
    return (given,) if isinstance(given, Map) else ()


class _IncludedFiles:
    def __init__(self, resolve: Callable[[str], str], findings: Findings, shown_in: str) -> None:
        self.files: list[ManifestFile] = []
        self._resolve = resolve
        self._findings = findings
        self._shown_in = shown_in  # the main manifest's folder as the user spelled it
        self._first: dict[str, int] = {}  # real paths: where they are included
        self._left = files.MAX_MANIFEST_BYTES

    def add(self, file: ManifestFile, chain: tuple[str, ...], names: tuple[str, ...]) -> None:
        """Adds `file` and what it includes. `chain`: the real paths from the main manifest down to it, `names` for people."""
        self.files.append(file)
        given = file.tree.get("include")
        if isinstance(given, Seq):
            for text, mark in zip(given, given.marks[1:], strict=True):
                if isinstance(text, str):
                    for path in self._paths(text, mark, file.base):
                        self._include(path, mark, file, chain, names)

    def _paths(self, text: str, mark: int, base: Base) -> list[str]:
        """What an item of `include` names: a file, or those that match."""
        try:
            pattern = patterns.parse(literal_pattern(text))
            if pattern.is_plain:
                return [spelled_path(text)]
            found = patterns.expand(pattern, base.folder)
            if not found:
                raise Unfit(f"the pattern {quoted(text)} matches no file", "correct it, or remove it")
            return found
        except Unfit as unfit:
            self._findings.add(mark, unfit.message, unfit.hint)
        except OSError as error:
            self._findings.add(mark, f"a folder of {quoted(text)} cannot be read: {error.strerror}", "check its permissions")
        return []

    def _include(self, path: str, mark: int, by: ManifestFile, chain: tuple[str, ...], names: tuple[str, ...]) -> None:
        label = by.base.label(path)
        real = os.path.realpath(os.path.join(by.base.folder, path))
        if real in chain:
            way = " → ".join(harmless(name, 40) for name in (*names[chain.index(real) :], label))
            self._findings.add(mark, f"the manifest includes itself: {way}", "take one of these out")
        elif real in self._first:
            first = self._findings.place(self._first[real])
            message = f"{quoted(label)} is included already, at {first}"
            self._findings.add(mark, message, "include it once: its profiles are known in every file")
        elif len(chain) > MAX_NESTING:
            self._findings.add(mark, f"files include one another more than {MAX_NESTING} deep", "flatten them")
        else:
            self._first[real] = mark
            tree = self._read(path, label, mark, by.base, chain[-1])
            if tree is not None:
                file = ManifestFile(tree, by.base.inside(path), (*by.defaults, *_own_defaults(tree)))
                self.add(file, (*chain, real), (*names, label))

    def _read(self, path: str, label: str, mark: int, base: Base, by: str) -> Map | None:
        """The tree of a file that `by` includes, checked; None where there is none: a problem was noted."""
        try:
            raw = files.read_bytes(os.path.join(base.folder, path), by)
            self._left -= len(raw)
            if self._left < 0:
                raise Unfit("all of them are too large", "put their inputs into a `table`")
        except Unfit as unfit:
            self._findings.add(mark, f"{quoted(label)} cannot be included: {unfit.message}", unfit.hint)
            return None
        number = self._findings.begin(harmless(os.path.join(self._shown_in, label), 1000))
        text = files.text_of(raw, self._findings, number)
        tree = BROKEN if text is None else document.read(text, self._resolve, self._findings, number)
        checked = sound.mapping(tree, self._findings, number)
        if checked is not None:
            self._refuse_settings(checked)
            sound.check(checked, self._findings)
        return checked

    def _refuse_settings(self, tree: Map) -> None:
        for key in MAIN_ONLY:
            if key in tree:
                message = f"`{key}` may not stand in an included file"
                self._findings.add(tree.key_mark(key), message, "move it to the main manifest")
                tree[key] = BROKEN  # and no more is said about it
