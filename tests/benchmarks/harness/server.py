"""The benchmark server as a Python object: compile it, start it, ask it, stop it.

In: `server.c` and its options. Out: figures as `Stats` and `Timeline`. Called by every part and by test_server.py.
"""

from __future__ import annotations

import atexit
import http.client
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

SOURCE = Path(__file__).parent.parent / "server.c"
IN_PYTHON = Path(__file__).parent.parent / "python_server.py"
NO_COMPILER = "no C compiler: the benchmark server is written in C (install one that is called cc, gcc or clang)"


class BenchError(Exception):
    """The benchmark cannot be run, or a run did not do its work; the message says which and why."""


def compiler() -> str | None:
    return next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)


@cache
def executable() -> str:
    """The compiled server, once per process. Raises BenchError without a compiler or if it does not compile."""
    if (cc := compiler()) is None:
        raise BenchError(NO_COMPILER)
    folder = tempfile.mkdtemp(prefix="batcher-bench-server-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    target = Path(folder, "server")
    done = subprocess.run([cc, "-O2", "-o", target, SOURCE], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{SOURCE.name} does not compile with {cc}:\n{done.stderr}")
    return str(target)


@dataclass(frozen=True, slots=True)
class Stats:
    """What the server saw since the last reset. Moments are of `time.monotonic()`; 0 is "not yet"."""

    by_kind: dict[str, int]  # requests that came
    accepted: dict[str, int]  # of these, answered with 200
    requests: int
    refused: int  # 503
    rejected: int  # 4xx
    mismatches: int  # bodies that were not as long as Content-Length said
    bad_inputs: int
    double_starts: int
    connections: int
    body_bytes: int
    data_bytes: int  # lengths of the `data` strings of accepted inputs
    in_flight: int
    max_in_flight: int
    max_open_flows: int  # created, and neither started nor deleted
    cpu_s: float
    first_request_s: float
    first_upload_s: float
    first_start_s: float
    last_reply_s: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """Counts per `bucket_ms` from the first request on; `moves` are (second, new capacity)."""

    bucket_ms: int
    moves: list[tuple[float, int]]
    arrived: list[int]
    accepted: list[int]
    refused: list[int]
    bytes: list[int]


class FlowsServer:
    """A context manager: the server runs inside it, on a free port of the loopback."""

    def __init__(
        self,
        *,
        latency_ms: float = 0,
        p503: float = 0,
        capacity: int = 0,
        mode: str = "503",
        seed: int = 1,
    ) -> None:
        self._command = [executable(), "--port", "0", "--seed", str(seed), "--latency-ms", str(latency_ms)]
        self._command += ["--p503", str(p503), "--capacity", str(capacity), "--mode", mode]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait(10)
        assert self._process.stdout
        self._process.stdout.close()

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request on a connection of its own: (status, decoded reply)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            reply = connection.getresponse()
            text = reply.read()
            return reply.status, json.loads(text) if text else None
        finally:
            connection.close()

    def stats(self) -> Stats:
        return Stats(**self.ask("GET", "/stats")[1])

    def timeline(self) -> Timeline:
        return Timeline(**self.ask("GET", "/timeline")[1])

    def reset(self) -> None:
        """Forgets flows and figures; identifiers begin at 1 again."""
        self.ask("POST", "/reset")

    def set_capacity(self, requests: int, mode: str) -> None:
        self.ask("POST", f"/capacity?n={requests}&mode={mode}")

    def wait_for(self, condition: Callable[[Stats], bool], timeout_s: float) -> Stats:
        """Polls every 20 ms until `condition` holds. Raises BenchError after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if condition(stats := self.stats()):
                return stats
            time.sleep(0.02)
        raise BenchError(f"the server did not see what was waited for within {timeout_s} s")


class PythonServer(FlowsServer):
    """The same written in Python: it takes a core of its own, as a small service does."""

    def __init__(self) -> None:
        self._command = [sys.executable, str(IN_PYTHON)]
