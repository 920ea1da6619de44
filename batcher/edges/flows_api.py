"""The Flows API over aiohttp: one request in, one reply or fault out. It never retries (behind a proxy, aiohttp itself
repeats a GET or a DELETE once where a kept connection turns out to be dead; never a POST or a PATCH).

In: calls with what they need. Out: values, a `Reply` that is no success, or a `Fault` that says how far the request got.
Called by the pipeline, which holds a place at the gate meanwhile. The service's facts: flows-api; where they are silent
every reading is taken: `id` or `flow_id` or `asset_id`, an envelope or a bare list, any state of pagination.
Replies are bounded, listings stream, every wait is bounded: no progress for `timeout_s`, and a total by the least
throughput, so that a trickle cannot hang a night.
"""

from __future__ import annotations

import asyncio
import email.utils
import hashlib
import ipaddress
import json
import math
import re
import ssl
import time
import urllib.request
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from functools import lru_cache, partial
from typing import Any, Final, TypeVar
from urllib.parse import quote, urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection
from aiohttp.payload import Payload

from ..core.collecting import Spoiled
from ..core.errors import BatcherError, UsageError
from ..core.model import JSON
from ..core.remote import Arrived, RemoteFlow, RemoteInput, RemoteOutput, Template
from ..core.retry import Call, Fault, FaultKind, Reply
from ..core.tags import read_flow_tag
from .boundary import reached
from .downloads import DataMember, Decoder, NotAnOutput
from .limits import Bandwidth
from .listing import ListParser
from .secrets import Mask
from .sources import SmallBody, StreamBody
from .wire import Answer, Pool, Wire, abort, ask, unsent

REPLY_BYTES: Final = 1 << 20  # no reply but a listing or a download is larger
LEAST_BYTES_PER_S: Final = 10_000  # below this a transfer is given up in the end
KEEPALIVE_S: Final = 4.0  # less than the 5 s after which the quickest common server hangs up
DETAIL_CHARS: Final = 300
ID_CHARS: Final = 300
PIECE_BYTES: Final = 256 << 10
CAPPED_BYTES: Final = 64 << 10  # under a cap a body leaves in pieces of this, so that no connection is silent for long
JOINED_BYTES: Final = 64 << 10  # a copy up to here is cheaper than another write
KEPT_BYTES: Final = 4 << 20  # blocks up to here come from what was freed before

REASONS: Final = (  # members under which a flow may say why it failed
    "error", "errors", "error_message", "failure_reason", "reason", "status_message", "status_reason", "message", "detail",
    "details",
)  # fmt: skip
REASONS_LISTED: Final = 5

CREDENTIALS: Final = re.compile(r"//[^/@\s]*@")  # of a proxy's address, which aiohttp's errors say as it is

T = TypeVar("T")
Response = Answer | aiohttp.ClientResponse


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_endpoint(url: str) -> None:
    """Refuse plain http to anyone but loopback: the key would be readable on the way. Raises UsageError."""
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise UsageError(f"{parts.scheme}://{parts.hostname} would carry the key in clear", "use https")


class Key:
    """The API key, asked for when it is needed and read anew on request; it prints as nothing."""

    def __init__(self, read: Callable[[], str | None]) -> None:
        self._read = read
        self._value = read()
        self.mask = Mask()
        self.mask.add(self._value)

    def again(self) -> bool:
        """Read it again; whether it is another one."""
        before = self._value
        try:
            self._value = self._read()
        except BatcherError:
            return False  # it cannot be read now: the one that was refused is all there is
        self.mask.add(self._value)
        return self._value != before

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._value}"} if self._value else {}

    def __repr__(self) -> str:
        return "Key(…)"


