"""A Flows API in memory, and the way to it: requests of any owner, which may be lost, late, or answered with an error.

In: calls of the stages (`Api`, a `Client`). Out: replies and faults; what was really done, which the judge reads. A request
that has left its owner is on its way whatever becomes of the owner. One that nobody answered may be done at any time; one that
was answered with an error is done within the settling time, or never.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, TypeVar

from batcher.core.model import JSON
from batcher.core.remote import Listing, RemoteFlow, RemoteInput, StartReply
from batcher.core.retry import Fault, FaultKind, Reply
from batcher.core.tags import FlowTag, read_flow_tag, read_input_tag

from .disturbances import Disturbance, Host
from .frozen_loop import NOBODY, Loop

T = TypeVar("T")

WAY_S = 0.02  # to the service, and back
TIMEOUT_S = 2.0


@dataclass
class Asset:
    asset_id: str
    data: str
    additional: JSON
    received_at: float


@dataclass
class Remote:
    """The truth about one flow. It runs for `runs_s` seconds after its start, and can be deleted then."""

    flow_id: str
    tag: FlowTag
    additional: JSON
    runs_s: float
    inputs: list[Asset] = field(default_factory=list)
    starts: int = 0
    started_at: float | None = None
    deleted: bool = False

    def state(self, now: float) -> str:
        if self.started_at is None:
            return "created"
        return "running" if now < self.started_at + self.runs_s else "completed"


class Service:
    """Understood in the strictest way: a second start of a flow is paid for, too."""

    def __init__(self, loop: Loop, settle_s: float, runs_s: float) -> None:
        self._loop = loop
        self._runs_s = runs_s
        self.settle_s = settle_s
        self.all: dict[str, Remote] = {}
        self.last_arrival = 0.0  # of what is on its way
        self.unannounced: list[str] = []

    def arrives(self, seconds: float, do: Callable[[], object]) -> None:
        """So long after now."""
        self.last_arrival = max(self.last_arrival, self._loop.time() + seconds)
        self._loop.call_later(seconds, do, context=NOBODY)

    def client(self, host: Host, announced: set[tuple[object, ...]]) -> Api:
        return Api(host, self, announced)

    def _flow(self, flow_id: str) -> Remote | None:
        flow = self.all.get(flow_id)
        return flow if flow is not None and not flow.deleted else None

    def create(self, additional: JSON) -> str:
        flow_id = f"flow-{len(self.all)}"
        tag = read_flow_tag(additional)
        assert tag is not None
        self.all[flow_id] = Remote(flow_id, tag, additional, self._runs_s)
        return flow_id

    def upload(self, flow_id: str, content: bytes) -> Reply:
        flow = self._flow(flow_id)
        if flow is None or flow.started_at is not None:
            return Reply(404 if flow is None else 409)
        body = json.loads(content)
        asset_id = f"asset-{len(flow.inputs)}"
        flow.inputs.append(Asset(asset_id, body["data"], body.get("additional"), self._loop.time()))
        return Reply(200, {"id": asset_id})

    def start(self, flow_id: str) -> StartReply | Reply:
        flow = self._flow(flow_id)
        if flow is None:
            return Reply(404)
        flow.starts += 1
        if flow.started_at is not None:
            return Reply(409)
        flow.started_at = self._loop.time()
        return StartReply("running")

    def delete(self, flow_id: str) -> Reply:
        flow = self._flow(flow_id)
        if flow is None or flow.state(self._loop.time()) == "running":
            return Reply(404 if flow is None else 409)
        flow.deleted = True
        return Reply(200)

    def flow(self, flow_id: str) -> RemoteFlow | Reply:
        flow = self._flow(flow_id)
        return self._shown(flow) if flow is not None else Reply(404)

    def flows(self) -> list[RemoteFlow]:
        return [self._shown(flow) for flow in self.all.values() if not flow.deleted]

    def inputs(self, flow_id: str) -> list[RemoteInput] | Reply:
        flow = self._flow(flow_id)
        if flow is None:
            return Reply(404)
        return [RemoteInput(asset.asset_id, "ready", asset.additional) for asset in flow.inputs]

    def data(self, flow_id: str, asset_id: str) -> str | Reply:
        flow = self._flow(flow_id)
        if flow is None:
            return Reply(404)
        return next(asset.data for asset in flow.inputs if asset.asset_id == asset_id)

    def _shown(self, flow: Remote) -> RemoteFlow:
        return RemoteFlow(flow.flow_id, flow.state(self._loop.time()), "t", flow.tag)


class Api:
    """One owner's client. `announced`: what its journal says that it may send."""

    has_key = True

    def __init__(self, host: Host, service: Service, announced: set[tuple[object, ...]]) -> None:
        self._host = host
        self._service = service
        self._announced = announced

    def read_key_again(self) -> bool:
        return False

    async def create(
        self, template: str, parameters: object, additional: JSON, mark_sent: Callable[[], None]
    ) -> str | Reply | Fault:
        tag = read_flow_tag(additional)
        assert tag is not None
        leaving = "create", tag.flow, int(tag.generation.rpartition("-")[2])
        return await self._ask("create", lambda: self._service.create(additional), leaving)

    async def upload(self, flow_id: str, body: Any, mark_sent: Callable[[], None]) -> Reply | Fault:
        tag = read_input_tag(json.loads(body.content).get("additional"))
        leaving = ("upload", tag[0]) if tag is not None else None
        return await self._ask("upload", lambda: self._service.upload(flow_id, body.content), leaving)

    async def start(self, flow_id: str, mark_sent: Callable[[], None]) -> StartReply | Reply | Fault:
        return await self._ask("start", lambda: self._service.start(flow_id), ("start", flow_id))

    async def delete(self, flow_id: str) -> Reply | Fault:
        return await self._ask("delete", lambda: self._service.delete(flow_id), ("delete", flow_id))

    async def flow(self, flow_id: str) -> RemoteFlow | Reply | Fault:
        return await self._ask("flow", lambda: self._service.flow(flow_id))

    async def flows(self, take: Callable[[RemoteFlow], None]) -> Listing | Reply | Fault:
        return _listed(await self._ask("flows", self._service.flows), take)

    async def inputs(self, flow_id: str, take: Callable[[RemoteInput], None]) -> Listing | Reply | Fault:
        return _listed(await self._ask("inputs", lambda: self._service.inputs(flow_id)), take)

    async def input_digest(self, flow_id: str, asset_id: str) -> bytes | Reply | Fault:
        data = await self._ask("input", lambda: self._service.data(flow_id, asset_id))
        return sha256(data.encode()).digest() if isinstance(data, str) else data

    async def _ask(self, kind: str, do: Callable[[], T], leaving: tuple[object, ...] | None = None) -> T | Reply | Fault:
        met = self._host.disturbances.next(kind)
        await self._host.freeze(met.before_s)
        if leaving is not None and leaving not in self._announced:
            self._service.unannounced.append(f"{self._host.name}: {leaving}")
        answer = await self._answer(met, do)
        await self._host.freeze(met.after_s)
        return answer

    async def _answer(self, met: Disturbance, do: Callable[[], T]) -> T | Reply | Fault:
        service, way_s = self._service, WAY_S + met.arrives_s
        match met.answer:
            case "ok":
                return await self._reply(way_s, do)
            case "cut off":
                what = await self._reply(way_s, do)
                return what if isinstance(what, Fault) else Fault(FaultKind.CUT_OFF, "it was cut off", 200)
            case "503":
                await asyncio.sleep(WAY_S)
                return Reply(503)
            case "500":
                if met.done:
                    service.arrives(min(way_s, service.settle_s), do)
                await asyncio.sleep(WAY_S)
                return Reply(500)
        if met.done:
            service.arrives(way_s, do)
        await asyncio.sleep(WAY_S)
        return Fault(FaultKind.NO_ANSWER, "it was lost")

    async def _reply(self, way_s: float, do: Callable[[], T]) -> T | Fault:
        reply: asyncio.Future[T] = self._host.loop.create_future()

        def arrive() -> None:
            found = do()
            if not reply.done():
                reply.set_result(found)

        self._service.arrives(way_s, arrive)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                found = await reply
                await asyncio.sleep(WAY_S)
                return found
        except TimeoutError:
            return Fault(FaultKind.NO_ANSWER, "no answer came in time")


def _listed(found: list[T] | Reply | Fault, take: Callable[[T], None]) -> Listing | Reply | Fault:
    if not isinstance(found, list):
        return found
    for one in found:
        take(one)
    return Listing(True)
