"""Ways to the service that are wrong for good: each is said at once, with what to do, and no password of a proxy is shown."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from batcher.core.errors import Reason
from batcher.core.remote import StartReply
from batcher.core.retry import Call, Fault, FaultKind, Kind, Reply, Verdict, classify
from batcher.pipeline.access import stop_of
from batcher.service.client import FlowsApi
from batcher.service.credentials import Key
from tests.certificates import certificate, serving_as

from .serving import OK

pytestmark = pytest.mark.anyio
PASSWORD = "pass-word-9"


@asynccontextmanager
async def listening(answer: bytes, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that says the same to every head, and its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await reader.read(1 << 16)
            writer.write(answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """PEM files, certificate and key in one, by the host that they are for."""
    folder = tmp_path_factory.mktemp("certificates")
    return {host: certificate(f"DNS:{host}", folder) for host in ("localhost", "flows.example")}


async def asked(endpoint: str, ca_file: str | None = None) -> StartReply | Reply | Fault:
    async with FlowsApi(endpoint, Key(lambda: "k" * 9), timeout_s=5, connections=2, ca_file=ca_file) as client:
        found = await client.start("f", lambda: None)
        assert isinstance(found, StartReply | Reply | Fault)
        return found


def no_way(found: StartReply | Reply | Fault, words: str, hint: str) -> None:
    assert isinstance(found, Fault)
    assert found.kind is FaultKind.NO_WAY
    assert words in found.message
    assert hint in found.hint
    assert PASSWORD not in found.message + found.hint
    assert classify(Call.UPLOAD, found) == Verdict(Kind.NO_WAY, found.message, hint=found.hint)


async def test_certificates_that_do_not_verify(certificates: dict[str, Path]) -> None:
    own, other = certificates["localhost"], certificates["flows.example"]
    async with listening(OK, serving_as(own)) as port:
        no_way(await asked(f"https://localhost:{port}"), "certificate of localhost does not verify", "--ca-file")
        assert await asked(f"https://localhost:{port}", str(own)) == StartReply("")
    async with listening(OK, serving_as(other)) as port:
        no_way(await asked(f"https://localhost:{port}", str(other)), "mismatch", "check the endpoint's address")


async def test_tls_where_there_is_none() -> None:
    async with listening(OK) as port:
        no_way(await asked(f"https://127.0.0.1:{port}"), "does not speak TLS", "http or https")


async def test_a_name_that_does_not_exist_and_one_that_cannot_be_asked_for_now(monkeypatch: pytest.MonkeyPatch) -> None:
    code = socket.EAI_NONAME

    async def look_up(*names: object, **more: object) -> None:
        raise socket.gaierror(code, "not found")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up, raising=False)
    monkeypatch.setattr("aiohttp.resolver.DefaultResolver", "aiohttp.resolver.ThreadedResolver", raising=False)
    no_way(await asked("https://flows.example"), "there is no host flows.example", "online")
    code = socket.EAI_AGAIN
    found = await asked("https://flows.example")
    assert isinstance(found, Fault)
    assert found.kind is FaultKind.NOT_CONNECTED, "temporary"
    code = socket.EAI_NONAME
    async with FlowsApi("https://flows.example", Key(lambda: None), timeout_s=5, connections=2) as client:
        client._transport.reached = True
        later = await client.start("f", lambda: None)
    assert isinstance(later, Fault)
    assert later.kind is FaultKind.NOT_CONNECTED, "it was there a moment ago"


def through(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, proxy)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("status", "words", "hint"),
    [(407, "another user or password", "USER:PASSWORD@HOST"), (403, "refuses to connect: 403 No", "NO_PROXY"),
     (405, "refuses to connect", "HTTPS_PROXY")],
)  # fmt: skip
async def test_a_proxy_that_says_no(monkeypatch: pytest.MonkeyPatch, status: int, words: str, hint: str) -> None:
    async with listening(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()) as port:
        through(monkeypatch, f"http://me:{PASSWORD}@127.0.0.1:{port}")
        no_way(await asked("https://flows.example"), words, hint)


async def test_a_proxy_in_trouble_may_be_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(b"HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n") as port:
        through(monkeypatch, f"http://me:{PASSWORD}@127.0.0.1:{port}")
        found = await asked("https://flows.example")
    through(monkeypatch, f"http://me:{PASSWORD}@127.0.0.1:{port}")  # closed by now
    for one in (found, await asked("https://flows.example")):
        assert isinstance(one, Fault)
        assert one.kind is FaultKind.NOT_CONNECTED
        assert "proxy" in one.message
        assert PASSWORD not in one.message


@pytest.mark.parametrize(("lasting", "code"), [(False, Reason.USAGE), (True, Reason.FATAL)])
def test_it_is_the_usage_that_is_wrong_until_something_was_written(lasting: bool, code: Reason) -> None:
    stop = stop_of(Verdict(Kind.NO_WAY, "no host", hint="check it"), has_key=True, lasting=lasting)
    assert (stop.reason, str(stop)) == (code, "no host (check it)")