class _Sent:
    """How far one request got, and until when it may take. Both bounds move with the bytes, out and in: `timeout_s` from
    the last that moved, and in all what the least throughput allows. Works as `asyncio.timeout` does, but one `_Watch`
    looks after all requests, where a timer each, moved with every byte, cost as much as the parsing of the reply."""

    __slots__ = ("_bytes", "_cancelling", "_departs", "_started", "_task", "_watch", "abort", "deadline", "late", "left",
                 "mask")  # fmt: skip

    def __init__(self, departs: Callable[[], None], watch: _Watch, mask: Mask) -> None:
        self.mask = mask  # for the words of the reply
        self._departs = departs
        self._watch = watch
        self._bytes = 0
        self._started = watch.time()
        self.late = False
        self.deadline = self._started + watch.timeout_s
        self.left = False  # the last byte has been handed on
        self.abort: Callable[[], object] = lambda: None

    def __enter__(self) -> _Sent:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self.abort = task.cancel
        self._watch.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._watch.requests.discard(self)
        if self.late and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def connected(self, connection: Connection) -> None:
        """It goes over this connection, from now on."""
        self.abort = partial(abort, connection)
        self.deadline = self._watch.time() + self._watch.timeout_s
        self._watch.add(self)

    def expire(self) -> None:
        """Too late: the request is given up."""
        self.late = True
        self.abort()

    def moved(self, count: int) -> None:
        """So many bytes more have moved."""
        self._bytes += count
        timeout_s = self._watch.timeout_s
        total = self._started + 2 * timeout_s + self._bytes / LEAST_BYTES_PER_S
        self.deadline = min(self._watch.time() + timeout_s, total)

    async def spend(self, bandwidth: Bandwidth, count: int) -> None:
        """Wait for the cap, which is nobody's fault: neither bound runs meanwhile."""
        began, deadline = self._watch.time(), self.deadline
        self.deadline = math.inf
        await bandwidth.spend(count)
        waited = self._watch.time() - began
        self._started += waited
        self.deadline = deadline + waited

    def leaving(self) -> None:
        self._departs()
        self.left = True
        reached("leaving")


class _Watch:
    """Gives up requests whose deadline has passed; looks ten times per `timeout_s` while there are any."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.requests: set[_Sent] = set()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.time = self._loop.time

    def add(self, sent: _Sent) -> None:
        self.requests.add(sent)
        if self._timer is None:
            self._timer = self._loop.call_later(self.timeout_s / 10, self._look)

    def _look(self) -> None:
        now = self.time()
        for sent in [sent for sent in self.requests if sent.deadline <= now]:
            self.requests.discard(sent)
            sent.expire()
        self._timer = self._loop.call_later(self.timeout_s / 10, self._look) if self.requests else None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _give_up(connection: Connection, response: Answer) -> None:
    """Also where the connection has gone and its reader was not told, as aiohttp's parser leaves it after a bad chunk."""
    abort(connection)
    if not response.content.is_eof() and response.content.exception() is None:
        response.content.set_exception(aiohttp.ClientPayloadError("given up"))


class _NotWritten(Exception):
    """The body ended early: the connection is closed, and the service has no whole request."""


class _Posted(Payload):
    """A body that tells how far it got. Handing the last bytes on counts as having left: the kernel has them next."""

    def __init__(self, body: SmallBody | StreamBody, sent: _Sent, bandwidth: Bandwidth) -> None:
        super().__init__(b"", content_type="application/json")
        self._size = body.length
        self._body = body
        self._sent = sent
        self._bandwidth = bandwidth

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("a body is written, never shown")

    async def write(self, writer: AbstractStreamWriter) -> None:
        if isinstance(self._body, SmallBody):
            await self._sent.spend(self._bandwidth, self._body.length)
            self._sent.leaving()
            await writer.write(self._body.content)
            return
        written = 0
        length = self._body.length
        most = CAPPED_BYTES if self._bandwidth.capped else length
        async for chunk in self._body.chunks():
            for start in range(0, len(chunk), most):
                piece = chunk[start : start + most]
                await self._sent.spend(self._bandwidth, len(piece))
                written += len(piece)
                if written == length:
                    self._sent.leaving()
                await writer.write(piece)
                reached("between chunks")
                self._sent.moved(len(piece))
        if written != length:
            raise _NotWritten  # aiohttp would wait for ever for the rest

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        await self.write(writer)


