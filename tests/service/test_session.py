"""Bodies that leave bit by bit."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from batcher.core.bodies import SmallBody
from batcher.core.retry import Reply
from batcher.service.bandwidth import Bandwidth
from batcher.sources.bodies import StreamBody
from batcher.sources.dispatch import AllSources

from .serving import OK, Talkative, serving

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("way")]


@pytest.mark.parametrize("next_one", ["small", "large"])
async def test_stray_reply_after_a_long_body_is_not_taken_for_the_reply_to_the_next(body: StreamBody, next_one: str) -> None:
    talkative = Talkative(OK.replace(b"200 OK", b"401 No"))
    async with serving(talkative, bandwidth=Bandwidth(1e9, time.monotonic)) as client:  # with a cap, it leaves bit by bit
        assert await client.upload("f", body, lambda: None) == Reply(200, {})
        await asyncio.sleep(0.1)
        following = SmallBody(b'{"data":"x"}', b"") if next_one == "small" else body
        assert await client.upload("f", following, lambda: None) == Reply(200, {})
        assert talkative.requests == 2


async def test_bodies_that_wait_for_the_bandwidth_bit_by_bit_are_not_given_up(body: StreamBody, tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        left = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
        while left:
            left -= len(await reader.read(min(left, 1 << 16)))
        writer.write(OK)

    sources = AllSources(0, time.time)
    many = [sources.body(body._plan) for _ in range(6)]
    assert all(isinstance(one, StreamBody) for one in many)
    async with serving(serve, timeout_s=0.3, bandwidth=Bandwidth(8e6, time.monotonic)) as client:  # 0.4 s for 512 KiB of each
        began = time.monotonic()
        found = await asyncio.gather(*(client.upload("f", one, lambda: None) for one in many))
    sources.close()
    assert found == [Reply(200, {})] * 6
    assert time.monotonic() - began > 0.9
