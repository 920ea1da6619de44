"""A gateway that is slow and has no patience: all bodies share one line, and a connection whose body takes too long is reset.

In: requests for the service behind it. Out: its replies, or RST in the middle of a body. What a reverse proxy with a limit
on the time of a request does, and a home line with too many uploads at a time.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

PIECE_BYTES = 16 << 10
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Gateway:
    """`bytes_per_s` of all bodies together; one that takes longer than `patience_s` is cut off. `resets` counts those."""

    url: str

    def __init__(self, service: str, bytes_per_s: float, patience_s: float) -> None:
        self._service = urlsplit(service)
        self._bytes_per_s, self._patience_s = bytes_per_s, patience_s
        self._free_at = 0.0
        self.resets = 0
        self._handling: set[asyncio.Task[None]] = set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handling.add(task)
        task.add_done_callback(self._handling.discard)
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while await self._once(reader, writer):
                pass
        writer.transport.abort()

    async def _once(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        found = _LENGTH.search(head)
        left = int(found[1]) if found else 0
        body = bytearray()
        began = time.monotonic()
        while left > 0:
            piece = await reader.readexactly(min(left, PIECE_BYTES))
            body += piece
            left -= len(piece)
            self._free_at = max(self._free_at, time.monotonic()) + len(piece) / self._bytes_per_s
            await asyncio.sleep(self._free_at - time.monotonic())
            if time.monotonic() - began > self._patience_s:
                self.resets += 1
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
        behind, forward = await asyncio.open_connection(self._service.hostname, self._service.port)
        try:
            forward.write(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + body)
            writer.write(await behind.read())
            await writer.drain()
        finally:
            forward.close()
        return False

    async def close(self) -> None:
        for task in self._handling:
            task.cancel()
        await asyncio.gather(*self._handling, return_exceptions=True)


@asynccontextmanager
async def gateway(
    service: str, bytes_per_s: float, patience_s: float, buffer_bytes: int = 64 << 10
) -> AsyncIterator[Gateway]:
    """`buffer_bytes`: what its kernel takes of each connection before anybody reads it."""
    one = Gateway(service, bytes_per_s, patience_s)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    server = await asyncio.start_server(one.handle, sock=listener, limit=PIECE_BYTES * 2)
    one.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        yield one
    finally:
        server.close()
        await one.close()
