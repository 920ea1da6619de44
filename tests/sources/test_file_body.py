"""Large files are streamed in bodies of exactly known length; one that changes meanwhile is found out."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path

import pytest

from batcher.core.model import Problem
from batcher.sources.bodies import StreamBody
from batcher.sources.dispatch import SMALL_BYTES, AllSources
from batcher.sources.file_body import WHOLE_BYTES

from .conftest import PNG, plan, source

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("size", [1, 2, 3, 1000, SMALL_BYTES, SMALL_BYTES + 1, 393_216 * 2, WHOLE_BYTES, 1_500_001])
async def test_body_is_as_long_as_it_said_and_holds_the_file(sources: AllSources, tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.png"
    content = (PNG + os.urandom(size))[-size:] if size < 8 else PNG + os.urandom(size - 8)
    path.write_bytes(content)
    one = plan(sources, source(path, additional={"n": "ü"}, mime="image/png"))
    body = sources.body(one)
    assert not isinstance(body, Problem)
    streamed = isinstance(body, StreamBody)
    if streamed and body.short:
        whole = await sources.body(one).whole()  # type: ignore[union-attr]  # as long as this one
        assert b"".join(whole or []) == b"".join([chunk async for chunk in sources.body(one).chunks()])  # type: ignore[union-attr]
    sent = b"".join([chunk async for chunk in body.chunks()]) if streamed else body.content
    assert body.fault is None
    assert len(sent) == body.length
    document = json.loads(sent)
    head, _, data = document["data"].partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(data, validate=True) == content
    digest = hashlib.sha256(content)
    assert body.sha256 == digest.digest()
    tag = {"key": (b"k" * 16).hex(), "sha256": digest.hexdigest()}
    assert document["additional"] == {"n": "ü", "batcher": tag}


@pytest.mark.parametrize("change", ["shrinks", "grows", "is rewritten", "vanishes"])
@pytest.mark.parametrize("size", [1000, 3_000_000])
async def test_source_that_changes_is_found_out(sources: AllSources, tmp_path: Path, change: str, size: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG + os.urandom(size))
    one = plan(sources, source(path))
    match change:
        case "shrinks":
            os.truncate(path, size // 2)
        case "grows":
            path.write_bytes(path.read_bytes() + b"more")
        case "is rewritten":
            (tmp_path / "b.png").write_bytes(PNG + os.urandom(size))
            os.replace(tmp_path / "b.png", path)
        case "vanishes":
            path.unlink()
    body = sources.body(one)
    if isinstance(body, StreamBody):
        async for _ in body.chunks():
            pass
        assert body.sha256 is None
        body = body.fault
    assert isinstance(body, Problem)
    assert body.kind == "source"


async def test_file_that_grows_while_it_streams_is_found_out(sources: AllSources, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG + os.urandom(2_000_000))
    body = sources.body(plan(sources, source(path)))
    assert isinstance(body, StreamBody)
    seen = 0
    async for chunk in body.chunks():
        if not seen:
            with path.open("ab") as file:
                file.write(b"more")
        seen += len(chunk)
    assert body.fault is not None
    assert seen < body.length, "a body that is not whole must not look whole"
