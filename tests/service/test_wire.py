"""Connections that are kept: which is used again, and what it must not hold."""

from __future__ import annotations

import asyncio
import time

import pytest

from batcher.core.bodies import SmallBody
from batcher.core.retry import Reply

from .serving import OK, Talkative, serving

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("way")]


async def test_requests_one_after_the_other_share_a_connection_and_an_old_one_is_not_used(monkeypatch, way: str) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while not reader.at_eof():
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            writer.write(OK)

    async with serving(serve) as client:
        for _ in range(5):
            assert await client.upload("f", SmallBody(b'{"data":"x"}', b""), lambda: None) == Reply(200, {})
        assert connections == (5 if "once" in way else 1)
        if way != "wire":
            return  # aiohttp's pool sees to it
        monkeypatch.setattr("batcher.service.wire.monotonic", lambda: time.monotonic() + 5)
        assert await client.upload("f", SmallBody(b'{"data":"x"}', b""), lambda: None) == Reply(200, {})
        assert connections == 2


async def test_second_reply_to_one_request_is_not_taken_for_the_reply_to_the_next() -> None:
    talkative = Talkative(OK)
    async with serving(talkative) as client:
        for expected in (1, 2):
            assert await client.upload("f", SmallBody(b'{"data":"x"}', b""), lambda: None) == Reply(200, {})
            assert talkative.requests == expected
            await asyncio.sleep(0.1)
