"""A client of the Flows API for tests: thin, tolerant of every reading, and never repeating a request."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

IMAGE, PROMPT, OPTIMIZE = "model_generate_fromimage", "model_generate_fromprompt", "model_optimize"
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


def data_uri(content: bytes, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def id_of(item: dict[str, Any]) -> str:
    return str(next(item[name] for name in ("flow_id", "asset_id", "id") if name in item))


def asset_id_of(item: dict[str, Any]) -> str:
    return str(next(item[name] for name in ("asset_id", "id") if name in item))


def items_of(body: Any) -> list[Any]:
    """The list of a listing: bare, in an envelope, in an object within, or null where it is empty."""
    if isinstance(body, list):
        return body
    within = [items_of(value) for value in body.values() if isinstance(value, list | dict)]
    return max(within, key=len, default=[])


def flow_in(body: Any) -> dict[str, Any]:
    """A single flow, or what it stands in."""
    found: dict[str, Any] = next((body[name] for name in ("flow", "data") if isinstance(body.get(name), dict)), body)
    return found


def state_of(flow: dict[str, Any]) -> str:
    return str(flow.get("state", flow.get("status")))


class Api:
    """One service. `call` gives (status, body): parsed where it is JSON."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session, self.url = session, url

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        async with self.session.request(method, self.url + path, **options) as response:
            body = await response.read()
            is_json = response.content_type == "application/json" and body
            return response.status, json.loads(body) if is_json else body

    async def ok(self, method: str, path: str, **options: Any) -> Any:
        status, body = await self.call(method, path, **options)
        assert status in (200, 204), (status, body)
        return body

    async def create(self, template: str = IMAGE, **members: Any) -> str:
        return id_of(flow_in(await self.ok("POST", "/flows", json={"template": template, **members})))

    async def upload(self, flow_id: str, data: str | None = None, **members: Any) -> tuple[int, Any]:
        body = {"data": data_uri(PNG) if data is None else data, **members}
        stream = io.BytesIO(json.dumps(body).encode())  # aiohttp warns of large bodies in one piece
        headers = {"Content-Type": "application/json"}
        return await self.call("POST", f"/flows/{flow_id}/inputs", data=stream, headers=headers)

    async def start(self, flow_id: str) -> tuple[int, Any]:
        return await self.call("PATCH", f"/flows/{flow_id}", json={"action": "start"})

    async def abort(self, flow_id: str) -> tuple[int, Any]:
        return await self.call("PATCH", f"/flows/{flow_id}", json={"action": "abort"})

    async def delete(self, flow_id: str) -> int:
        return (await self.call("DELETE", f"/flows/{flow_id}"))[0]

    async def flow(self, flow_id: str) -> dict[str, Any]:
        return flow_in(await self.ok("GET", f"/flows/{flow_id}"))

    async def inputs(self, flow_id: str, query: str = "") -> list[Any]:
        return items_of(await self.ok("GET", f"/flows/{flow_id}/inputs{query}"))

    async def outputs(self, flow_id: str, query: str = "") -> list[Any]:
        return items_of(await self.ok("GET", f"/flows/{flow_id}/outputs{query}"))

    async def started(self, template: str = IMAGE, *uploads: dict[str, Any]) -> str:
        """A flow with these inputs, started."""
        flow_id = await self.create(template)
        for members in uploads or ({},):
            status, body = await self.upload(flow_id, **members)
            assert status == 200, body
        status, body = await self.start(flow_id)
        assert status == 200, body
        return flow_id

    async def until(self, flow_id: str, *states: str) -> dict[str, Any]:
        """The flow, once it is in one of the states."""
        async with asyncio.timeout(10):
            while state_of(flow := await self.flow(flow_id)) not in states:
                await asyncio.sleep(0.01)
        return flow

    async def faults(self, *faults: Any) -> None:
        await self.ok("POST", "/_sandbox/faults", json=list(faults))

    async def record(self) -> dict[str, Any]:
        record: dict[str, Any] = await self.ok("GET", "/_sandbox/record")
        return record

    async def recorded_inputs(self, flow_id: str) -> list[Any]:
        flows = (await self.record())["flows"]
        inputs: list[Any] = next(flow["inputs"] for flow in flows if flow["flow_id"] == flow_id)
        return inputs


@asynccontextmanager
async def open_api(url: str, key: str | None = None) -> AsyncIterator[Api]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        yield Api(session, url)