class FlowsApi:
    """A client for one endpoint. Use as an async context manager. `timeout_s` as in the limits."""

    def __init__(
        self, endpoint: str, key: Key, *, timeout_s: float, connections: int,
        bandwidth: Bandwidth | None = None, ca_file: str | None = None,
    ) -> None:  # fmt: skip
        check_endpoint(endpoint)
        self._base = endpoint.rstrip("/")
        self._key = key
        self._timeout_s = timeout_s
        self._connections = connections
        self._bandwidth = bandwidth or Bandwidth(None, time.monotonic)
        self._ca_file = ca_file
        self._proxy = proxy_for(self._base)
        self._session: aiohttp.ClientSession | None = None
        self._watch: _Watch | None = None
        self._wire: Wire | None = None

    async def __aenter__(self) -> FlowsApi:
        # asyncio receives into 256 KiB, which glibc maps and unmaps anew each time (12 µs of a request's 45) until a larger
        # block has been given back to it; the chunks of large files gain as much.
        bytes(KEPT_BYTES)
        context: ssl.SSLContext | bool = True  # aiohttp's own, made when it was imported: another takes 40 ms
        if self._base.startswith("https") and self._ca_file is not None:
            try:
                context = ssl.create_default_context(cafile=self._ca_file)
            except OSError as error:
                raise UsageError(f"--ca-file {self._ca_file}: {error.strerror or error}", "name a PEM file") from error
        # `connect` bounds the looking up of names, too.
        timeout = aiohttp.ClientTimeout(total=None, connect=self._timeout_s, sock_connect=min(30.0, self._timeout_s))
        connector = Pool(limit=self._connections, keepalive_timeout=KEEPALIVE_S, ssl=context)
        self._watch = _Watch(self._timeout_s)
        self._wire = Wire(connector, self._base, context, timeout, KEEPALIVE_S) if self._proxy is None else None
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            # Not trust_env: it would also take a password from ~/.netrc in place of the key.
            proxy=self._proxy,
            auto_decompress=True,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        assert self._watch is not None
        self._watch.close()
        if self._wire is not None:
            self._wire.give_back()
        await self._session.close()

    @property
    def has_key(self) -> bool:
        return bool(self._key.headers)

    def read_key_again(self) -> bool:
        """Whether the key is another one now."""
        return self._key.again()

    async def _call(
        self, call: Call, method: str, path: str, read: Callable[[Response, _Sent], Any],
        *, body: SmallBody | StreamBody | None = None, departs: Callable[[], None] = lambda: None,
        query: Mapping[str, str] | None = None,
    ) -> Any:  # fmt: skip
        """One request. `read` gets a reply of status 200 to 299; any other becomes a Reply."""
        watch, wire = self._watch, self._wire
        assert watch is not None
        reached("before request")
        sent = _Sent(departs, watch, self._key.mask)
        if wire is None or (isinstance(body, StreamBody) and (self._bandwidth.capped or not body.short)):
            return await self._long_call(method, path, read, body, query, sent)
        status: int | None = None
        try:
            pieces = [b""]
            if isinstance(body, SmallBody):
                pieces.append(body.content)
            elif body is not None:
                async with asyncio.timeout(self._timeout_s):
                    whole = await body.whole()
                if whole is None:
                    raise _NotWritten
                pieces += whole
                del whole  # they are held once
            length = body.length if body is not None else None
            pieces[0] = wire.head(method, path, self._key.headers, query, length)
            if length is None or length <= JOINED_BYTES:
                pieces = [b"".join(pieces)]
            if self._bandwidth.capped:
                await sent.spend(self._bandwidth, length or 0)
            connection = await wire.connect()
            try:
                sent.connected(connection)
                response = await ask(connection, pieces, sent.leaving, sent.moved)
                status = response.status
                sent.abort = partial(_give_up, connection, response)
                sent.moved(length or 0)
                if status < 300 and (not sent.left or unsent(connection)):
                    raise _NotWritten  # a success for a request that has not arrived whole is none
                found = await (read if 200 <= status < 300 else _reply)(response, sent)
                if sent.late:
                    raise TimeoutError  # the connection's end, which was ours, may have looked like the reply's
                if not sent.left:
                    abort(connection)  # it waits for the rest
            except BaseException:
                abort(connection)  # what the kernel has not taken yet must not arrive after all
                connection.close()
                raise
            finally:
                watch.requests.discard(sent)
            wire.keep(connection)
            reached("after reply")
            return found
        except aiohttp.ClientConnectorError as error:
            return _no_connection(error, sent)
        except _NotWritten:
            return Fault(FaultKind.NOT_SENT, f"{status or 'broken off'} before the body had been sent")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError) as error:
            return _fault(TimeoutError() if sent.late else error, sent, status, self._timeout_s)

    async def _long_call(
        self, method: str, path: str, read: Callable[[Response, _Sent], Any], body: SmallBody | StreamBody | None,
        query: Mapping[str, str] | None, sent: _Sent,
    ) -> Any:  # fmt: skip
        """The same through aiohttp's session: bodies that are written bit by bit, and proxies."""
        status: int | None = None
        try:
            with sent:
                async with self._long(method, path, query, body, sent) as response:
                    status = response.status
                    sent.moved(0)
                    if not sent.left and status < 300:
                        # A success for a request that has not arrived whole is none.
                        return Fault(FaultKind.NOT_SENT, f"{status} before the body had been sent")
                    found = await (read if 200 <= status < 300 else _reply)(response, sent)
                    reached("after reply")
                    return found
        except aiohttp.ClientConnectorError as error:
            return _no_connection(error, sent)
        except (aiohttp.ClientError, TimeoutError, OSError, _NotWritten, ValueError, RecursionError) as error:
            return _fault(error, sent, status, self._timeout_s)

    def _long(
        self, method: str, path: str, query: Mapping[str, str] | None, body: SmallBody | StreamBody | None, sent: _Sent
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        assert self._session is not None
        if self._wire is not None:
            self._wire.give_back()  # or the session would wait for them
        if body is None:
            sent.leaving()
        return self._session.request(
            method, self._base + path, params=query, headers=self._key.headers, allow_redirects=False,
            data=_Posted(body, sent, self._bandwidth) if body is not None else None,
        )  # fmt: skip

    async def templates(self) -> list[Template] | Reply | Fault:
        found = await self._call(Call.TEMPLATES, "GET", "/templates", _json)
        if isinstance(found, Fault) or not isinstance(found, Reply) or not 200 <= found.status < 300:
            return found  # type: ignore[no-any-return]  # a Reply or a Fault
        items = found.body
        if isinstance(items, dict):
            items = next((value for value in items.values() if isinstance(value, list)), None)
        if not isinstance(items, list):
            return Reply(found.status, readable=False, detail="no list of templates")
        return [template for item in items if (template := _template(item, self._key.mask)) is not None]

    async def create(
        self, template: str, parameters: Mapping[str, JSON], additional: JSON, departs: Callable[[], None]
    ) -> str | Reply | Fault:
        content = json.dumps({"template": template, "parameters": dict(parameters), "additional": additional}).encode()
        found = await self._call(Call.CREATE, "POST", "/flows", _json, body=SmallBody(content, b""), departs=departs)
        if isinstance(found, Reply) and 200 <= found.status < 300:
            flow_id = _id(found.body, "flow_id", "id")
            return flow_id if flow_id is not None else Reply(found.status, readable=False, detail="no flow_id")
        return found  # type: ignore[no-any-return]

    def upload(self, flow_id: str, body: Any, departs: Callable[[], None]) -> Coroutine[Any, Any, Reply | Fault]:
        return self._call(Call.UPLOAD, "POST", _inputs_of(flow_id), _json, body=body, departs=departs)

    async def start(self, flow_id: str) -> Reply | Fault:
        return await self._action(Call.START, flow_id)

    async def abort(self, flow_id: str) -> Reply | Fault:
        return await self._action(Call.ABORT, flow_id)

    async def _action(self, call: Call, flow_id: str) -> Reply | Fault:
        body = SmallBody(b'{"action":"%b"}' % call.value.encode(), b"")
        found = await self._call(call, "PATCH", f"/flows/{quote(flow_id, safe='')}", _json, body=body)
        return found  # type: ignore[no-any-return]

    async def delete(self, flow_id: str) -> Reply | Fault:
        found = await self._call(Call.DELETE, "DELETE", f"/flows/{quote(flow_id, safe='')}", _json)
        return found  # type: ignore[no-any-return]

    async def flow(self, flow_id: str) -> RemoteFlow | Reply | Fault:
        found = await self._call(Call.FLOW, "GET", f"/flows/{quote(flow_id, safe='')}", _json)
        if isinstance(found, Reply) and 200 <= found.status < 300:
            flow = _remote_flow(found.body, flow_id, self._key.mask)
            return flow if flow is not None else Reply(found.status, readable=False, detail="no flow")
        return found  # type: ignore[no-any-return]

    async def flows(self, take: Callable[[RemoteFlow], None]) -> Reply | Fault | None:
        def each(item: object) -> str | None:
            flow = _remote_flow(item, None, self._key.mask)
            if flow is None:  # a list of something else must not pass for one without our flows
                raise ValueError("a flow is no object with an id")
            take(flow)
            return flow.flow_id

        return await self._list(Call.FLOWS, "/flows", {}, each)

    async def inputs(self, flow_id: str, take: Callable[[RemoteInput], None]) -> Reply | Fault | None:
        def each(item: object) -> str | None:
            if not isinstance(item, dict):
                raise ValueError("an asset is no object")
            asset_id = _id(item, "id", "asset_id")
            status = item.get("status")
            take(RemoteInput(asset_id or "", status.lower() if isinstance(status, str) else "", item.get("additional")))
            return asset_id

        path = _inputs_of(flow_id)
        return await self._list(Call.INPUTS, path, {"include_data": "false"}, each)

    async def input_digest(self, flow_id: str, asset_id: str) -> bytes | Reply | Fault:
        path = f"/flows/{quote(flow_id, safe='')}/inputs/{quote(asset_id, safe='')}"
        return await self._call(Call.INPUT, "GET", path, _digest)  # type: ignore[no-any-return]

    async def outputs(self, flow_id: str, take: Callable[[RemoteOutput], None]) -> Reply | Fault | None:
        def each(item: object) -> str | None:
            asset_id = _id(item, "id", "asset_id")
            if not isinstance(item, dict) or asset_id is None:
                raise ValueError("an output has no id")
            asset_id.encode()  # half a surrogate pair would be no id that can be asked for
            status = item.get("status")
            take(RemoteOutput(asset_id, status.lower() if isinstance(status, str) else "", item.get("additional")))
            return asset_id

        path = f"/flows/{quote(flow_id, safe='')}/outputs"
        return await self._list(Call.OUTPUTS, path, {"include_data": "false"}, each)

    async def output(self, flow_id: str, asset_id: str, sink: Any) -> Arrived | Spoiled | Reply | Fault:
        """An output, written to `sink` while it streams. Spoiled: the reply is whole, and no output."""

        async def read(response: Response, sent: _Sent) -> Arrived | Spoiled:
            decoder = Decoder(response.headers.get("Content-Type", ""))
            try:
                async for piece in response.content.iter_any():
                    await sink.write(decoder.feed(piece))
                    sent.moved(len(piece))
                await sink.write(decoder.end())
            except NotAnOutput as error:
                return Spoiled(str(error))
            return Arrived(decoder.declared)

        path = f"/flows/{quote(flow_id, safe='')}/outputs/{quote(asset_id, safe='')}"
        return await self._call(Call.OUTPUT, "GET", path, read)  # type: ignore[no-any-return]

    async def _list(
        self, call: Call, path: str, query: dict[str, str], each: Callable[[object], str | None]
    ) -> Reply | Fault | None:
        """All pages of a listing. Which pagination there is shows in the envelope; a page without new ids is the end."""
        seen = 0
        page = 1
        last: frozenset[str] = frozenset()
        ask = dict(query)
        while True:
            ids: list[str] = []
            count = 0

            def one(item: object, ids: list[str] = ids) -> None:
                nonlocal count
                count += 1
                found = each(item)
                if found is not None and len(ids) < 10_000:
                    ids.append(found)

            async def read(response: Response, sent: _Sent, one: Any = one) -> dict[str, object]:
                return await _stream_list(response, sent, one)

            found = await self._call(call, "GET", path, read, query=ask)
            if isinstance(found, Reply | Fault):
                return found
            seen += count
            if not count or (ids and frozenset(ids) == last):
                return None
            last = frozenset(ids)
            page += 1
            ask = dict(query)
            following = found.get("next")
            cursor = found.get("next_cursor") or found.get("cursor")
            total = found.get("total")
            pages = found.get("pages") or found.get("total_pages")
            if isinstance(following, str) and following:
                target = urlsplit(urljoin(self._base + path, following))
                if (target.scheme, target.netloc) != urlsplit(self._base)[:2]:
                    return Reply(200, readable=False, detail="the next page is on another host")
                ask.update(dict(part.partition("=")[::2] for part in target.query.split("&") if part))
            elif isinstance(cursor, str) and cursor:
                ask["cursor"] = cursor
            elif (isinstance(total, int) and seen < total) or (isinstance(pages, int) and page <= pages):
                if "offset" in found:
                    ask["offset"] = str(seen)
                else:
                    ask["page"] = str(page)
            else:
                return None


@lru_cache(64)
def _inputs_of(flow_id: str) -> str:
    return f"/flows/{quote(flow_id, safe='')}/inputs"


def proxy_for(base: str) -> str | None:
    """The proxy that the environment names for this endpoint; loopback is always asked directly."""
    parts = urlsplit(base)
    host = parts.hostname or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def _words(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    os_error = getattr(error, "os_error", None)
    return (os_error.strerror or text) if isinstance(os_error, OSError) else text


def _no_connection(error: aiohttp.ClientConnectorError, sent: _Sent) -> Fault:
    return Fault(FaultKind.NOT_CONNECTED, f"cannot connect: {_harmless(_words(error), sent.mask)}")


def _fault(error: BaseException, sent: _Sent, status: int | None, timeout_s: float) -> Fault:
    message = f"nothing moved for {timeout_s:g} s" if isinstance(error, TimeoutError) else _harmless(_words(error), sent.mask)
    if status is not None:
        return Fault(FaultKind.CUT_OFF, f"the reply was cut off: {message}", status)
    if not sent.left:
        return Fault(FaultKind.NOT_SENT, f"not sent: {message}")
    return Fault(FaultKind.NO_ANSWER, f"no answer: {message}")


async def _bounded(response: Response, sent: _Sent) -> bytes:
    """The reply's body. Raises ValueError over 1 MiB."""
    data = bytearray()
    async for piece in response.content.iter_any():
        data += piece
        sent.moved(len(piece))
        if len(data) > REPLY_BYTES:
            raise ValueError("the reply is larger than 1 MiB")
    return bytes(data)


async def _json(response: Response, sent: _Sent) -> Reply:
    content = response.content
    whole = content.is_eof() and content.total_bytes <= REPLY_BYTES  # it came with the head, as most do
    data = content.read_nowait() if whole else await _bounded(response, sent)
    if not data.strip():
        return Reply(response.status)
    try:
        return Reply(response.status, json.loads(data))
    except (ValueError, RecursionError):
        return Reply(response.status, readable=False, detail=_harmless(data.decode(errors="replace"), sent.mask))


async def _reply(response: Response, sent: _Sent) -> Reply:
    """A reply that is no success: its status matters, its words are shown."""
    try:
        data = await _bounded(response, sent)
    except (ValueError, aiohttp.ClientError):
        data = b""
    detail = ""
    if response.status // 100 == 3:
        host = urlsplit(response.headers.get("Location", "")).netloc
        detail = f"it redirects to {_harmless(host, sent.mask)}; if that is right, make it the endpoint"
    elif data:
        detail = _detail(data, sent.mask)
    return Reply(response.status, None, True, detail, _retry_after(response.headers.get("Retry-After")))


def _detail(data: bytes, mask: Mask) -> str:
    """The service's words: `detail` as text, or the `msg` of its entries; of HTML nothing but that it is some."""
    text = data.decode(errors="replace").strip()
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return "an HTML page" if text[:1] == "<" else _harmless(text, mask)
    detail = body.get("detail", body) if isinstance(body, dict) else body
    if isinstance(detail, list):
        parts = [
            f"{'.'.join(str(x) for x in e['loc']) + ': ' if isinstance(e.get('loc'), list) else ''}{e.get('msg', '')}"
            if isinstance(e, dict) else str(e)
            for e in detail
        ]  # fmt: skip
        return _harmless("; ".join(parts), mask)
    return _harmless(detail if isinstance(detail, str) else json.dumps(detail, ensure_ascii=False), mask)


def _harmless(text: str, mask: Mask) -> str:
    """Without the key and passwords of addresses, shortened, and without what a terminal would obey."""
    text = mask(CREDENTIALS.sub("//", text))  # before anything is cut off: half a key is one, too
    short = text if len(text) <= DETAIL_CHARS else text[:DETAIL_CHARS] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in short)


def _retry_after(value: str | None) -> float | None:
    """Seconds from now: either form of Retry-After; None where there is none, or none that can be read."""
    if value is None:
        return None
    try:
        seconds = float(value)
        return seconds if 0 <= seconds < 1e9 else None
    except ValueError:
        pass
    try:
        at = email.utils.parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    return max(0.0, at.timestamp() - time.time())


def _id(item: object, *names: str) -> str | None:
    """The first of the members that is an id: a number or a text that can stand in a line, in an address, in a row."""
    if isinstance(item, dict):
        for name in names:
            value = item.get(name)
            if isinstance(value, str | int) and not isinstance(value, bool):
                text = str(value)
                if 0 < len(text) <= ID_CHARS and text.isprintable():
                    return text
    return None


def _remote_flow(item: object, flow_id: str | None, mask: Mask) -> RemoteFlow | None:
    found = _id(item, "flow_id", "id") or flow_id
    if not isinstance(item, dict) or found is None:
        return None
    state = next((item[name] for name in ("state", "status") if isinstance(item.get(name), str)), "")
    additional = item.get("additional")
    progress = item.get("progress")
    known = isinstance(progress, int | float) and 0 <= progress <= 1
    return RemoteFlow(found, _harmless(state.lower(), mask), str(item.get("template", "")), item.get("parameters"), additional,
                      read_flow_tag(additional), float(progress) if known else 0.0,  # type: ignore[arg-type]
                      _reason(item, mask))  # fmt: skip


def _reason(item: Mapping[str, object], mask: Mask) -> str:
    """Why a flow is in its state, in the service's words; under which member they stand is not documented."""
    kept: list[str] = []
    for name in REASONS:
        said = _said(item[name]) if name in item else ""
        if said and not any(said in other for other in kept):
            kept = [*(other for other in kept if other not in said), said]
    return _harmless(": ".join(kept), mask) if kept else ""


def _said(value: object, depth: int = 3) -> str:
    """What a member says in words: a text, or the texts in an object or a list; "" where it says nothing."""
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, list) and depth:
        return "; ".join(filter(None, (_said(each, depth - 1) for each in value[:REASONS_LISTED])))
    if isinstance(value, dict) and depth:
        known = [name for name in ("code", "type", *REASONS, "msg", "description") if name in value]
        texts = [_said(value[name], depth - 1) for name in known or list(value)[:REASONS_LISTED]]
        return ": ".join(dict.fromkeys(filter(None, texts)))
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) and value else ""


