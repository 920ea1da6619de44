"""Servers that the sandbox is not: one that only writes down what it is told, and one with a listing that goes on elsewhere."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Listener:
    """A server on loopback. `heard` holds the request line, the headers and the body of everything that came."""

    def __init__(self, answers: dict[str, Any] | None = None, status: int = 502) -> None:
        heard: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                heard.append(f"{self.requestline}\n{self.headers}\n{body.decode(errors='replace')}")
                found = (answers or {}).get(self.path.partition("?")[0])
                content = json.dumps(found).encode()
                self.send_response(status if found is None else 200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PATCH = do_DELETE = do_CONNECT = answer  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.heard = heard
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@contextlib.contextmanager
def listening(answers: dict[str, Any] | None = None, status: int = 502) -> Iterator[Listener]:
    listener = Listener(answers, status)
    thread = threading.Thread(target=listener.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield listener
    finally:
        listener.server.shutdown()
        thread.join()
        listener.server.server_close()
