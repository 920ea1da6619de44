"""What every request has."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from aiohttp import web

from batcher.core.facts import FileStat
from batcher.core.model import ABSENT, FileSource, Input, Place
from batcher.core.planning import Change, InputPlan
from batcher.core.remote import StartReply
from batcher.core.retry import Reply
from batcher.service.bandwidth import Bandwidth
from batcher.sources.dispatch import AllSources
from batcher.sources.file_body import WHOLE_BYTES
from batcher.version import __version__

from .serving import client_of

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("bandwidth", [None, 1e9], ids=["one connection's wire", "aiohttp's session"])
async def test_every_request_says_who_asks(tmp_path: Path, bandwidth: float | None) -> None:
    agents: list[str | None] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        async for _ in request.content.iter_any():
            pass
        agents.append(request.headers.get("User-Agent"))
        return web.json_response({})

    path = tmp_path / "a.png"
    path.write_bytes(os.urandom(3 * WHOLE_BYTES))  # it leaves bit by bit
    sources = AllSources(0, time.time)
    what = Input("a.png", FileSource(str(path)), "image/png", ABSENT, Place("m", 1, 1))
    file_stat = sources.look(what)
    assert isinstance(file_stat, FileStat)
    body = sources.body(InputPlan(what, b"k" * 16, file_stat, "image/png", b"m", Change.NEW, None))
    try:
        async with client_of(handle, bandwidth=Bandwidth(bandwidth, time.monotonic)) as client:
            assert await client.start("f", lambda: None) == StartReply("")
            assert await client.upload("f", body, lambda: None) == Reply(200, {})
    finally:
        sources.close()
    assert agents == [f"batcher/{__version__}"] * 2
