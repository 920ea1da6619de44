"""The one place that picks a journal's engine, and where it lies.

In: a manifest, and what `--state` says: a folder, or an address in PostgreSQL. Out: a `Journal`, held, or a `JournalView` that
only looks; the `PostgresCrew` of the runs that share a database. Called by the public API and the command line.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from ..core.errors import BatcherError, UsageError
from ..core.model import Manifest
from ..host.process import is_journal, opening_a_journal
from .lock import is_held
from .memory import MemoryJournal
from .ports import Journal, JournalView
from .postgres.address import DatabaseAddress
from .reader import JournalReader
from .siblings import Sibling, journal_of, named_after, own_path, siblings

if TYPE_CHECKING:
    from .postgres.crew import PostgresCrew

State: TypeAlias = "Path | DatabaseAddress"  # what --state says: a folder, or a database that hosts share

FOLDER: Final = ".batcher"  # beside the manifest


def state_folder(manifest: Manifest, state: State | None) -> Path:
    """Where what this host keeps of the manifest lies: its journal, where that is no database, and what goes with it."""
    return state if isinstance(state, Path) else Path(manifest.folder) / FOLDER


def journal_path(manifest: Manifest, state: Path | None) -> Path:
    """One journal per manifest and endpoint: see `siblings.py`."""
    return journal_of(manifest, state_folder(manifest, state), shared=state is not None)


def images_path(manifest: Manifest, state: State | None) -> Path:
    """Where this host remembers which images are fit: beside its journal."""
    if isinstance(state, DatabaseAddress):
        return own_path(manifest, state_folder(manifest, state), shared=False).with_suffix(".images")
    return journal_path(manifest, state).with_suffix(".images")


def open_journal(manifest: Manifest, state: State | None, *, run: str | None = None, exclusive: bool = True) -> Journal:
    """Hold the manifest's journal. In a database: as `run` (None: a name is made), alone or, where not `exclusive`, with
    others. Raises Locked, JournalError, UsageError, and Stop where too many files are open or the database is away."""
    about = {"manifest": manifest.path, "endpoint": manifest.endpoint, "batch": manifest.batch}
    settle_s = manifest.limits.settle_s
    with opening_a_journal():
        if isinstance(state, DatabaseAddress):
            from .postgres.journal import PostgresJournal  # psycopg is an extra

            run = run or run_name()
            return PostgresJournal(state.of(manifest), manifest.batch, settle_s, about=about, run=run, exclusive=exclusive)
        from .sqlite import SqliteJournal  # asyncio, which a look does without

        return SqliteJournal(journal_path(manifest, state), manifest.batch, settle_s, about=about)


def open_crew(manifest: Manifest, state: DatabaseAddress, run: str, *, lease_s: float, held: int) -> PostgresCrew:
    """The runs of the batch at this database, one of which is `run`; it is none of them before it has joined."""
    from .postgres.crew import PostgresCrew

    limits = manifest.limits
    place = f"{socket.gethostname()} (process {os.getpid()})"
    return PostgresCrew(state.of(manifest), run, place, lease_s=lease_s, most=limits.concurrency, held=held,
                starts=limits.starts_per_run)  # fmt: skip


def at_primary(state: State | None) -> State | None:
    """For a look that decides what is paid for: of a database's servers only one that takes writes, never a hot standby, which
    may lag behind."""
    return state.at_primary() if isinstance(state, DatabaseAddress) else state


def run_name() -> str:
    """Of this process among the runs of a batch: where it is, and what no other is called."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def read_journal(manifest: Manifest, state: State | None, *, next_run: bool = False) -> JournalView | None:
    """Look at the manifest's journal, without its lock and without a write; None where nothing was run yet. `next_run`: it
    tells what the next run will find: what was announced and never left is as if never announced; a database cannot tell.
    Where the address lets it a hot standby may answer; see `at_primary`. Raises JournalError, UsageError, and Stop where the
    database is away."""
    if isinstance(state, DatabaseAddress):
        return _read_database(state.of(manifest))
    path = journal_path(manifest, state)
    return JournalReader(path, manifest.batch if next_run else None) if is_journal(path) else None


def read_status(manifest: Manifest, state: State | None) -> JournalView | None:
    """Look at it as `read_journal` does: as the next run will find it, or, where one is at work, as it stands."""
    if isinstance(state, DatabaseAddress):
        return read_journal(manifest, state)
    path = journal_path(manifest, state)
    return JournalReader(path, None if is_held(path) else manifest.batch) if is_journal(path) else None


def _read_database(address: DatabaseAddress) -> JournalView | None:
    from .postgres.reader import NoJournal, PostgresReader

    try:
        return PostgresReader(address)
    except NoJournal:
        return None


def empty_journal() -> Journal:
    """One that knows nothing, and keeps nothing beyond this process."""
    return MemoryJournal()


def require_journal(manifest: Manifest, state: State | None) -> None:
    """Raises UsageError where nothing was run yet."""
    if isinstance(state, DatabaseAddress):
        journal = read_journal(manifest, state.at_primary())
        if journal is not None:
            journal.close()
            return
        where = str(state.of(manifest))
    else:
        path = journal_path(manifest, state)
        if is_journal(path):
            return
        where = str(path)
    raise UsageError(f"there is no journal at {where}: nothing was run here for {manifest.endpoint}",
                     "batcher run comes first; --state and --endpoint as there")  # fmt: skip


def other_journals(manifest: Manifest, state: State | None) -> Iterator[Sibling]:
    """Those of other manifests, as long as the manifest's own knows nothing; none where it goes on with one of them."""
    if isinstance(state, DatabaseAddress):
        from .postgres.neighbours import siblings_of

        yield from siblings_of(manifest, state.of(manifest))
        return
    folder, shared = state_folder(manifest, state), state is not None
    if journal_path(manifest, state) == own_path(manifest, folder, shared=shared):
        yield from siblings(manifest, folder, shared=shared)


def read_sibling(sibling: Sibling) -> JournalView:
    """Look at the journal of another manifest. Raises JournalError, UsageError, Stop."""
    if isinstance(sibling.path, Path):
        return JournalReader(sibling.path)
    from .postgres.reader import PostgresReader

    return PostgresReader(sibling.path)


def known_names(manifest: str, state: State | None) -> Iterator[str]:
    """The names of the flows in the journals of the manifest at this path, which is not read; what cannot be read is left
    out."""
    for opened in _journals_of(manifest, state):
        with suppress(BatcherError, ValueError), closing(opened()) as journal:
            for facts in journal.flows():
                yield facts.name


def _journals_of(manifest: str, state: State | None) -> Iterator[Callable[[], JournalView]]:
    """By their names only; in a database those of a manifest's file of this name."""
    if isinstance(state, DatabaseAddress):
        from .postgres.neighbours import neighbours
        from .postgres.reader import PostgresReader

        with suppress(BatcherError):
            for one in neighbours(replace(state, schema=state.schema or "public")):
                if os.path.basename(one.about.get("manifest", "")) == os.path.basename(manifest):
                    yield partial(PostgresReader, one.address)
        return
    folder = state if state is not None else Path(manifest).absolute().parent / FOLDER
    for path in named_after(manifest, folder):
        yield partial(JournalReader, path)
