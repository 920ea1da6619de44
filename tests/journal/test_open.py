"""Which journal a manifest has, held or looked at, whatever the engine."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from batcher.api import load_manifest
from batcher.core.errors import Locked
from batcher.core.facts import FileStat, FlowFacts, InputFacts, PutFlow, PutInput
from batcher.core.lifecycle import FlowState, InputState
from batcher.core.model import Manifest
from batcher.core.tags import flow_key
from batcher.journal.open import empty_journal, journal_path, known_names, open_journal, read_journal, read_sibling
from batcher.journal.siblings import named_after, siblings

from .test_schema import holds_all, older

pytestmark = pytest.mark.anyio


def manifest_of(folder: Path, name: str = "m", url: str = "http://127.0.0.1:9") -> Manifest:
    flow = {"name": "f", "template": "t", "inputs": [{"text": "a"}]}
    (folder / f"{name}.yaml").write_text(json.dumps({"version": 1, "endpoint": url, "flows": [flow]}))
    return load_manifest(folder / f"{name}.yaml")


@pytest.mark.parametrize("shared", [False, True])
async def test_journal_is_held_by_one_and_looked_at_by_others(tmp_path: Path, shared: bool) -> None:
    manifest = manifest_of(tmp_path)
    state = tmp_path / "state" if shared else None
    assert read_journal(manifest, state) is None, "nothing was run yet"
    assert not (tmp_path / ".batcher").exists()
    with closing(open_journal(manifest, state)) as journal:
        await journal.record(PutFlow(FlowFacts("f", FlowState.OPEN, "id-1")))
        with pytest.raises(Locked):
            open_journal(manifest, state)
        reader = read_journal(manifest, state)
        assert reader is not None
        with closing(reader):
            assert (reader.held, journal.held) == (True, True)
            assert list(reader.flows()) == list(journal.flows())
            assert reader.about == {"manifest": manifest.path, "endpoint": manifest.endpoint, "batch": "m"}
            assert reader.owner == journal.owner
    reader = read_journal(manifest, state)
    assert reader is not None
    with closing(reader):
        assert reader.held is False


async def test_what_the_next_run_finds_is_told_when_it_is_asked_for(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path)
    sent, kept = (InputFacts(bytes([number]) * 16, InputState.SENDING, None, b"m", FileStat(number)) for number in (3, 4))
    with closing(open_journal(manifest, None)) as journal:
        await journal.record(*(PutFlow(FlowFacts(name, FlowState.CREATING, generation=1)) for name in "fg"),
                             PutInput("f", sent), PutInput("f", kept))  # fmt: skip
        journal.mark_sent(flow_key("m", "g"))
        journal.mark_sent(sent.key)
        for next_run, state in ((False, FlowState.CREATING), (True, FlowState.PLANNED)):
            reader = read_journal(manifest, None, next_run=next_run)
            assert reader is not None
            with closing(reader):
                assert {name: facts.state for name, facts in reader.flows_named(["f", "g"]).items()} == {
                    "f": state, "g": FlowState.CREATING,
                }  # fmt: skip
                assert [facts.state for facts in reader.flows()] == [state, FlowState.CREATING]
                assert [facts.state for facts, _ in reader.flows_and_ends()] == [state, FlowState.CREATING]
                tally = reader.tallies(["f", "g"])["f"]
                assert tally[InputState.SENDING] == ((1, 3) if next_run else (2, 7))
                assert tally.get(InputState.PENDING) == ((1, 4) if next_run else None)
                assert reader.counts(["f"]) == {"f": 1 if next_run else 2}


def test_journal_of_an_older_batcher_is_looked_at_without_a_write(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path)
    path = journal_path(manifest, None)
    path.parent.mkdir()
    older(path, 3)
    before = path.read_bytes()
    reader = read_journal(manifest, None, next_run=True)
    assert reader is not None
    with closing(reader):
        holds_all(reader, 3)  # type: ignore[arg-type]
    assert path.read_bytes() == before


async def test_names_come_from_every_journal_of_the_manifest_that_can_be_read(tmp_path: Path) -> None:
    for url, name in (("http://127.0.0.1:9", "one"), ("http://127.0.0.1:8", "two")):
        with closing(open_journal(manifest_of(tmp_path, url=url), None)) as journal:
            await journal.record(PutFlow(FlowFacts(name)))
    with closing(open_journal(manifest_of(tmp_path, "other"), None)) as journal:
        await journal.record(PutFlow(FlowFacts("three")))
    broken = tmp_path / ".batcher" / "m-00000000.sqlite"
    broken.write_bytes(b"no database at all" * 100)
    assert len(named_after(str(tmp_path / "m.yaml"), tmp_path / ".batcher")) == 3
    assert sorted(known_names(str(tmp_path / "m.yaml"), None)) == ["one", "two"]
    assert sorted(known_names("m.yaml", tmp_path / ".batcher")) == ["one", "two"]
    assert list(known_names(str(tmp_path / "none.yaml"), None)) == []


async def test_journals_beside_it_are_found_whatever_their_schema(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path)
    other = manifest_of(tmp_path, "other")
    path = journal_path(other, None)
    path.parent.mkdir()
    older(path, 1)
    before = path.read_bytes()
    (sibling,) = siblings(manifest, path.parent, shared=False)
    assert (sibling.path, sibling.batch, sibling.self_described) == (path, "other", False)
    with closing(read_sibling(sibling)) as journal:
        assert journal.count_flows() == 2
    assert path.read_bytes() == before


async def test_empty_journal_keeps_nothing(tmp_path: Path) -> None:
    with closing(empty_journal()) as journal:
        assert (list(journal.flows()), journal.held) == ([], None)
