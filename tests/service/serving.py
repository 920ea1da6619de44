"""Servers on loopback, and a client of each: one that speaks bytes, one that always replies the same, one that answers
queries."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import web

from batcher.core.remote import Listing, RemoteFlow
from batcher.service.bandwidth import Bandwidth
from batcher.service.client import FlowsApi
from batcher.service.credentials import Key

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


@asynccontextmanager
async def client_of(
    handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], key: str = "k", bandwidth: Bandwidth | None = None
) -> AsyncIterator[FlowsApi]:
    """A client of a server that handles requests so."""
    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with FlowsApi(url, Key(lambda: key), timeout_s=5, connections=2, bandwidth=bandwidth) as client:
            yield client
    finally:
        await runner.cleanup()


@asynccontextmanager
async def replying(
    body: bytes, status: int = 200, headers: dict[str, str] | None = None, key: str = "k"
) -> AsyncIterator[FlowsApi]:
    """A client of a server that gives the same reply to everything."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        return web.Response(body=body, status=status, headers=headers)

    async with client_of(handle, key) as client:
        yield client


@asynccontextmanager
async def answering(answer: Callable[[Mapping[str, str]], object]) -> AsyncIterator[tuple[FlowsApi, list[str]]]:
    """A client of a service that answers each query so (a body, or a body and headers), and the addresses it was asked for."""
    asked: list[str] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.path_qs)
        found = answer(request.query)
        body, headers = found if isinstance(found, tuple) else (found, {})
        if isinstance(body, int):
            return web.Response(status=body)
        return web.Response(body=json.dumps(body).encode(), headers=headers)

    async with client_of(handle) as client:
        yield client, asked


async def listed(client: FlowsApi) -> tuple[list[str], Listing]:
    found: list[RemoteFlow] = []
    listing = await client.flows(found.append)
    assert isinstance(listing, Listing), listing
    return [flow.flow_id for flow in found], listing


def flows(*numbers: int) -> list[dict[str, Any]]:
    return [{"id": f"f{number}", "state": "created"} for number in numbers]
