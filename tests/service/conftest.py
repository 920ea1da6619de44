"""The ways that a request can go, and a body that is read while it is sent."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from batcher.core.model import ABSENT, FileSource, Input, Place
from batcher.core.planning import Change, InputPlan
from batcher.service import wire
from batcher.sources.bodies import StreamBody
from batcher.sources.dispatch import AllSources
from batcher.sources.file_body import WHOLE_BYTES


@pytest.fixture(params=["wire", "session", "session, each connection once"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How requests go. The client's kernel takes little as well, so that what it has not taken shows."""
    monkeypatch.setattr(wire, "LACKING", [] if request.param == "wire" else ["a name"])
    monkeypatch.setattr(wire, "POOL_LACKING", ["a name"] if "once" in request.param else [])
    connect = wire.Pool.connect

    async def narrow(pool: wire.Pool, *args: Any, **kwargs: Any) -> wire.Connection:
        connection = await connect(pool, *args, **kwargs)
        assert connection.transport is not None
        connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 << 10)
        return connection

    monkeypatch.setattr(wire.Pool, "connect", narrow)
    return request.param


@pytest.fixture
def body(tmp_path: Path):
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(WHOLE_BYTES - 8))
    sources = AllSources(0, time.time)
    what = Input("a.png", FileSource(str(path)), "image/png", ABSENT, Place("m", 1, 1))
    file_stat = sources.look(what)
    made = sources.body(InputPlan(what, b"k" * 16, file_stat, "image/png", b"m", Change.NEW, None))  # type: ignore[arg-type]
    assert isinstance(made, StreamBody)
    assert made.short
    yield made
    sources.close()
