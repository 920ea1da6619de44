"""Which journal is a manifest's own, and which others lie beside it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from batcher.core.facts import FlowFacts, PutFlow
from batcher.core.model import Manifest
from batcher.journal.siblings import journal_of, own_path, siblings
from batcher.journal.sqlite import SqliteJournal

from .test_open import manifest_of

pytestmark = pytest.mark.anyio


async def written(manifest: Manifest, path: Path) -> Path:
    about = {"manifest": manifest.path, "endpoint": manifest.endpoint, "batch": manifest.batch}
    with closing(SqliteJournal(path, manifest.batch, 15, about=about)) as journal:
        await journal.record(PutFlow(FlowFacts("f")))
    return path


async def test_manifest_and_endpoint_name_it_and_a_shared_folder_its_path_too(tmp_path: Path) -> None:
    manifest, folder = manifest_of(tmp_path), tmp_path / "s"
    names = {own_path(one, folder, shared=shared) for shared in (False, True)
             for one in (manifest, replace(manifest, endpoint="http://127.0.0.1:8"))}  # fmt: skip
    assert len(names) == 4
    assert all(path.name.startswith("m-") and path.suffix == ".sqlite" for path in names)
    moved = replace(manifest, path="/elsewhere/m.yaml")
    assert own_path(moved, folder, shared=False) == own_path(manifest, folder, shared=False)
    assert own_path(moved, folder, shared=True) != own_path(manifest, folder, shared=True)


@pytest.mark.parametrize("shared", [False, True])
async def test_journal_of_a_manifest_that_was_renamed_goes_on_with_its_batch(tmp_path: Path, shared: bool) -> None:
    was, folder = manifest_of(tmp_path, "was"), tmp_path / "s"
    path = await written(was, own_path(was, folder, shared=shared))
    now = replace(manifest_of(tmp_path, "now"), batch="was")
    assert journal_of(now, folder, shared=shared) == own_path(now, folder, shared=shared), "was.yaml is still there"
    (tmp_path / "was.yaml").unlink()
    assert journal_of(now, folder, shared=shared) == path
    assert journal_of(replace(now, batch="another"), folder, shared=shared) != path
    (sibling,) = siblings(now, folder, shared=shared)
    assert (sibling.path, sibling.batch, sibling.here, sibling.self_described, sibling.gone) == (path, "was", True, True, True)


async def test_journal_with_flows_of_its_own_asks_for_no_others(tmp_path: Path) -> None:
    manifest, other, folder = manifest_of(tmp_path), manifest_of(tmp_path, "other"), tmp_path / "s"
    await written(other, own_path(other, folder, shared=False))
    assert len(list(siblings(manifest, folder, shared=False))) == 1
    await written(manifest, own_path(manifest, folder, shared=False))
    assert list(siblings(manifest, folder, shared=False)) == []
