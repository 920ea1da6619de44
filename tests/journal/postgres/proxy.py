"""Something between a journal and its server that a test can cut, hold still, or have lose a reply."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from batcher.journal.postgres.address import DatabaseAddress

NAME = ".s.PGSQL.5432"


class Proxy:
    """Listens on a socket in `folder` for what is to reach the server at `behind`. `lose` says of the bytes that a client has
    sent whether the reply to them gets lost, with the connection. While `still` is set nothing passes, and nobody is told."""

    def __init__(self, folder: Path, behind: Path, lose: Callable[[bytes], bool] = lambda sent: False) -> None:
        self._behind = str(behind / NAME)
        self._lose = lose
        self.moves = threading.Event()
        self.moves.set()
        self.lost = 0
        self._open: list[socket.socket] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(folder / NAME))
        self._listening.listen(50)
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._behind)
                self._open += [client, server]
                losing = threading.Event()
                for source, target, asks in ((client, server, True), (server, client, False)):
                    self._start(self._pass, source, target, asks, losing)

    def _pass(self, source: socket.socket, target: socket.socket, asks: bool, losing: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self.moves.wait()
                if asks and self._lose(data):
                    losing.set()
                elif not asks and losing.is_set():
                    self.lost += 1
                    break
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.moves.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join()
        for one in (*self._open, self._listening):
            one.close()


def through(address: DatabaseAddress, folder: Path) -> DatabaseAddress:
    """The same database, through the proxy in this folder."""
    return DatabaseAddress(
        tuple((name, str(folder) if name == "host" else value) for name, value in address.parameters), address.schema
    )
