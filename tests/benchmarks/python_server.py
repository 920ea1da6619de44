"""The Flows API for benchmarks, in Python: as cheap as a service in Python can be, so that it takes a core of its own.

In: HTTP/1.1 requests with Content-Length on loopback. Out: the replies of flows-api.md; on `GET /stats` what was done, and
`POST /reset` forgets it. Started by harness/server.py; prints its port. Lists are one page, data is not kept.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import Any

HEAD_END = b"\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
NOT_FOUND = (404, {"detail": "no such thing"})
TEMPLATES = {"templates": [{"name": "model_generate_fromimage", "input_types": ["image/png"]}]}
NOT_COUNTED = ("requests", "refused", "rejected", "mismatches", "bad_inputs", "connections", "body_bytes", "in_flight",
               "max_in_flight", "max_open_flows", "first_request_s", "first_upload_s", "first_start_s",
               "last_reply_s")  # fmt: skip


class World:
    """All flows, by id: the flow as it is shown, and its inputs."""

    def __init__(self) -> None:
        self.flows: dict[str, dict[str, Any]] = {}
        self.inputs: dict[str, list[dict[str, Any]]] = {}
        self.count = self.data_bytes = self.double_starts = 0
        self.began_cpu_s = time.process_time()

    def stats(self) -> dict[str, Any]:
        """As the server in C has it; 0 for what this one does not count."""
        started = sum(flow["state"] == "running" for flow in self.flows.values())
        done = {"create": len(self.flows), "upload": self.count, "start": started}
        return {"by_kind": done, "accepted": done, "data_bytes": self.data_bytes, "double_starts": self.double_starts,
                "cpu_s": time.process_time() - self.began_cpu_s, **dict.fromkeys(NOT_COUNTED, 0)}  # fmt: skip

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """(status, JSON)."""
        parts = path.partition("?")[0].strip("/").split("/")
        match method, parts:
            case "POST", ["flows"]:
                return 200, self._create(json.loads(body))
            case "POST", ["flows", flow_id, "inputs"] if flow_id in self.flows:
                return self._add(flow_id, json.loads(body))
            case "GET", ["flows", flow_id, "inputs"] if flow_id in self.flows:
                return 200, {"flow_id": flow_id, "inputs": self.inputs[flow_id]}
            case "PATCH", ["flows", flow_id] if flow_id in self.flows:
                return self._start(self.flows[flow_id])
            case "GET", ["flows", flow_id] if flow_id in self.flows:
                return 200, self.flows[flow_id]
            case "GET", ["flows"]:
                return 200, {"flows": list(self.flows.values())}
            case "GET", ["templates"]:
                return 200, TEMPLATES
            case "GET", ["stats"]:
                return 200, self.stats()
            case "POST", ["reset"]:
                self.__init__()  # type: ignore[misc]  # forget everything
                return 200, {}
        return NOT_FOUND

    def _create(self, body: dict[str, Any]) -> dict[str, Any]:
        flow_id = f"{len(self.flows) + 1:024x}"
        self.flows[flow_id] = {"flow_id": flow_id, "template": body["template"], "state": "created", "progress": 0.0,
                               "parameters": body.get("parameters"), "additional": body.get("additional")}  # fmt: skip
        self.inputs[flow_id] = []
        return self.flows[flow_id]

    def _add(self, flow_id: str, body: dict[str, Any]) -> tuple[int, Any]:
        if self.flows[flow_id]["state"] != "created":
            return 409, {"detail": "the flow does not take inputs any more"}
        self.count += 1
        self.data_bytes += len(body["data"])
        asset = {"id": f"{self.count:024x}", "status": "available", "processed": True, "additional": body.get("additional")}
        self.inputs[flow_id].append(asset)
        return 200, {"id": asset["id"]}

    def _start(self, flow: dict[str, Any]) -> tuple[int, Any]:
        if flow["state"] != "created":
            self.double_starts += 1
            return 409, {"detail": "started already"}
        flow["state"] = "running"
        return 200, flow


class Connection(asyncio.Protocol):
    def __init__(self, world: World) -> None:
        self._world = world
        self._got = b""
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._got += data
        while (end := self._got.find(HEAD_END)) >= 0:
            head = self._got[:end]
            found = LENGTH.search(head)
            whole = end + len(HEAD_END) + (int(found[1]) if found else 0)
            if len(self._got) < whole:
                return
            method, path, _ = head.partition(b"\r\n")[0].decode().split(" ")
            body, self._got = self._got[end + len(HEAD_END) : whole], self._got[whole:]
            status, reply = self._world.answer(method, path, body)
            text = json.dumps(reply).encode()
            self._transport.write(b"HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                                  % (status, len(text), text))  # fmt: skip


async def serve() -> None:
    world = World()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(world), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        sys.exit(0)
