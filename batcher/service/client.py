"""The Flows API over aiohttp: one request in, one reply or fault out. It never retries (behind a proxy, aiohttp itself
repeats a GET or a DELETE once where a kept connection turns out to be dead; never a POST or a PATCH. So it does where the
wire lacks something, see there).

In: calls with what they need. Out: values, a `Reply` that is no success, or a `Fault` that says how far the request got.
Called by the pipeline, which holds a place in the limiter meanwhile. The service's facts: flows-api; where they are silent
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
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote, unquote, urljoin, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from ..core.errors import BatcherError, UsageError
from ..core.model import JSON
from ..core.output_check import Spoiled
from ..core.remote import Arrived, Listing, RemoteFlow, RemoteInput, RemoteOutput, StartReply, Template
from ..core.retry import Call, Fault, FaultKind, Reply
from ..core.tags import read_flow_tag
from ..host.failpoint import failpoint
from ..sources.bodies import SmallBody, StreamBody
from . import wire
from .connection_errors import check_proxy, no_way
from .credentials import Mask
from .downloads import DataMember, Decoder, Elsewhere, NotAnOutput, unsigned
from .error_text import Head, words_of
from .limiter import Bandwidth
from .listing import ListParser, plain
from .paging import Pages, Signs, signs_of
from .wire import PATH_SAFE, USER_AGENT, Answer, Pool, Wire, abandon, abort, ask, at_hand, forget_taken, taken, unsent

if TYPE_CHECKING:
    from .wire import Connection

REPLY_BYTES: Final = 1 << 20  # no reply but a listing or a download is larger
LEAST_BYTES_PER_S: Final = 10_000  # below this a transfer is given up in the end
KEEPALIVE_S: Final = 4.0  # less than the 5 s after which the quickest common server hangs up
DETAIL_CHARS: Final = 300
ID_CHARS: Final = 300
PIECE_BYTES: Final = 256 << 10
CAPPED_BYTES: Final = 64 << 10  # under a cap a body leaves in pieces of this, so that no connection is silent for long
JOINED_BYTES: Final = 64 << 10  # a copy up to here is cheaper than another write
KEPT_BYTES: Final = 4 << 20  # blocks up to here come from what was freed before

# Names of lists and of objects, as `listing.plain` gives them, beside those that say nothing of what they hold.
TEMPLATES: Final = frozenset({"templates", "models"})
FLOWS: Final = frozenset({"flows", "jobs", "tasks", "runs", "workflows"})
INPUTS: Final = frozenset({"inputs", "assets", "files", "inputassets"})
OUTPUTS: Final = frozenset({"outputs", "assets", "files", "outputassets"})
FLOW_IN: Final = frozenset({"flow", "data", "result", "response", "payload", "item"})
REASONS: Final = (  # members under which a flow may say why it failed
    "error", "errors", "error_message", "failure_reason", "reason", "status_message", "status_reason", "message", "detail",
    "details",
)  # fmt: skip
REASONS_LISTED: Final = 5

ADDRESSES: Final = 5  # from an output's reply to the place where its bytes lie
PAGE_RETRIES: Final = 5  # of one page after the first; then the list is begun anew
REDIRECTS: Final = (301, 302, 303, 307, 308)

CREDENTIALS: Final = re.compile(r"//[^/\s]*@")  # of a proxy's address, which aiohttp's errors say as it is

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

    def read_again(self) -> bool:
        """Read it again; whether it is another one."""
        try:
            found = self._read()
        except BatcherError:
            return False  # it cannot be read now: the one that was refused is all there is
        if not found or found == self._value:
            return False  # an empty file is one that is being written
        self._value = found
        self.mask.add(found)
        return True

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._value}"} if self._value else {}

    def __repr__(self) -> str:
        return "Key(…)"


class _Sent:
    """How far one request got, and until when it may take. Both bounds move with the bytes, out and in: `timeout_s` from
    the last that moved, and in all what the least throughput allows. Works as `asyncio.timeout` does, but one `_Watch`
    looks after all requests, where a timer each, moved with every byte, cost as much as the parsing of the reply."""

    __slots__ = ("_bytes", "_cancelling", "_mark_sent", "_started", "_task", "_watch", "abort", "deadline", "late", "left",
                 "mask")  # fmt: skip

    def __init__(self, mark_sent: Callable[[], None], watch: _Watch, mask: Mask) -> None:
        self.mask = mask  # for the words of the reply
        self._mark_sent = mark_sent
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
        self.abort = partial(abort, connection.transport)
        self.deadline = self._watch.time() + self._watch.timeout_s
        self._watch.add(self)

    def expire(self) -> None:
        """Too late: the request is given up."""
        self.late = True
        self.abort()

    @property
    def most_said(self) -> int:
        """Bytes that a refusal may have: a few words, and all that was sent, said again and escaped."""
        return REPLY_BYTES + 2 * self._bytes

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
        self._mark_sent()
        self.left = True
        failpoint("leaving")


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


class _NotWritten(Exception):
    """The body ended early: the connection is closed, and the service has no whole request."""


class _Posted(aiohttp.Payload):
    """A body that tells how far it got. Handing the last bytes on counts as having left: the kernel has them next."""

    def __init__(self, body: SmallBody | StreamBody, sent: _Sent, bandwidth: Bandwidth) -> None:
        super().__init__(b"", content_type="application/json")
        self._body = body
        self._sent = sent
        self._bandwidth = bandwidth

    @property
    def size(self) -> int:
        return self._body.length

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
                failpoint("between chunks")
                self._sent.moved(len(piece))
        if written != length:
            raise _NotWritten  # aiohttp would wait for ever for the rest

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        await self.write(writer)


class FlowsApi:
    """A client for one endpoint. Use as an async context manager. `timeout_s` as in the limits."""

    def __init__(
        self, endpoint: str, key: Key, *, timeout_s: float, connections: int,
        bandwidth: Bandwidth | None = None, ca_file: str | None = None, rate_per_s: float | None = None,
    ) -> None:  # fmt: skip
        check_endpoint(endpoint)
        self._between_pages_s = 1 / rate_per_s if rate_per_s else 0.0  # the first page has the limiter's leave
        self._base = endpoint.rstrip("/")
        self._key = key
        self._timeout_s = timeout_s
        self._connections = connections
        self._bandwidth = bandwidth or Bandwidth(None, time.monotonic)
        self._ca_file = ca_file
        self._proxy = proxy_for(self._base)
        if self._proxy is not None:
            check_proxy(self._proxy, urlsplit(self._base).scheme)
            password = self._proxy.partition("://")[2].rpartition("@")[0].partition(":")[2]
            key.mask.add(password)
            key.mask.add(unquote(password))
        self._reached = False  # something has answered, so that the endpoint's name is right
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
        connector = Pool(self._connections, KEEPALIVE_S, context)
        self._watch = _Watch(self._timeout_s)
        if self._proxy is None and not wire.LACKING:
            self._wire = Wire(connector, self._base, context, timeout, KEEPALIVE_S)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            # Not trust_env: it would also take a password from ~/.netrc in place of the key. No proxy here, for an output may
            # lie at an address that has another one, or none.
            headers={"User-Agent": USER_AGENT},
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

    @cached_property
    def _target(self) -> str:
        return f"{URL(self._base).origin()}{quote(urlsplit(self._base).path, safe=PATH_SAFE)}"

    @property
    def has_key(self) -> bool:
        return bool(self._key.headers)

    def read_key_again(self) -> bool:
        """Whether the key is another one now."""
        return self._key.read_again()

    async def _call(
        self, call: Call, method: str, path: str, read: Callable[[Response, _Sent], Any],
        *, body: SmallBody | StreamBody | None = None, mark_sent: Callable[[], None] = lambda: None,
        other: Callable[[Response, _Sent], Any] | None = None,
    ) -> Any:  # fmt: skip
        """One request. `read` gets a reply of status 200 to 299; any other becomes a Reply, or what `other` makes of it."""
        watch, direct = self._watch, self._wire
        assert watch is not None
        failpoint("before request")
        sent = _Sent(mark_sent, watch, self._key.mask)
        if direct is None or (isinstance(body, StreamBody) and (self._bandwidth.capped or not body.short)):
            return await self._long_call(method, path, read, other or _reply, body, sent)
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
            pieces[0] = direct.head(method, path, self._key.headers, length)
            if length is None or length <= JOINED_BYTES:
                pieces = [b"".join(pieces)]
            if self._bandwidth.capped:
                await sent.spend(self._bandwidth, length or 0)
            connection = await direct.connect()
            try:
                sent.connected(connection)
                response = await ask(connection, pieces, sent.leaving, sent.moved)
                status = response.status
                self._reached = True
                sent.abort = partial(abandon, connection, response)
                sent.moved(length or 0)
                if status < 300 and (not sent.left or unsent(connection.transport)):
                    raise _NotWritten  # a success for a request that has not arrived whole is none
                found = await (read if 200 <= status < 300 else other or _reply)(response, sent)
                if sent.late:
                    raise TimeoutError  # the connection's end, which was ours, may have looked like the reply's
                if not sent.left:
                    abort(connection.transport)  # it waits for the rest
            except BaseException:
                abort(connection.transport)  # what the kernel has not taken yet must not arrive after all
                connection.close()
                raise
            finally:
                watch.requests.discard(sent)
            direct.keep(connection)
            failpoint("after reply")
            return found
        except aiohttp.ClientConnectorError as error:
            return self._no_way(error, sent) or _no_connection(error, sent)
        except _NotWritten:
            return Fault(FaultKind.NOT_SENT, f"{status or 'broken off'} before the body had been sent")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError) as error:
            return _fault(TimeoutError() if sent.late else error, sent, status, self._timeout_s)

    def _no_way(self, error: BaseException, sent: _Sent) -> Fault | None:
        found = no_way(error, self._base, self._proxy, reached=self._reached)
        return Fault(FaultKind.NO_WAY, _harmless(found[0], sent.mask), hint=found[1]) if found is not None else None

    async def _long_call(
        self, method: str, path: str, read: Callable[[Response, _Sent], Any], other: Callable[[Response, _Sent], Any],
        body: SmallBody | StreamBody | None, sent: _Sent,
    ) -> Any:  # fmt: skip
        """The same through aiohttp's session: bodies that are written bit by bit, proxies, and all where there is no wire."""
        status: int | None = None
        try:
            with sent:
                async with self._long(method, path, body, sent) as response:
                    status = response.status
                    self._reached = True
                    sent.moved(0)
                    if status < 300 and (not sent.left or unsent(taken())):
                        abort(taken())
                        # A success for a request that has not arrived whole is none.
                        return Fault(FaultKind.NOT_SENT, f"{status} before the body had been sent")
                    found = await (read if 200 <= status < 300 else other)(response, sent)
                    failpoint("after reply")
                    return found
        except (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError) as error:
            return self._no_way(error, sent) or _no_connection(error, sent)
        except (aiohttp.ClientError, TimeoutError, OSError, _NotWritten, ValueError, RecursionError) as error:
            return _fault(error, sent, status, self._timeout_s)

    def _long(
        self, method: str, path: str, body: SmallBody | StreamBody | None, sent: _Sent
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        assert self._session is not None
        if self._wire is not None:
            self._wire.give_back()  # or the session would wait for them
        forget_taken()
        if body is None:
            sent.leaving()
        url = URL(self._target + path, encoded=True)  # as the wire asks for it
        return self._session.request(
            method, url, headers=self._key.headers, allow_redirects=False, proxy=self._proxy,
            data=_Posted(body, sent, self._bandwidth) if body is not None else None,
        )  # fmt: skip

    async def templates(self, take: Callable[[Template], None]) -> Listing | Reply | Fault:
        def each(item: object) -> tuple[str, Callable[[], None]]:
            template = _template(item, self._key.mask)
            if template is None:
                return repr(item), lambda: None
            return template.name, lambda: take(template)

        return await self._list(Call.TEMPLATES, "/templates", {}, TEMPLATES, each)

    async def create(
        self, template: str, parameters: Mapping[str, JSON], additional: JSON, mark_sent: Callable[[], None]
    ) -> str | Reply | Fault:
        content = json.dumps({"template": template, "parameters": dict(parameters), "additional": additional}).encode()
        found = await self._call(Call.CREATE, "POST", "/flows", _json, body=SmallBody(content, b""), mark_sent=mark_sent)
        if isinstance(found, Reply) and 200 <= found.status < 300:
            flow_id = _id(_flow_in(found.body), "flow_id", "id")
            return flow_id if flow_id is not None else Reply(found.status, readable=False, detail="no flow_id")
        return found  # type: ignore[no-any-return]

    def upload(self, flow_id: str, body: Any, mark_sent: Callable[[], None]) -> Coroutine[Any, Any, Reply | Fault]:
        return self._call(Call.UPLOAD, "POST", _inputs_of(flow_id), _json, body=body, mark_sent=mark_sent)

    async def start(self, flow_id: str, mark_sent: Callable[[], None]) -> StartReply | Reply | Fault:
        found = await self._action(Call.START, flow_id, mark_sent)
        if isinstance(found, Reply) and 200 <= found.status < 300 and found.readable:
            return _start_reply(found.body, flow_id, self._key.mask)
        return found

    async def abort(self, flow_id: str) -> Reply | Fault:
        return await self._action(Call.ABORT, flow_id, lambda: None)

    async def _action(self, call: Call, flow_id: str, mark_sent: Callable[[], None]) -> Reply | Fault:
        body = SmallBody(b'{"action":"%b"}' % call.value.encode(), b"")
        found = await self._call(call, "PATCH", f"/flows/{quote(flow_id, safe='')}", _json, body=body, mark_sent=mark_sent)
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

    async def flows(self, take: Callable[[RemoteFlow], None]) -> Listing | Reply | Fault:
        def each(item: object) -> tuple[str, Callable[[], None]]:
            flow = _remote_flow(item, None, self._key.mask)
            if flow is None:  # a list of something else must not pass for one without our flows
                raise ValueError("a flow is no object with an id")
            return flow.flow_id, lambda: take(flow)

        return await self._list(Call.FLOWS, "/flows", {}, FLOWS, each)

    async def inputs(self, flow_id: str, take: Callable[[RemoteInput], None]) -> Listing | Reply | Fault:
        def each(item: object) -> tuple[str, Callable[[], None]]:
            if not isinstance(item, dict):
                raise ValueError("an asset is no object")
            asset_id = _id(item, "id", "asset_id")
            asset = RemoteInput(asset_id or "", _status(item), item.get("additional"))
            return asset_id or repr(item), lambda: take(asset)

        return await self._list(Call.INPUTS, _inputs_of(flow_id), {"include_data": "false"}, INPUTS, each)

    async def input_digest(self, flow_id: str, asset_id: str) -> bytes | Reply | Fault:
        path = f"/flows/{quote(flow_id, safe='')}/inputs/{quote(asset_id, safe='')}"
        return await self._call(Call.INPUT, "GET", path, _digest)  # type: ignore[no-any-return]

    async def outputs(self, flow_id: str, take: Callable[[RemoteOutput], None]) -> Listing | Reply | Fault:
        def each(item: object) -> tuple[str, Callable[[], None]]:
            asset_id = _id(item, "id", "asset_id")
            if not isinstance(item, dict) or asset_id is None:
                raise ValueError("an output has no id")
            asset_id.encode()  # half a surrogate pair would be no id that can be asked for
            asset = RemoteOutput(asset_id, _status(item), item.get("additional"))
            return asset_id, lambda: take(asset)

        path = f"/flows/{quote(flow_id, safe='')}/outputs"
        return await self._list(Call.OUTPUTS, path, {"include_data": "false"}, OUTPUTS, each)

    async def output(self, flow_id: str, asset_id: str, sink: Any) -> Arrived | Spoiled | Reply | Fault:
        """An output, written to `sink` while it streams. Spoiled: the reply is whole, and no output. An address that is
        named in its place is followed."""

        async def read(response: Response, sent: _Sent) -> Arrived | Spoiled | Elsewhere:
            decoder = Decoder(response.headers.get("Content-Type", ""))
            try:
                async for piece in response.content.iter_any():
                    await sink.write(decoder.feed(piece))
                    sent.moved(len(piece))
                await sink.write(decoder.end())
            except NotAnOutput as error:
                return Spoiled(_harmless(str(error), sent.mask))
            except Elsewhere as place:
                return place
            return Arrived(decoder.declared)

        async def other(response: Response, sent: _Sent) -> Reply | Elsewhere:
            place = _moved(response, self._base + path)
            return place if place is not None else await _reply(response, sent)

        path = f"/flows/{quote(flow_id, safe='')}/outputs/{quote(asset_id, safe='')}"
        found = await self._call(Call.OUTPUT, "GET", path, read, other=other)
        addresses = 0
        while isinstance(found, Elsewhere):
            addresses += 1
            if addresses > ADDRESSES:
                return Spoiled(f"it is {ADDRESSES} addresses away")
            found = await self._elsewhere(found.address, read)
        return found  # type: ignore[no-any-return]

    async def _elsewhere(
        self, address: str, read: Callable[[Response, _Sent], Coroutine[Any, Any, Arrived | Spoiled | Elsewhere]]
    ) -> Arrived | Spoiled | Elsewhere:
        """What lies at an address that stood in an output's place: asked for without the key, whoever serves it. What goes
        wrong there is not the service's doing: another request to it may name an address that works."""
        assert self._session is not None
        assert self._watch is not None
        sent = _Sent(lambda: None, self._watch, self._key.mask)
        where = "its address"
        try:
            parts = urlsplit(address)
            host = parts.hostname or ""
            where = _harmless(f"its address at {parts.scheme}://{host}", sent.mask)
            local = is_loopback(host) and is_loopback(urlsplit(self._base).hostname or "")
            if parts.scheme != "https" and not (parts.scheme == "http" and local):
                return Spoiled(f"{where} is not followed: it is not https")
            if self._wire is not None:
                self._wire.give_back()  # or the session would wait for them
            url = URL(address, encoded=True)  # a signature is over the very characters
            with sent:
                sent.left = True
                async with self._session.get(url, allow_redirects=False, proxy=proxy_for(address)) as response:
                    if 200 <= response.status < 300:
                        return await read(response, sent)
                    return _moved(response, address) or Spoiled(f"{where} answers {response.status}")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            words = f"nothing moved for {self._timeout_s:g} s" if isinstance(error, TimeoutError) else unsigned(_words(error))
            return Spoiled(f"{where} gives nothing: {_harmless(words, sent.mask)}")

    async def _list(
        self, call: Call, path: str, query: Mapping[str, str], names: frozenset[str],
        each: Callable[[object], tuple[str, Callable[[], None]]],
    ) -> Listing | Reply | Fault:  # fmt: skip
        """All pages of a listing, as far as they lead. `each` gives an item's id, and how it is handed on; what an earlier
        page has shown is not."""
        pages = Pages(self._base, path, query, time.monotonic)

        def one(item: object) -> None:
            ident, hand_on = each(item)
            if pages.shows(ident):
                hand_on()

        async def read(response: Response, sent: _Sent) -> Signs:
            parser = ListParser(one, names)
            async for piece in response.content.iter_any():
                sent.moved(len(piece))
                pages.moved(len(piece))
                for start in range(0, len(piece), PIECE_BYTES):
                    parser.feed(piece[start : start + PIECE_BYTES])
            parser.close()
            return signs_of(response.status, parser.envelope, response.headers)

        failed = 0
        while True:
            found = await self._call(call, "GET", pages.address, read)
            if isinstance(found, Fault) or (isinstance(found, Reply) and not pages.refused(found.status)):
                # One page of many: from the first again, a long list would never come to its end.
                if not pages.begun or failed >= PAGE_RETRIES or not _passes(found):
                    return found
                failed += 1
                await asyncio.sleep(min(30.0, getattr(found, "retry_after_s", None) or 0.25 * 2**failed))
                pages.again()
                continue
            failed = 0
            listing = pages.turn(found if isinstance(found, Signs) else None)
            if listing is not None:
                return listing
            await asyncio.sleep(self._between_pages_s)


def _passes(found: Reply | Fault) -> bool:
    """Whether a page that failed so may be had a moment later."""
    if isinstance(found, Fault):
        return found.kind is not FaultKind.NO_WAY
    return found.status in (408, 425, 429) or found.status >= 500


@lru_cache(64)
def _inputs_of(flow_id: str) -> str:
    return f"/flows/{quote(flow_id, safe='')}/inputs"


def proxy_for(base: str) -> str | None:
    """The proxy that the environment names for this endpoint; loopback is always asked directly."""
    parts = urlsplit(base)
    host = parts.hostname or ""
    named = getproxies_environment().get(parts.scheme)  # on macOS `getproxies` would look into the system's settings, too
    return None if named is None or is_loopback(host) or proxy_bypass(host) else named


def _words(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    os_error = getattr(error, "os_error", None)
    return (os_error.strerror or text) if isinstance(os_error, OSError) else text


def _no_connection(error: aiohttp.ClientError, sent: _Sent) -> Fault:
    if isinstance(error, aiohttp.ClientHttpProxyError):
        words = f"the proxy answers with {error.status} {error.message}"
    else:
        words = f"the proxy: {_words(error)}" if isinstance(error, aiohttp.ClientProxyConnectionError) else _words(error)
    return Fault(FaultKind.NOT_CONNECTED, f"cannot connect: {_harmless(words, sent.mask)}")


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
    data = at_hand(response, REPLY_BYTES)
    if data is None:
        data = await _bounded(response, sent)
    if not data.strip():
        return Reply(response.status)
    try:
        return Reply(response.status, json.loads(data))
    except (ValueError, RecursionError):
        return Reply(response.status, readable=False, detail=_harmless(data.decode(errors="replace"), sent.mask))


def _moved(response: Response, asked: str) -> Elsewhere | None:
    """Where a redirect leads from the address that was asked."""
    place = response.headers.get("Location", "")
    return Elsewhere(urljoin(asked, place)) if response.status in REDIRECTS and place else None


async def _reply(response: Response, sent: _Sent) -> Reply:
    """A reply that is no success: its status matters, its words are shown."""
    if response.status // 100 == 3:
        host = urlsplit(response.headers.get("Location", "")).netloc
        detail = f"it redirects to {_harmless(host, sent.mask)}; if that is right, make it the endpoint"
    else:
        head = Head()
        left = sent.most_said
        try:
            async for piece in response.content.iter_any():
                sent.moved(len(piece))
                head.feed(piece)
                left -= len(piece)
                if head.full or left < 0:
                    break
        except aiohttp.ClientError:
            pass  # what has come says something, perhaps
        detail = _harmless(words_of(head.text()), sent.mask)
    return Reply(response.status, None, True, detail, _retry_after(response.headers.get("Retry-After")))


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


def _flow_in(body: object, depth: int = 3) -> dict[str, Any] | None:
    """The object that tells of a flow: the reply itself, or one within it, as in `{"flow": {…}}` and `{"data": {…}}`."""
    if not isinstance(body, dict):
        return None
    members = (value for name, value in body.items() if plain(name) in FLOW_IN)
    inside = any(isinstance(value, dict) and _id(value, "flow_id", "id") for value in members)
    if _id(body, "flow_id") is not None or (not inside and _id(body, "id") is not None and _state(body)):
        return body
    within = (_flow_in(value, depth - 1) for name, value in body.items() if depth and plain(name) in FLOW_IN)
    found = next((flow for flow in within if flow is not None), None)
    return found if found is not None or not (_id(body, "id") is not None or _state(body)) else body


def _state(item: Mapping[str, Any]) -> str:
    return next((item[name] for name in ("state", "status") if isinstance(item.get(name), str)), "")


def _status(item: Mapping[str, Any]) -> str:
    status = item.get("status")
    return status.lower() if isinstance(status, str) else ""


def _remote_flow(body: object, flow_id: str | None, mask: Mask) -> RemoteFlow | None:
    """`flow_id`: of the flow that was asked for."""
    item = _flow_in(body)
    found = _id(item, "flow_id", "id") or flow_id
    if item is None or found is None:
        return None
    additional = item.get("additional")
    progress = item.get("progress")
    known = isinstance(progress, int | float) and 0 <= progress <= 1
    return RemoteFlow(found, _harmless(_state(item).lower(), mask), str(item.get("template", "")), item.get("parameters"),
                      additional, read_flow_tag(additional), float(progress) if known else 0.0,  # type: ignore[arg-type]
                      bool(item.get("finished_at")), _reason(item, mask))  # fmt: skip


def _start_reply(body: JSON, flow_id: str, mask: Mask) -> StartReply:
    """A 2xx may still say that nothing was started."""
    if not isinstance(body, dict):
        return StartReply("")
    said = next((body[name] for name in ("error", "errors") if body.get(name)), None)
    if said is None and (body.get("success") is False or body.get("ok") is False):
        said = body.get("message") or "it was not done"
    flow = _remote_flow(body, flow_id, mask)
    error = "" if said is None else _harmless(said if isinstance(said, str) else json.dumps(said, ensure_ascii=False), mask)
    return StartReply(flow.state if flow is not None else "", error)


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
