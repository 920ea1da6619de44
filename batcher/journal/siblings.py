"""Which journal is a manifest's, and which others lie beside it.

In: a manifest, the folder of journals. Out: the path of its journal; journals that may know the same files. Called by
`open.py` and the public API. A journal is named after its manifest's file and the endpoint; what it says of itself
(`about`) finds it again once the manifest has another name: by its batch, where the file that had it is gone.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import JournalError
from ..core.model import Manifest
from ..host.process import is_journal
from .postgres.address import DatabaseAddress
from .reader import JournalReader

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Sibling:
    """Another journal of the same endpoint. `path`: its file, or its schema. `manifest`: the path of its manifest; `here`: in
    the folder of the one that asks; `self_described`: the journal itself says so (an older batcher's does not, and `batch` is a
    guess then)."""

    path: Path | DatabaseAddress
    manifest: str
    batch: str
    here: bool
    self_described: bool

    @property
    def gone(self) -> bool:
        return not os.path.lexists(self.manifest)

    def is_manifest(self, path: str) -> bool:
        """Whether this is the manifest's own file, by another name: a link to it."""
        with contextlib.suppress(OSError):
            return self.manifest != path and os.path.samefile(self.manifest, path)
        return False

    @property
    def put_away(self) -> str:
        """What to do where it is not to be found any more."""
        if isinstance(self.path, Path):
            return f"move {self.path} away"
        return f"drop the schema {self.path.schema} of its database"


def own_path(manifest: Manifest, folder: Path, *, shared: bool) -> Path:
    """One journal per manifest and endpoint; in a folder that is shared, the manifest's own path tells them apart."""
    return folder / f"{Path(manifest.path).stem}-{_mark(manifest.endpoint, manifest.path if shared else None)}.sqlite"


def journal_of(manifest: Manifest, folder: Path, *, shared: bool) -> Path:
    """The journal to use: the manifest's own, or that of its batch, where that batch's manifest was renamed to this one."""
    own = own_path(manifest, folder, shared=shared)
    for sibling in siblings(manifest, folder, shared=shared):
        renamed = sibling.gone or sibling.manifest == manifest.path
        if sibling.batch == manifest.batch and sibling.here and renamed and isinstance(sibling.path, Path):
            return sibling.path
    return own


def siblings(manifest: Manifest, folder: Path, *, shared: bool) -> Iterator[Sibling]:
    """The other journals with flows, as long as the manifest's own has none."""
    own = own_path(manifest, folder, shared=shared)
    others: list[Path] = []
    with contextlib.suppress(OSError):  # whoever opens a journal there says what is wrong with the folder
        others = sorted(path for path in folder.glob("*.sqlite") if path != own)
    if not others or _look(own)[0] != 0:
        return
    for path in others:
        if not shared and path.stem[-8:] != own.stem[-8:]:
            continue  # of another endpoint
        flows, about = _look(path)
        sibling = _sibling(manifest, path, about, shared) if flows else None
        if sibling is not None:
            yield sibling


def named_after(manifest: str, folder: Path) -> list[Path]:
    """The journals of the manifest at this path, whatever their endpoints: by their names only, without reading it."""
    return sorted(folder.glob(f"{glob.escape(Path(manifest).stem)}-????????.sqlite"))


def _look(path: Path) -> tuple[int | None, Mapping[str, str]]:
    """How many flows a journal has (None: it cannot be read, and whoever opens it says why), and what it says of itself."""
    if not is_journal(path):
        return 0, {}
    with contextlib.suppress(JournalError, ValueError), contextlib.closing(JournalReader(path)) as journal:
        return journal.count_flows(), journal.about
    return None, {}


def _sibling(manifest: Manifest, path: Path, about: Mapping[str, str], shared: bool) -> Sibling | None:
    """None for a journal of another endpoint, or of a manifest that cannot be told."""
    if about.keys() >= {"manifest", "endpoint", "batch"}:
        was = about["manifest"] if shared else os.path.join(manifest.folder, os.path.basename(about["manifest"]))
        here = os.path.dirname(was) == manifest.folder
        return Sibling(path, was, about["batch"], here, True) if about["endpoint"] == manifest.endpoint else None
    stem, _, mark = path.stem.rpartition("-")
    names = [os.path.join(manifest.folder, stem + suffix) for suffix in (Path(manifest.path).suffix, *SUFFIXES)]
    fitting = [name for name in names if mark == _mark(manifest.endpoint, name if shared else None)]
    there = [name for name in fitting if os.path.lexists(name)]
    return Sibling(path, (there or fitting)[0], stem, True, False) if fitting else None


def _mark(endpoint: str, path: str | None) -> str:
    text = endpoint if path is None else f"{endpoint}\0{path}"
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]
