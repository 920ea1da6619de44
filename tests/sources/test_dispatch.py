"""The way in: each kind of source by its own engine, and the rules that are the same for all."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from batcher.core.errors import Reason, Stop
from batcher.core.model import Problem, Source
from batcher.core.planning import InputPlan
from batcher.sources.dispatch import AllSources
from batcher.sources.local import Files
from batcher.sources.objects import StoredObjects
from batcher.sources.text import Texts

from .conftest import PNG, TYPES, content, plan, source


def test_types_come_from_content_before_names(sources: AllSources, tmp_path: Path) -> None:
    cases = {
        "a.txt": (PNG, "image/png"), "b.png": (b"\xff\xd8\xff\xe0", "image/jpg"), "c": (b"RIFF....WEBPVP8 ", "image/webp"),
    }  # fmt: skip
    for name, (data, mime) in cases.items():
        (tmp_path / name).write_bytes(data)
        assert sources.mime(source(tmp_path / name), TYPES) == mime
    (tmp_path / "d.bin").write_bytes(b"????")
    assert isinstance(sources.mime(source(tmp_path / "d.bin"), TYPES), Problem)
    assert sources.mime(source(tmp_path / "d.bin", mime="image/png"), TYPES) == "image/png"
    refused = sources.mime(source(None, "a chair"), TYPES)
    assert isinstance(refused, Problem)
    assert refused.kind == "manifest"


def test_kinds_that_are_mixed_come_back_in_their_order(sources: AllSources, tmp_path: Path) -> None:
    plans: list[InputPlan] = []
    for number in range(12):
        path = tmp_path / f"{number}"
        path.write_bytes(PNG + b"%d" % number if number % 3 else b"prompt %d" % number)
        item = source(path) if number % 2 else source(None, f"text {number}")
        plans.append(plan(sources, item, ("image/png",) if number % 2 and number % 3 else ("text/plain",)))
    found = sources.bodies(plans)
    assert [content(body) for body in found] == [content(sources.body(one)) for one in plans]
    assert [body.sha256 for body in found if not isinstance(body, Problem)] == [sources.digest(one.input) for one in plans]
    assert sources.ahead([(one.input, True) for one in plans])() == [None] * len(plans), "so few are looked at when they come"
    assert [sources.look(one.input) for one in plans] == [one.stat for one in plans]


def test_each_kind_of_source_has_an_engine(sources: AllSources) -> None:
    assert {type(sources._engine(kind)) for kind in get_args(Source)} == {Files, StoredObjects, Texts}


@pytest.mark.parametrize("item", ["file", "text"])
def test_once_a_run_is_to_end_nothing_more_is_looked_at(sources: AllSources, tmp_path: Path, item: str) -> None:
    what = source(None, "a chair") if item == "text" else source(tmp_path)
    sources.interrupt(Stop(Reason.SIGINT, "stopped"))
    sources.interrupt(Stop(Reason.DEADLINE, "the first one counts"))
    with pytest.raises(Stop, match="stopped"):
        sources.look(what)
