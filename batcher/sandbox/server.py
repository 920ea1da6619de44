"""The sandbox: takes requests, lets faults strike, counts.

In: a folder and options. Out: a running Flows API at `Sandbox.url`. Opened by its user: the tests, `serve_forever`,
or a client that embeds it in its own event loop, which is why nothing here blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import ClientError, web

from . import admin, mischief, routes
from .call import WRITES, Call, Received
from .fault_plan import Chosen, Plan
from .faults import Fault
from .port import Port
from .readings import Readings
from .refusals import Refusal
from .reply import Reply, deliver, refusal_reply
from .seen import Entry, Seen
from .service import Service
from .store import find_flow
from .uploads import read_json_body

logger = logging.getLogger("batcher.sandbox")

# What reading from, or writing to, a client that has left may raise.
HUNG_UP = (ConnectionError, ClientError, web.PayloadAccessError, asyncio.IncompleteReadError)
# What a body raises that breaks its own framing or compression.
MALFORMED: tuple[type[Exception], ...] = (web.RequestPayloadError,)
with contextlib.suppress(ImportError):  # of aiohttp's insides: a newer one may have another name for it
    from aiohttp.http_exceptions import HttpProcessingError

    MALFORMED += (HttpProcessingError,)


class Sandbox:
    """A local Flows API over the store in `folder`. `async with Sandbox(folder) as sandbox: sandbox.url`.

    Without `keys` and `expired_keys`, any Authorization is accepted, and none. `processing_s`: how long a flow takes.
    `seed`: of the faults' chances. Raises ValueError if `host` is not a loopback address, BlockingIOError if another
    sandbox has the folder, OSError if the port is taken.
    """

    url: str

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        readings: Readings | None = None,
        faults: Sequence[Fault] = (),
        keys: Sequence[str] = (),
        expired_keys: Sequence[str] = (),
        processing_s: float = 0.2,
        max_data_bytes: int | None = None,
        seed: int = 0,
    ) -> None:
        self._port = Port(host, port)
        self.seen = Seen()
        self.service: Service
        self._folder = folder
        self._readings = readings or Readings()
        self._faults = tuple(faults)
        self._keys, self._expired_keys = tuple(keys), tuple(expired_keys)
        self._processing_s, self._max_data_bytes = processing_s, max_data_bytes
        self._seed = seed

    async def __aenter__(self) -> Self:
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.plan = Plan(self._faults, self._seed)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._port.take()
        try:
            self.service = await Service.open(
                self._folder,
                self._readings,
                keys=self._keys,
                expired_keys=self._expired_keys,
                processing_s=self._processing_s,
                max_data_bytes=self._max_data_bytes,
            )
        except BaseException:
            self._port.give_back()
            raise
        await self._port.serve(self._handle)
        self.url = self._port.url
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        for task in self._tasks:
            task.cancel()  # a late commit that is not due yet is lost, as it would be with any service
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._port.stop()
        await self.service.close()

    async def caught_up(self) -> None:
        """Waits until nothing is due any more: no late commit, no end of an outage."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def set_faults(self, faults: Sequence[Fault]) -> None:
        """Replaces the faults; their counts begin anew."""
        self.plan = Plan(tuple(faults), self._seed)

    # ---- one request

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith(admin.PREFIX):
            return await admin.handle(self, request)
        call = routes.match(request)
        authorization = "Authorization" in request.headers
        entry = Entry(time.time(), call.name, request.method, request.path, call.flow_id, authorization)
        self.seen.begin()
        try:
            response = await self._serve(call, entry)
            entry.hung_up = mischief.is_gone(request)
            if not entry.hung_up:
                entry.status = response.status
            return response
        except HUNG_UP:
            entry.hung_up = True
            return web.Response()
        except Exception:
            entry.status = 500  # aiohttp says so, and logs it
            raise
        finally:
            self.seen.end(entry)

    async def _serve(self, call: Call, entry: Entry) -> web.StreamResponse:
        request = call.request
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if request.method == "PATCH" and call.name == "start":
            try:
                await routes.name_action(call)
            except Refusal as refusal:
                return await deliver(request, refusal_reply(refusal, self.service.readings))
            entry.endpoint = call.name
        chosen = self.plan.choose(call.name, await self._flow_text(call))
        if chosen.fault is None and not chosen.gates and not chosen.latency_s:
            return await self._answer(call, entry, None)
        return await self._serve_through_faults(call, entry, chosen)

    async def _serve_through_faults(self, call: Call, entry: Entry, chosen: Chosen) -> web.StreamResponse:
        """Gates, then latency, then what strikes before the body is read."""
        async with contextlib.AsyncExitStack() as inside:
            for gate in chosen.gates:
                if not await gate.enter():
                    entry.fault = gate.fault.text
                    return await deliver(call.request, mischief.error_of(gate.fault, int(gate.fault.over)))
                inside.callback(gate.leave)
            if chosen.latency_s:
                await asyncio.sleep(chosen.latency_s)
            fault = chosen.fault
            if fault is None:
                return await self._answer(call, entry, None)
            entry.fault = fault.text
            match fault.effect:
                case "drop_before":
                    return await mischief.lose(call.request, "reset", self._stopping)
                case "early_reply":
                    return await deliver(call.request, mischief.error_of(fault, fault.value))
                case "outage" if fault.phase == "after":
                    return await self._reply_and_begin_outage(call, entry, fault)
                case "outage":
                    return await self._begin_outage(call, fault.value)
                case "slow_read":
                    await mischief.read_slowly(call.request, fault.value)
                    return await mischief.lose(call.request, "reset", self._stopping)
                case "drop_mid":
                    await mischief.drop_in_body(call.request)
                    return web.Response()
            return await self._answer(call, entry, fault)

    async def _answer(self, call: Call, entry: Entry, fault: Fault | None) -> web.StreamResponse:
        """Reads the request, commits, replies, with the fault at its place between them."""
        request, stopping = call.request, self._stopping
        try:
            received = await self._receive(call)
        except Refusal as refusal:
            received = _refused(refusal)
        if fault is not None and fault.effect == "late_commit":
            return await self._answer_late(call, entry, fault, received)
        try:
            if fault is not None and fault.phase == "before":
                return await mischief.spoil(request, fault, Reply(), self.plan.rng, stopping)
            if fault is not None and fault.phase == "commit":
                call.fail_flow, call.input_error = fault.effect == "fail_flow", fault.effect == "input_error"
            reply = await self._commit(call, entry, received)
        finally:
            if any(asset.path for asset in received.assets):
                await self.service.db.work(received.discard)
        if fault is not None and fault.phase == "after":
            return await mischief.spoil(request, fault, reply, self.plan.rng, stopping)
        return await deliver(request, reply)

    async def _receive(self, call: Call) -> Received:
        try:
            self.service.authorize(call.request.headers.get("Authorization"))
        except Refusal:
            # Read to its end like any other: a client in the middle of its body should get to see the reply.
            async for _ in call.request.content.iter_any():
                pass
            raise
        try:
            return await routes.receive(self.service, call)
        except MALFORMED as error:
            raise Refusal(400, "Malformed request body") from error

    async def _commit(self, call: Call, entry: Entry, received: Received) -> Reply:
        try:
            reply = await received.act()
        except Refusal as refusal:
            return refusal_reply(refusal, self.service.readings)
        except Exception:
            logger.exception("%s %s", call.request.method, call.request.path)
            return refusal_reply(Refusal(500, "Internal Server Error"), self.service.readings)
        entry.committed = call.name in WRITES
        return reply

    async def _answer_late(self, call: Call, entry: Entry, fault: Fault, received: Received) -> web.StreamResponse:
        """Commits when it is too late, whether the client is still there or not."""
        replies: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        async def commit() -> None:
            try:
                await asyncio.sleep(fault.value)
                replies.set_result(await self._commit(call, entry, received))
            finally:
                received.discard()

        task = self._spawn(commit())
        if fault.status is not None:
            return await deliver(call.request, mischief.error_of(fault, fault.status))
        while not task.done() and not mischief.is_gone(call.request) and not self._stopping.is_set():
            await asyncio.wait([task], timeout=mischief.HANG_POLL_S)
        if mischief.is_gone(call.request) or not replies.done():
            return await mischief.lose(call.request, "close", self._stopping)
        return await deliver(call.request, replies.result())

    async def _flow_text(self, call: Call) -> str:
        """What a fault's `flow=` is looked for in: the flow's id and `additional`, or the body that creates it."""
        if not self.plan.wants_flow(call.name):
            return ""
        if call.name == "create":
            with contextlib.suppress(Refusal):
                call.body = await read_json_body(call.request)
            return (call.body or b"").decode("utf-8", "replace")
        try:
            row = await self.service.db.read(lambda db: find_flow(db, call.flow_id))
        except Refusal:
            return call.flow_id
        return f"{row['flow_id']} {row['additional']}"

    # ---- outages

    async def _reply_and_begin_outage(self, call: Call, entry: Entry, fault: Fault) -> web.StreamResponse:
        """The call is answered with `Connection: close`: its next request meets a closed port."""
        response = await self._answer(call, entry, None)
        response.force_close()
        await response.prepare(call.request)
        await response.write_eof()
        await self._port.close_for(fault.value, self._spawn)
        if call.request.transport is not None:
            call.request.transport.close()  # in order: what was written leaves first
        return response

    async def _begin_outage(self, call: Call, seconds: float) -> web.StreamResponse:
        """Resets every connection and refuses new ones for a while."""
        await self._port.close_for(seconds, self._spawn)
        self._port.reset_connections()
        return await mischief.lose(call.request, "reset", self._stopping)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _refused(refusal: Refusal) -> Received:
    async def act() -> Reply:
        raise refusal

    return Received(act)
