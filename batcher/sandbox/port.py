"""The sandbox's port: taken, served, and closed for a while when an outage strikes.

In: a loopback address, a handler of requests. Out: an address that answers. Called by `server`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeAlias

from aiohttp import web

from . import mischief

BACKLOG: Final = 1024
SHUTDOWN_S: Final = 1.0  # for what is still being answered when the sandbox stops
READ_AHEAD_BYTES: Final = 64 * 1024  # aiohttp reads up to twice this much ahead, per connection

Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None]], object]


class Port:
    """Raises ValueError if `host` is not a loopback address."""

    def __init__(self, host: str, port: int) -> None:
        # The sandbox has no secrets and takes orders from everybody (/_sandbox/): it must not be reached from elsewhere.
        if not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"the sandbox listens on a loopback address only, not on {host}")
        self._address = (host, port)
        self._listener: socket.socket | None = None

    @property
    def url(self) -> str:
        host, port = self._address
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def take(self) -> None:
        """Nobody else gets it from now on. Raises OSError if it is taken."""
        self._listener = _bind(*self._address)
        host, port = self._listener.getsockname()[:2]
        self._address = (host, port)

    def give_back(self) -> None:
        """It was taken, and is not to be served."""
        if self._listener is not None:
            self._listener.close()

    async def serve(self, handle: Handler) -> None:
        assert self._listener is not None
        self._server = web.Server(handle, access_log=None, read_bufsize=READ_AHEAD_BYTES)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=SHUTDOWN_S)
        await self._runner.setup()
        await self._listen(self._listener)

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def close_for(self, seconds: float, spawn: Spawn) -> None:
        """New connections are refused for a while; `spawn` runs what ends that."""
        await self._site.stop()
        # Bound, but not listening: connections are refused, and whoever asks for a free port does not get this one.
        listener = _bind(*self._address)

        async def end() -> None:
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:
                listener.close()
                raise
            await self._listen(listener)

        spawn(end())

    def reset_connections(self) -> None:
        for connection in list(self._server.connections):
            mischief.reset(connection.transport)

    async def _listen(self, listener: socket.socket) -> None:
        self._site = web.SockSite(self._runner, listener, backlog=BACKLOG)
        await self._site.start()


def _bind(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
