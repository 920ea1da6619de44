"""Every output has a name of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from batcher.api import collect
from batcher.core.model import ABSENT, FileSource, Input, Problem
from batcher.core.tags import InputKeys

from ..batch import HERE, Batch, files
from .folder import outputs, results, sandbox_of, started
from .service import GLB, Service, collected, inputs, raw

pytestmark = pytest.mark.anyio


async def test_names_are_shared_by_nobody_and_sources_without_a_tag_are_said_to_be_unknown(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    paths = [*files(tmp_path / "a", 1), *files(tmp_path / "b", 1), *files(tmp_path, 1)]
    labels = ["a/0.png", "b/0.png", "untagged.png"]

    def inputs() -> Iterator[Input | Problem]:
        for label, path in zip(labels, paths, strict=True):
            yield Input(label, FileSource(str(path)), None, [1, 2] if label == "untagged.png" else ABSENT, HERE)

    batch = Batch(tmp_path, paths, flows=1)
    batch._inputs = inputs  # type: ignore[method-assign]
    async with sandbox_of(tmp_path) as sandbox:
        await started(batch, sandbox.url)
        report = await collect(batch.manifest(sandbox.url), tmp_path / "out")
        again = await collect(batch.manifest(sandbox.url), tmp_path / "two", name="{stem}{suffix}")
        apart = await collect(batch.manifest(sandbox.url), tmp_path / "three")
    assert report.exit_code == again.exit_code == apart.exit_code == 0
    assert report.outputs is not None
    assert report.outputs.shared_names == 2
    rows = {row["source"]: row for row in results(tmp_path / "out")}
    assert set(rows) == {"a/0.png", "b/0.png", ""}
    assert rows["a/0.png"]["output"].startswith("flow 0/0-")
    assert rows["a/0.png"]["output"] != rows["b/0.png"]["output"]
    assert rows[""]["output"] == f"flow 0/{rows['']['asset_id']}.glb"
    assert set(outputs(tmp_path / "three")) == {row["output"] for row in rows.values()}


async def test_several_outputs_of_an_input_and_some_of_none_have_names_of_their_own(tmp_path: Path) -> None:
    labels = {"x3": "a.png", "x1": "a.png", "x2": "a.png", "y": "a-2.png", "z": "b.png", "foreign": "", "../../up": ""}
    service = Service(outputs={asset: (label, raw(GLB)) for asset, label in labels.items()})
    report, found = await collected(service, tmp_path)
    key = InputKeys("m", "flow").next(next(iter(inputs()))).hex()[:8]  # type: ignore[arg-type]
    assert report.exit_code == 0, report.problems
    assert found == {"flow/a.glb", f"flow/a-2-{key}.glb", "flow/a-3.glb", "flow/a-2.glb", "flow/b.glb", "flow/foreign.glb",
                     "flow/_._.._up.glb"}  # fmt: skip
    assert report.outputs.without_source == 2
    assert {p.name for p in tmp_path.iterdir()} == {"out"}
