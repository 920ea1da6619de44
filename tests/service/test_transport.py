"""A request on its way, whichever way it goes: what counts as sent, as lost and as done. On the wire; through the session, as
where aiohttp lacks what the wire takes of its insides; with each connection used once, as where its pool lacks it, too."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from batcher.core.bodies import SmallBody
from batcher.core.remote import StartReply
from batcher.core.retry import Fault, FaultKind, Reply
from batcher.sources.bodies import StreamBody

from .serving import OK, serving

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("way")]


async def test_success_before_the_body_has_arrived_is_none_and_the_connection_is_not_used_again(body: StreamBody) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await asyncio.sleep(5)

    async with serving(serve) as client:
        found = await client.upload("f", body, lambda: None)
        assert isinstance(found, Fault)
        assert found.kind is FaultKind.NOT_SENT
        assert await client.start("f", lambda: None) == StartReply("")
        assert connections == 2


async def test_success_that_comes_while_the_kernel_has_not_taken_the_end_is_none() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await asyncio.sleep(5)

    async with serving(serve) as client:
        found = await client.upload("f", SmallBody(b"x" * 250_000, b""), lambda: None)
        assert isinstance(found, Fault)
        assert found.kind is FaultKind.NOT_SENT


@pytest.mark.parametrize("call", ["upload", "start", "flow", "delete"])
async def test_request_that_gets_no_answer_is_never_repeated_where_that_could_do_harm(call: str, way: str) -> None:
    requests = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0] or 0))
            requests.append(head.split()[0])
            if len(requests) == 2:  # over the connection of the first, where that is kept
                writer.transport.abort()
                return
            writer.write(OK)

    async with serving(serve) as client:
        calls = {"upload": lambda: client.upload("f", SmallBody(b"{}", b""), lambda: None),
                 "start": lambda: client.start("f", lambda: None), "flow": lambda: client.flow("f"),
                 "delete": lambda: client.delete("f")}  # fmt: skip
        assert not isinstance(await client.start("f", lambda: None), Fault)
        found = await calls[call]()
    if call in ("upload", "start") or way == "wire":
        assert isinstance(found, Fault)
        assert (found.kind, len(requests)) == (FaultKind.NO_ANSWER, 2)
    else:  # the session asks once more: nothing can be read, or deleted, twice
        assert not isinstance(found, Fault)
        assert requests[1] == requests[2]


async def test_refusal_before_the_body_has_arrived_is_heard(body: StreamBody) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK.replace(b"200 OK", b"413 Too Large"))
        await asyncio.sleep(5)

    async with serving(serve) as client:
        found = await client.upload("f", body, lambda: None)
        assert isinstance(found, Reply)
        assert found.status == 413


async def test_service_that_hangs_up_amid_the_body_has_not_got_it(body: StreamBody) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(200_000)
        writer.transport.abort()

    async with serving(serve) as client:
        found = await client.upload("f", body, lambda: pytest.fail("it left"))
        assert isinstance(found, Fault)
        assert found.kind is FaultKind.NOT_SENT


async def test_file_that_changes_is_found_out_before_anything_leaves(body: StreamBody, tmp_path: Path, way: str) -> None:
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1

    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    async with serving(serve) as client:
        found = await client.upload("f", body, lambda: pytest.fail("it left"))
        assert isinstance(found, Fault)
        assert found.kind is FaultKind.NOT_SENT
    assert body.fault is not None
    assert not asked or way != "wire", "the session sends the head first"


async def test_key_that_would_split_the_head_is_not_sent() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"Evil" not in await reader.read(1 << 16)

    async with serving(serve, timeout_s=0.5) as client:
        client._key.headers["Authorization"] += "\r\nEvil: 1"
        found = await client.start("f", lambda: pytest.fail("it left"))
    assert isinstance(found, Fault)
    assert found.kind is FaultKind.NOT_SENT