def _looks_like_a_type(value: object) -> bool:
    return isinstance(value, str) and ("/" in value or value in ("prompt", "text"))


def _template(item: object, mask: Mask) -> Template | None:
    if isinstance(item, str):
        return Template(_harmless(item, mask), None)
    if not isinstance(item, dict):
        return None
    names = [item[n] for n in ("name", "template_name", "id", "template_id") if isinstance(item.get(n), str)]
    if not names:
        return None
    # The types stand under a key that is not documented: a list of what looks like types, and not of the outputs'.
    lists = (value for key, value in item.items() if isinstance(value, list) and "output" not in key.lower())
    types = next((value for value in lists if value and all(map(_looks_like_a_type, value))), None)
    first, *others = (_harmless(name, mask) for name in names)
    return Template(first, None if types is None else tuple(_harmless(each, mask) for each in types), tuple(others))


async def _stream_list(response: Response, sent: _Sent, take: Callable[[object], None]) -> dict[str, object]:
    """Hand over the items of the first list in the reply; return the envelope's plain members. Raises on bad JSON."""
    parser = ListParser(take)
    async for piece in response.content.iter_any():
        sent.moved(len(piece))
        for start in range(0, len(piece), PIECE_BYTES):
            parser.feed(piece[start : start + PIECE_BYTES])
    parser.close()
    return parser.envelope


async def _digest(response: Response, sent: _Sent) -> bytes:
    """SHA-256 of the data in `{"data": "data:…;base64,…"}`, decoded while it streams; of a prompt, its UTF-8."""
    member = DataMember()
    hashed = hashlib.sha256()
    try:
        async for piece in response.content.iter_chunked(PIECE_BYTES):
            sent.moved(len(piece))
            hashed.update(member.feed(piece))
        hashed.update(member.end())
    except NotAnOutput as error:
        raise ValueError(str(error)) from None
    return hashed.digest()
