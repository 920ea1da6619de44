"""The Flows API: each of its calls as a method. One request in, one reply or fault out; nothing but a later page of a list is
asked for again.

In: what a call needs. Out: a value, a `Reply` that is no success, or a `Fault` that says how far the request got. Called by the
pipeline, which holds a place in the limiter meanwhile. How a request travels is `transport`'s affair, how a reply is read that
of `replies`, `paging` and `downloads`. Replies are bounded, listings stream, every wait is bounded.

What needs aiohttp is imported by the calls that need it: a run that has nothing to ask for does without.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from ..core.bodies import Body, SmallBody
from ..core.model import JSON
from ..core.output_check import Spoiled
from ..core.remote import Arrived, Listing, RemoteFlow, RemoteInput, RemoteOutput, StartReply, Template
from ..core.retry import Call, Fault, Reply
from .bandwidth import Bandwidth
from .credentials import Key
from .deadlines import ignore_sent
from .endpoint import Endpoint, endpoint_of, trusted
from .replies import created_id, not_done, remote_flow, remote_input, remote_output, start_reply, template_of

if TYPE_CHECKING:
    from .downloads import ByteSink
    from .transport import Transport

# Names of lists, as `listing.plain` gives them, beside those that say nothing of what they hold.
TEMPLATES: Final = frozenset({"templates", "models"})
FLOWS: Final = frozenset({"flows", "jobs", "tasks", "runs", "workflows"})
INPUTS: Final = frozenset({"inputs", "assets", "files", "inputassets"})
OUTPUTS: Final = frozenset({"outputs", "assets", "files", "outputassets"})
WITHOUT_DATA: Final = {"include_data": "false"}

Each = tuple[str, Callable[[], None]]  # an item's id, and what hands it on


class FlowsApi:
    """A client for one endpoint (None: `reach` names it before the first request). Use as an async context manager. `timeout_s`
    as in the limits. Raises UsageError for an endpoint, a proxy or certificates that cannot be used."""

    def __init__(
        self, endpoint: str | None, key: Key, *, timeout_s: float, connections: int,
        bandwidth: Bandwidth | None = None, ca_file: str | None = None, rate_per_s: float | None = None,
    ) -> None:  # fmt: skip
        self._endpoint: Endpoint
        self._key = key
        self._timeout_s = timeout_s
        self._connections = connections
        self._bandwidth = bandwidth or Bandwidth(None, time.monotonic)
        self._ca_file = ca_file
        self._between_pages_s = 1 / rate_per_s if rate_per_s else 0.0  # the first page has the limiter's leave
        if endpoint is not None:
            self.reach(endpoint)

    def reach(self, endpoint: str) -> None:
        """This is the endpoint. Raises UsageError."""
        self._endpoint = endpoint_of(endpoint)
        if self._ca_file is not None:
            trusted(self._endpoint, self._ca_file)  # whether it can be used is said before anything is done
        for secret in self._endpoint.secrets:
            self._key.mask.add(secret)

    async def __aenter__(self) -> FlowsApi:
        return self

    async def __aexit__(self, *_: object) -> None:
        if "_transport" in vars(self):
            await self._transport.close()

    @cached_property
    def _transport(self) -> Transport:
        """Made for the first request."""
        from .transport import Transport

        return Transport(self._endpoint, self._key, timeout_s=self._timeout_s, connections=self._connections,
                         bandwidth=self._bandwidth, ca_file=self._ca_file)  # fmt: skip

    @property
    def has_key(self) -> bool:
        return bool(self._key.headers)

    def read_key_again(self) -> bool:
        """Whether the key is another one now."""
        return self._key.read_again()

    async def templates(self, take: Callable[[Template], None]) -> Listing | Reply | Fault:
        def each(item: object) -> Each:
            template = template_of(item, self._key.mask)
            if template is None:
                return repr(item), lambda: None
            return template.name, lambda: take(template)

        return await self._list("/templates", {}, TEMPLATES, each)

    async def create(
        self, template: str, parameters: Mapping[str, JSON], additional: JSON, mark_sent: Callable[[], None]
    ) -> str | Reply | Fault:
        content = json.dumps({"template": template, "parameters": dict(parameters), "additional": additional}).encode()
        found = await self._json("POST", "/flows", SmallBody(content, None), mark_sent)
        if isinstance(found, Reply) and 200 <= found.status < 300:
            flow_id = created_id(found.body)
            return flow_id if flow_id is not None else Reply(found.status, readable=False, detail="no flow_id")
        return found

    async def upload(self, flow_id: str, body: Body, mark_sent: Callable[[], None]) -> Reply | Fault:
        return self._by_its_word(await self._json("POST", _inputs_of(flow_id), body, mark_sent))

    async def start(self, flow_id: str, mark_sent: Callable[[], None]) -> StartReply | Reply | Fault:
        found = await self._json("PATCH", _path_of(flow_id), _action(Call.START), mark_sent)
        if isinstance(found, Reply) and 200 <= found.status < 300 and found.readable:
            return start_reply(found.body, flow_id, self._key.mask)
        return found

    async def abort(self, flow_id: str) -> Reply | Fault:
        return await self._json("PATCH", _path_of(flow_id), _action(Call.ABORT))

    async def delete(self, flow_id: str) -> Reply | Fault:
        return self._by_its_word(await self._json("DELETE", _path_of(flow_id)), "deleted")

    async def flow(self, flow_id: str) -> RemoteFlow | Reply | Fault:
        found = await self._json("GET", _path_of(flow_id))
        if isinstance(found, Reply) and 200 <= found.status < 300:
            flow = remote_flow(found.body, flow_id, self._key.mask)
            return flow if flow is not None else Reply(found.status, readable=False, detail="no flow")
        return found

    async def flows(self, take: Callable[[RemoteFlow], None]) -> Listing | Reply | Fault:
        def each(item: object) -> Each:
            flow = remote_flow(item, None, self._key.mask)
            if flow is None:  # a list of something else must not pass for one without our flows
                raise ValueError("a flow is no object with an id")
            return flow.flow_id, lambda: take(flow)

        return await self._list("/flows", {}, FLOWS, each)

    async def inputs(self, flow_id: str, take: Callable[[RemoteInput], None]) -> Listing | Reply | Fault:
        def each(item: object) -> Each:
            asset = remote_input(item)
            return asset.asset_id or repr(item), lambda: take(asset)

        return await self._list(_inputs_of(flow_id), WITHOUT_DATA, INPUTS, each)

    async def input_digest(self, flow_id: str, asset_id: str) -> bytes | Reply | Fault:
        from .receiving import digest

        return await self._transport.send("GET", f"{_inputs_of(flow_id)}/{quote(asset_id, safe='')}", digest)

    async def outputs(self, flow_id: str, take: Callable[[RemoteOutput], None]) -> Listing | Reply | Fault:
        def each(item: object) -> Each:
            asset = remote_output(item)
            return asset.asset_id, lambda: take(asset)

        return await self._list(f"{_path_of(flow_id)}/outputs", WITHOUT_DATA, OUTPUTS, each)

    async def output(self, flow_id: str, asset_id: str, sink: ByteSink) -> Arrived | Spoiled | Reply | Fault:
        """An output, written to `sink` while it streams. Spoiled: the reply is whole, and no output. An address that is
        named in its place is followed."""
        from .downloads import download

        return await download(self._transport, f"{_path_of(flow_id)}/outputs/{quote(asset_id, safe='')}", sink)

    def _json(
        self, method: str, path: str, body: Body | None = None, mark_sent: Callable[[], None] = ignore_sent
    ) -> Coroutine[Any, Any, Reply | Fault]:
        """A call whose reply is JSON, of whatever status."""
        return self._transport.send(method, path, self._transport.receiver.json, body=body, mark_sent=mark_sent)

    def _by_its_word(self, found: Reply | Fault, *flags: str) -> Reply | Fault:
        """A 2xx may still say that nothing was done; `flags` as in `not_done`."""
        if isinstance(found, Reply) and found.body is not None and 200 <= found.status < 300:
            said = not_done(found.body, self._key.mask, *flags)
            if said:
                return replace(found, not_done=said)
        return found

    def _list(
        self, path: str, parameters: Mapping[str, str], names: frozenset[str], each: Callable[[object], Each]
    ) -> Coroutine[Any, Any, Listing | Reply | Fault]:
        from .paging import ListQuery, list_all

        return list_all(self._transport, ListQuery(path, parameters, names, each), self._between_pages_s)


@lru_cache(64)
def _inputs_of(flow_id: str) -> str:
    return f"/flows/{quote(flow_id, safe='')}/inputs"


def _path_of(flow_id: str) -> str:
    return f"/flows/{quote(flow_id, safe='')}"


def _action(call: Call) -> SmallBody:
    return SmallBody(b'{"action":"%b"}' % call.value.encode(), None)
