"""A service that shows what was deleted for a while, in a state of its own.

In: requests for the sandbox behind it. Out: its replies; but a flow that was deleted is shown in the state `deleted`, alone and
on the list, and the first deletion's reply is lost in a gateway.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from batcher.core.model import JSON

KEPT = ("Authorization", "Content-Type")


class SoftDeletion:
    """`gone`: the flows that were deleted, by id, as they were shown before."""

    def __init__(self, service: str, session: aiohttp.ClientSession) -> None:
        self._service = service
        self._session = session
        self.gone: dict[str, dict[str, JSON]] = {}

    async def answer(self, request: web.Request) -> web.Response:
        _, collection, *rest = request.path.split("/")
        flow_id = rest[0] if rest else ""
        if request.method == "GET" and flow_id in self.gone and len(rest) == 1:
            return web.json_response({**self.gone[flow_id], "state": "deleted"})
        if request.method == "DELETE" and flow_id in self.gone:
            return web.json_response({})
        if request.method == "DELETE":
            async with self._session.get(f"{self._service}/flows/{flow_id}") as reply:
                self.gone[flow_id] = await reply.json()
        headers = {name: request.headers[name] for name in KEPT if name in request.headers}
        body = await request.read()
        async with self._session.request(request.method, self._service + request.path_qs, headers=headers, data=body) as reply:
            if request.method == "DELETE" and len(self.gone) == 1:
                return web.Response(status=502, text="bad gateway")
            if request.method == "GET" and collection == "flows" and not rest:
                document = await reply.json()
                document["flows"] += [{**flow, "state": "deleted"} for flow in self.gone.values()]
                return web.json_response(document)
            kind = reply.headers.get("Content-Type", "application/json")
            return web.Response(status=reply.status, body=await reply.read(), headers={"Content-Type": kind})


@asynccontextmanager
async def soft_deletion(service: str) -> AsyncIterator[tuple[str, SoftDeletion]]:
    """Its address, and it."""
    async with aiohttp.ClientSession() as session:
        made = SoftDeletion(service, session)
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", made.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}", made
        finally:
            await runner.cleanup()
