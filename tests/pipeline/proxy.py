"""A service in front of the sandbox, which changes some of its replies.

In: what answers a request, and the address of the service behind it. Out: its own address.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

KEPT = ("Authorization", "Content-Type")

Answer = Callable[[aiohttp.ClientSession, web.Request], Awaitable[web.Response]]


async def forwarded(session: aiohttp.ClientSession, service: str, request: web.Request) -> web.Response:
    """What the service answers."""
    headers = {name: request.headers[name] for name in KEPT if name in request.headers}
    body = await request.read()
    async with session.request(request.method, service + request.path_qs, headers=headers, data=body) as reply:
        kind = reply.headers.get("Content-Type", "application/json")
        return web.Response(status=reply.status, body=await reply.read(), headers={"Content-Type": kind})


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[str]:
    """The address at which requests are answered so."""
    async with aiohttp.ClientSession() as session:

        async def handle(request: web.Request) -> web.Response:
            return await answer(session, request)

        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()
