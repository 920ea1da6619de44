"""Hosts with a network of their own: namespaces of Linux, two switches between them, and cables that a test can pull.

Each host has one cable to the switch `web`, behind which the service is, and one to the switch `base`, behind which the
database is. Where a cable is pulled nobody is told: what is sent is gone, as with a switch that has lost its power.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self, TypeVar

import pytest

from tests.certificates import certificate, serving_as
from tests.postgres import Server

SWITCHES: Final = {"web": "10.77.1", "base": "10.77.2"}  # and the first three numbers of the addresses there
MIDDLE: Final = 1  # the last one of whoever is behind the switches
HOST: Final = 10  # the last one of the first host
CLONE_NEWNET: Final = 0x40000000
T = TypeVar("T")


class Network:
    """`count` hosts. A context manager; skips where namespaces may not be made."""

    def __init__(self, count: int) -> None:
        if os.geteuid() != 0 or shutil.which("ip") is None:
            pytest.skip("network namespaces need root and `ip`")
        self.count = count
        self._middle = f"batcher-{os.getpid()}"
        self._hosts = [f"{self._middle}-{number}" for number in range(count)]
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as made:
            try:
                self._make(made)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"network namespaces may not be made here: {error.stderr.strip()}")
            self._stack = made.pop_all()
        return self

    def _make(self, made: contextlib.ExitStack) -> None:
        for name in (self._middle, *self._hosts):
            _ip("netns", "add", name)
            made.callback(_ip, "netns", "del", name)
            _ip("-n", name, "link", "set", "lo", "up")
        for switch, net in SWITCHES.items():
            _ip("-n", self._middle, "link", "add", switch, "type", "bridge")
            _ip("-n", self._middle, "address", "add", f"{net}.{MIDDLE}/24", "dev", switch)
            _ip("-n", self._middle, "link", "set", switch, "up")
            for number, host in enumerate(self._hosts):
                port = f"{switch}{number}"
                _ip("-n", self._middle, "link", "add", port, "type", "veth", "peer", "name", switch, "netns", host)
                _ip("-n", host, "address", "add", f"{net}.{HOST + number}/24", "dev", switch)
                _ip("-n", host, "link", "set", switch, "up")
                _ip("-n", self._middle, "link", "set", port, "master", switch, "up")

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def at(self, number: int) -> list[str]:
        """What a command begins with that is to run on this host."""
        return ["ip", "netns", "exec", self._hosts[number]]

    def pull(self, number: int, switch: str) -> None:
        """This host's cable."""
        _ip("-n", self._middle, "link", "set", f"{switch}{number}", "nomaster")

    def plug(self, number: int, switch: str) -> None:
        _ip("-n", self._middle, "link", "set", f"{switch}{number}", "master", switch)

    def in_the_middle(self, work: Callable[[], T]) -> T:
        """Do this where the service and the database are: in a thread of its own, for a thread has one namespace, and what it
        starts or opens has the same."""

        def entered() -> T:
            with open(f"/run/netns/{self._middle}") as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            return work()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(entered).result()

    def move(self, server: Server) -> str:
        """The database listens behind its switch from now on; its address there."""
        net = SWITCHES["base"]
        with open(Path(server.made.pgdata) / "pg_hba.conf", "a") as rules:
            rules.write(f"host all all {net}.0/24 trust\n")
        options = f"-h {net}.{MIDDLE} -k {server.folder}"
        server.control("stop", "-m", "fast")
        self.in_the_middle(lambda: server.control("start", "-o", options, "-l", str(server.made.log)))
        return f"postgresql://postgres@{net}.{MIDDLE}/postgres"

    def bring(self, url: str, folder: Path) -> Gateway:
        """What listens at this address on loopback, behind the switch `web`, over TLS; its certificate goes to the folder."""
        host = f"{SWITCHES['web']}.{MIDDLE}"
        pem = certificate(f"IP:{host}", folder)
        listening = self.in_the_middle(lambda: socket.create_server((host, 0)))
        return Gateway(listening, int(url.rpartition(":")[2]), pem)


class Gateway:
    """Takes TLS where it listens, and hands on what is in it to a port of loopback. A context manager."""

    def __init__(self, listening: socket.socket, port: int, pem: Path) -> None:
        self._listening = listening
        self._port = port
        self.pem = pem
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        host, number = listening.getsockname()
        self.url = f"https://{host}:{number}"

    def __enter__(self) -> Self:
        self._thread.start()
        serving = asyncio.start_server(self._serve, sock=self._listening, ssl=serving_as(self.pem))
        self._server = asyncio.run_coroutine_threadsafe(serving, self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, ahead = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.wait({asyncio.ensure_future(_pass(reader, ahead)), asyncio.ensure_future(_pass(behind, writer))})

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
