"""A reply that comes too early, a service that reads slowly or not at all, a stray reply, a key in a header: on the wire, and
as it is where aiohttp lacks what the wire takes of its insides (through the session), or even what its pool does (each
connection is used once)."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from batcher.core.model import ABSENT, FileSource, Input, Place
from batcher.core.planning import Change, InputPlan
from batcher.core.remote import StartReply
from batcher.core.retry import Fault, FaultKind, Reply
from batcher.service import wire
from batcher.service.client import FlowsApi, Key
from batcher.service.limiter import Bandwidth
from batcher.sources.bodies import SmallBody, StreamBody
from batcher.sources.dispatch import AllSources
from batcher.sources.file_body import WHOLE_BYTES

pytestmark = pytest.mark.anyio
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve, timeout_s: float = 5, bandwidth: Bandwidth | None = None) -> AsyncIterator[FlowsApi]:
    """A client of a server whose kernel takes in little, so that it shows who reads and who does not."""
    handling: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handling.add(task)
        with suppress(asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            await serve(reader, writer)
            await writer.drain()
            await reader.read()
        writer.transport.abort()

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
    server = await asyncio.start_server(handle, sock=listener, limit=16 << 10)
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with FlowsApi(url, Key(lambda: "k"), timeout_s=timeout_s, connections=8, bandwidth=bandwidth) as client:
            yield client
    finally:
        server.close()
        for task in handling:
            task.cancel()
        await asyncio.gather(*handling)
        await asyncio.sleep(0.01)  # their transports close


@pytest.fixture(params=["wire", "session", "session, each connection once"], autouse=True)
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


async def test_service_that_reads_slowly_is_given_the_time_it_takes(body: StreamBody) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = body.length
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Content-Length: %d\r\n" % left in head
        while left:
            left -= len(await reader.read(left))
            await asyncio.sleep(0.06)  # in all several times the time without movement that is granted
        writer.write(OK)

    async with serving(serve, timeout_s=1) as client:
        began = time.monotonic()
        assert await client.upload("f", body, lambda: None) == Reply(200, {})
        assert time.monotonic() - began > 1.5


async def test_service_that_hangs_up_amid_the_body_has_not_got_it(body: StreamBody) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(200_000)
        writer.transport.abort()

    async with serving(serve) as client:
        found = await client.upload("f", body, lambda: pytest.fail("it left"))
        assert isinstance(found, Fault)
        assert found.kind is FaultKind.NOT_SENT


async def test_reply_that_stalls_is_cut_off_though_the_connections_end_would_be_its_own() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{}")
        await asyncio.sleep(5)

    async with serving(serve, timeout_s=0.3) as client:
        found = await client.start("f", lambda: None)
        assert isinstance(found, Fault)
        assert (found.kind, found.status) == (FaultKind.CUT_OFF, 200)


async def test_wait_for_the_bandwidth_is_no_lost_request() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]))
            writer.write(OK)

    bandwidth = Bandwidth(40_000, time.monotonic)
    async with serving(serve, timeout_s=0.3, bandwidth=bandwidth) as client:
        bodies = [SmallBody(b"x" * 10_000, b"") for _ in range(6)]
        found = await asyncio.gather(*(client.upload("f", body, lambda: None) for body in bodies))
        assert found == [Reply(200, {})] * 6


async def test_service_that_stops_reading_is_given_up(body: StreamBody) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(10)

    async with serving(serve, timeout_s=0.3) as client:
        async with asyncio.timeout(5):
            found = await client.upload("f", body, lambda: None)
        assert isinstance(found, Fault)
        assert (found.kind, found.message) == (FaultKind.NOT_SENT, "not sent: nothing moved for 0.3 s")


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


class Talkative:
    """Answers each request, and then once more, which nobody asked for."""

    def __init__(self, stray: bytes) -> None:
        self.requests = 0
        self._stray = stray

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]))
            self.requests += 1
            writer.write(OK)
            await asyncio.sleep(0.05)
            writer.write(self._stray)


async def test_second_reply_to_one_request_is_not_taken_for_the_reply_to_the_next() -> None:
    talkative = Talkative(OK)
    async with serving(talkative) as client:
        for expected in (1, 2):
            assert await client.upload("f", SmallBody(b'{"data":"x"}', b""), lambda: None) == Reply(200, {})
            assert talkative.requests == expected
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("next_one", ["small", "large"])
async def test_stray_reply_after_a_long_body_is_not_taken_for_the_reply_to_the_next(body: StreamBody, next_one: str) -> None:
    talkative = Talkative(OK.replace(b"200 OK", b"401 No"))
    async with serving(talkative, bandwidth=Bandwidth(1e9, time.monotonic)) as client:  # with a cap, it leaves bit by bit
        assert await client.upload("f", body, lambda: None) == Reply(200, {})
        await asyncio.sleep(0.1)
        following = SmallBody(b'{"data":"x"}', b"") if next_one == "small" else body
        assert await client.upload("f", following, lambda: None) == Reply(200, {})
        assert talkative.requests == 2


async def test_reply_whose_chunks_break_off_is_given_up_in_time() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n")
        await asyncio.sleep(0.05)
        writer.write(b"Traceback (most recent call last):\r\n")

    async with serving(serve, timeout_s=0.3) as client, asyncio.timeout(5):
        found = await client.templates(lambda template: None)
        assert isinstance(found, Fault)
        assert (found.kind, found.status) == (FaultKind.CUT_OFF, 200)


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
