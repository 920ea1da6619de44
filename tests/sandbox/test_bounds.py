"""Memory: large inputs and long listings pass through in pieces. Measured in a process of its own."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .api import Api, open_api
from .test_durability import process

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc"),
]

MIB = 2**20


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


async def body(size_bytes: int) -> AsyncIterator[bytes]:
    """An upload of about this many bytes, made while it is sent."""
    block = base64.b64encode(bytes(192 * 1024))
    yield b'{"data":"data:image/png;base64,'
    for _ in range(size_bytes // (192 * 1024)):
        yield block
    yield b'","additional":{"after":"data"}}'


async def upload_in_pieces(api: Api, flow_id: str, size_bytes: int) -> None:
    status, reply = await api.call("POST", f"/flows/{flow_id}/inputs", data=body(size_bytes))
    assert status == 200, reply


def fill(folder: Path, flow_id: str, count: int) -> None:
    """Puts inputs into the store of a sandbox that is stopped: a million uploads would take minutes."""
    with sqlite3.connect(folder / "sandbox.sqlite") as db:
        (flow,) = db.execute("SELECT seq FROM flows WHERE flow_id = ?", (flow_id,)).fetchone()
        row = "INSERT INTO inputs VALUES (NULL, ?, ?, 'file', 'image/png', ?, 3, ?, 1.0, 0, 0, x'414243')"
        rows = ((flow, f"{n:024x}", f"{n:064x}", f'{{"batcher":{{"n":{n}}}}}') for n in range(count))
        db.executemany(row, rows)
    db.close()


async def list_all(api: Api, path: str) -> int:
    """How many inputs a listing shows; it is not held here either."""
    count, tail = 0, b""
    async with api.session.get(api.url + path) as response:
        async for piece in response.content.iter_any():
            tail += piece
            count += tail.count(b'{"batcher"')
            tail = tail[-9:] if b'{"batcher"' not in tail[-9:] else b""
    return count


async def listing_stays_small(folder: Path, count: int) -> None:
    async with process(folder) as (_, url), open_api(url) as api:
        flow_id = await api.create()
    await asyncio.to_thread(fill, folder, flow_id, count)
    async with process(folder) as (child, url), open_api(url) as api:
        await api.ok("GET", f"/flows/{flow_id}")
        before = peak_bytes(child.pid)
        assert await list_all(api, f"/flows/{flow_id}/inputs") == count
        assert await list_all(api, "/_sandbox/record") == count
        assert peak_bytes(child.pid) - before < 16 * MIB


async def test_a_listing_of_20_000_inputs_is_streamed(tmp_path: Path) -> None:
    await listing_stays_small(tmp_path, 20_000)


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_listing_of_1_000_000_inputs_is_streamed(tmp_path: Path) -> None:
    await listing_stays_small(tmp_path, 1_000_000)


async def large_uploads_stay_small(folder: Path, size_bytes: int, at_once: int) -> None:
    async with process(folder) as (child, url), open_api(url) as api:
        flow_id = await api.create()
        before = peak_bytes(child.pid)
        await asyncio.gather(*(upload_in_pieces(api, flow_id, size_bytes) for _ in range(at_once)))
        assert len(await api.recorded_inputs(flow_id)) == at_once
        assert peak_bytes(child.pid) - before < 40 * MIB


async def test_16_large_uploads_at_once_are_not_held(tmp_path: Path) -> None:
    await large_uploads_stay_small(tmp_path, 10 * MIB, 16)


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_16_uploads_of_64_mib_and_one_of_1_gib_are_not_held(tmp_path: Path) -> None:
    await large_uploads_stay_small(tmp_path / "many", 64 * MIB, 16)
    await large_uploads_stay_small(tmp_path / "one", 1024 * MIB, 1)
