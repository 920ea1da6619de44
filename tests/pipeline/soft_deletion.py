"""A service that shows what was deleted for a while, in a state of its own.

In: requests for the sandbox behind it. Out: its replies; but a flow that was deleted is shown in the state `deleted`, alone and
on the list, and the first deletion's reply is lost in a gateway.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from batcher.core.model import JSON

from .proxy import answering, forwarded


class SoftDeletion:
    """`gone`: the flows that were deleted, by id, as they were shown before."""

    def __init__(self, service: str) -> None:
        self._service = service
        self.gone: dict[str, dict[str, JSON]] = {}

    async def answer(self, session: aiohttp.ClientSession, request: web.Request) -> web.Response:
        _, collection, *rest = request.path.split("/")
        flow_id = rest[0] if rest else ""
        if request.method == "GET" and flow_id in self.gone and len(rest) == 1:
            return web.json_response({**self.gone[flow_id], "state": "deleted"})
        if request.method == "DELETE" and flow_id in self.gone:
            return web.json_response({})
        if request.method == "DELETE":
            async with session.get(f"{self._service}/flows/{flow_id}") as reply:
                self.gone[flow_id] = await reply.json()
        answered = await forwarded(session, self._service, request)
        if request.method == "DELETE" and len(self.gone) == 1:
            return web.Response(status=502, text="bad gateway")
        if request.method == "GET" and collection == "flows" and not rest:
            assert isinstance(answered.body, bytes)
            document = json.loads(answered.body)
            document["flows"] += [{**flow, "state": "deleted"} for flow in self.gone.values()]
            return web.json_response(document)
        return answered


@asynccontextmanager
async def soft_deletion(service: str) -> AsyncIterator[tuple[str, SoftDeletion]]:
    """Its address, and it."""
    made = SoftDeletion(service)
    async with answering(made.answer) as url:
        yield url, made
