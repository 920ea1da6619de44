"""--state as the address of a database: which journal is a manifest's, which others lie there."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from batcher.core.errors import Locked, UsageError
from batcher.core.facts import FlowFacts, PutFlow
from batcher.journal.open import (
    images_path,
    known_names,
    open_journal,
    other_journals,
    read_journal,
    read_sibling,
    require_journal,
    state_folder,
)
from batcher.journal.postgres.address import DatabaseAddress
from tests.postgres import server

from ..test_open import manifest_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def state() -> DatabaseAddress:
    """A database of its own."""
    name = f"d{os.urandom(6).hex()}"
    with server().connect() as beside:
        beside.execute(f"CREATE DATABASE {name}")
    return DatabaseAddress.parse(server().url.replace("/postgres?", f"/{name}?"))


async def test_journal_is_held_by_one_and_looked_at_by_others(state: DatabaseAddress, tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path)
    assert read_journal(manifest, state) is None
    with pytest.raises(UsageError, match=r"there is no journal at postgresql://.*schema=batcher_m_"):
        require_journal(manifest, state)
    with closing(open_journal(manifest, state)) as journal:
        await journal.record(PutFlow(FlowFacts("f")))
        with pytest.raises(Locked):
            open_journal(manifest, state)
        reader = read_journal(manifest, state, next_run=True)
        assert reader is not None
        with closing(reader):
            assert reader.flow("f") == FlowFacts("f")
            assert reader.about == {"manifest": manifest.path, "endpoint": manifest.endpoint, "batch": "m"}
    require_journal(manifest, state)
    with closing(open_journal(manifest, state, run="a", exclusive=False)):
        open_journal(manifest, state, run="b", exclusive=False).close()
    assert list(known_names(manifest.path, state)) == ["f"]
    assert list(known_names("another.yaml", state)) == []


def test_what_lies_beside_a_journal_lies_beside_the_manifest(state: DatabaseAddress, tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path)
    assert state_folder(manifest, state) == tmp_path / ".batcher"
    assert images_path(manifest, state) == images_path(manifest, None)


async def test_schema_of_another_batch_is_refused(state: DatabaseAddress, tmp_path: Path) -> None:
    shared = replace(state, schema="mine")
    open_journal(manifest_of(tmp_path), shared).close()
    for other in (manifest_of(tmp_path, "other"), manifest_of(tmp_path, url="http://127.0.0.1:8")):
        with pytest.raises(UsageError, match="is that of the batch “m” at http:"):
            open_journal(other, shared)
    open_journal(manifest_of(tmp_path), shared).close()


async def test_other_batches_of_the_endpoint_are_siblings_as_long_as_there_are_no_flows(
    state: DatabaseAddress, tmp_path: Path
) -> None:
    was = manifest_of(tmp_path, "was")
    with closing(open_journal(was, state)) as journal:
        await journal.record(PutFlow(FlowFacts("f")))
    open_journal(manifest_of(tmp_path, "empty"), state).close()
    with closing(open_journal(manifest_of(tmp_path, "elsewhere", url="http://127.0.0.1:8"), state)) as journal:
        await journal.record(PutFlow(FlowFacts("f")))
    now = manifest_of(tmp_path, "now")
    (sibling,) = other_journals(now, state)
    assert (sibling.manifest, sibling.batch, sibling.here) == (was.path, "was", True)
    assert (sibling.self_described, sibling.gone) == (True, False)
    Path(was.path).unlink()
    assert sibling.gone
    assert sibling.put_away == f"drop the schema {state.of(was).schema} of its database"
    with closing(read_sibling(sibling)) as journal:
        assert journal.flow("f") == FlowFacts("f")
    with closing(open_journal(now, state)) as journal:
        await journal.record(PutFlow(FlowFacts("g")))
    assert list(other_journals(now, state)) == []


def test_owner_is_asked_for_once(state: DatabaseAddress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each create is tagged with it, in the loop, which would wait for the database and for whoever else asks it."""
    manifest = manifest_of(tmp_path)
    with closing(open_journal(manifest, state)) as journal:
        owner = journal.owner
        monkeypatch.setattr(journal, "_ask", None)
        assert journal.owner == owner
    with closing(open_journal(manifest, state)) as journal:
        assert journal.owner == owner
