"""The one place that picks a journal's engine, and where it lies.

In: a manifest, and what `--state` says. Out: a `Journal`, held, or a `JournalView` that only looks. Called by the public API
and the command line.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from ..core.errors import BatcherError, UsageError
from ..core.model import Manifest
from ..host.process import is_journal, opening_a_journal
from .memory import MemoryJournal
from .ports import Journal, JournalView
from .reader import JournalReader
from .siblings import Sibling, journal_of, named_after, own_path, siblings
from .sqlite import SqliteJournal

FOLDER: Final = ".batcher"  # beside the manifest


def state_folder(manifest: Manifest, state: Path | None) -> Path:
    """Where the journal of the manifest lies."""
    return state if state is not None else Path(manifest.folder) / FOLDER


def journal_path(manifest: Manifest, state: Path | None) -> Path:
    """One journal per manifest and endpoint: see `siblings.py`."""
    return journal_of(manifest, state_folder(manifest, state), shared=state is not None)


def open_journal(manifest: Manifest, state: Path | None) -> Journal:
    """Hold the manifest's journal. Raises Locked, JournalError, UsageError, and Stop where too many files are open."""
    about = {"manifest": manifest.path, "endpoint": manifest.endpoint, "batch": manifest.batch}
    with opening_a_journal():
        return SqliteJournal(journal_path(manifest, state), manifest.batch, manifest.limits.settle_s, about=about)


def read_journal(manifest: Manifest, state: Path | None, *, next_run: bool = False) -> JournalView | None:
    """Look at the manifest's journal, without its lock and without a write; None where nothing was run yet. `next_run`: it
    tells what the next run will find: what was announced and never left is as if never announced. Raises JournalError,
    UsageError."""
    path = journal_path(manifest, state)
    return JournalReader(path, manifest.batch if next_run else None) if is_journal(path) else None


def empty_journal() -> Journal:
    """One that knows nothing, and keeps nothing beyond this process."""
    return MemoryJournal()


def require_journal(manifest: Manifest, state: Path | None) -> None:
    """Raises UsageError where nothing was run yet."""
    path = journal_path(manifest, state)
    if not is_journal(path):
        raise UsageError(f"there is no journal at {path}: nothing was run here for {manifest.endpoint}",
                         "batcher run comes first; --state and --endpoint as there")  # fmt: skip


def other_journals(manifest: Manifest, state: Path | None) -> Iterator[Sibling]:
    """Those of other manifests, as long as the manifest's own knows nothing; none where it goes on with one of them."""
    folder, shared = state_folder(manifest, state), state is not None
    if journal_path(manifest, state) == own_path(manifest, folder, shared=shared):
        yield from siblings(manifest, folder, shared=shared)


def read_sibling(sibling: Sibling) -> JournalView:
    """Look at the journal of another manifest. Raises JournalError, UsageError."""
    return JournalReader(sibling.path)


def known_names(manifest: str, state: Path | None) -> Iterator[str]:
    """The names of the flows in the journals of the manifest at this path, which is not read; what cannot be read is left
    out."""
    folder = state if state is not None else Path(manifest).absolute().parent / FOLDER
    for path in named_after(manifest, folder):
        with suppress(BatcherError, ValueError), closing(JournalReader(path)) as journal:
            for facts in journal.flows():
                yield facts.name
