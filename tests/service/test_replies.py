"""The client's reading of replies that the documentation leaves open, and its refusal of what cannot be read."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from batcher.core.errors import UsageError
from batcher.core.facts import FileStat
from batcher.core.model import ABSENT, FileSource, Input, Place
from batcher.core.planning import Change, InputPlan
from batcher.core.remote import Listing, RemoteFlow, StartReply, Template
from batcher.core.retry import Call as Calls
from batcher.core.retry import Fault, FaultKind, Kind, Reply, classify
from batcher.service.client import FlowsApi, Key, check_endpoint, is_loopback
from batcher.service.limiter import Bandwidth
from batcher.sources.dispatch import AllSources
from batcher.sources.file_body import WHOLE_BYTES
from batcher.version import __version__

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def answering(
    body: bytes, status: int = 200, headers: dict[str, str] | None = None, key: str = "k"
) -> AsyncIterator[FlowsApi]:
    """A client of a server that gives the same reply to everything."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        return web.Response(body=body, status=status, headers=headers)

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with FlowsApi(url, Key(lambda: key), timeout_s=5, connections=2) as client:
            yield client
    finally:
        await runner.cleanup()


TEMPLATES: list[tuple[object, list[Template]]] = [
    (["a", 1, None], [Template("a", None)]),
    ({"templates": [{"name": "a", "id": "1", "input_types": ["image/png"]}]}, [Template("a", ("image/png",), ("1",))]),
    ([{"template_name": "a", "outputs": ["model/gltf-binary"], "x": ["prompt"]}], [Template("a", ("prompt",))]),
    ([{"template_id": "t", "mime_types": []}, {"input_types": ["a/b"]}], [Template("t", None)]),
]


@pytest.mark.parametrize(("body", "meant"), TEMPLATES)
async def test_templates_are_read_however_they_are_shown(body: object, meant: list[Template]) -> None:
    async with answering(json.dumps(body).encode()) as client:
        found: list[Template] = []
        assert await client.templates(found.append) == Listing()
        assert found == meant


@pytest.mark.parametrize("body", [b"{}", b"1", b'{"templates": 1}', b"", b"<html>"])
async def test_templates_that_are_none_are_not_readable(body: bytes) -> None:
    async with answering(body) as client:
        found = await client.templates(lambda template: None)
        assert isinstance(found, Fault)
        assert classify(Calls.TEMPLATES, found).kind is Kind.UNAVAILABLE


DATA = os.urandom(700_001)
DATA_URI = b'{"id": "x", "data": "data:image/png;base64,' + base64.b64encode(DATA) + b'", "additional": null}'
TEXT = 'A "chair" \\ 日本 \U0001f600'


@pytest.mark.parametrize(
    ("body", "content"),
    [
        (DATA_URI, DATA),
        (DATA_URI.replace(b"/", b"\\/"), DATA),
        (b'{"data":"data:;base64,QUI="}', b"AB"),
        (json.dumps({"data": TEXT}).encode(), TEXT.encode()),
        (json.dumps({"data": TEXT}, ensure_ascii=False).encode(), TEXT.encode()),
        (json.dumps({"data": "x" * 500_000 + "\\"}).encode(), b"x" * 500_000 + b"\\"),
        (b'{"data":""}', b""),
    ],
    ids=("file", "escaped", "short", "text", "utf-8", "long", "empty"),  # not of what they hold, which is drawn by chance
)
async def test_digest_is_of_the_bytes_that_are_shown(body: bytes, content: bytes) -> None:
    async with answering(body) as client:
        assert await client.input_digest("f", "a") == hashlib.sha256(content).digest()


@pytest.mark.parametrize(
    "body", [b"{}", b'{"data":1}', b'{"data":"data:;base64,***"}', b'{"data":"data:;base64,QUI=', b'{"data":"x']
)
async def test_data_that_cannot_be_read_is_a_fault(body: bytes) -> None:
    async with answering(body) as client:
        found = await client.input_digest("f", "a")
        assert isinstance(found, Fault)
        assert (found.kind, found.status) == (FaultKind.CUT_OFF, 200)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"detail": "no"}', "no"),
        (b'{"detail": [{"loc": ["body", 1], "msg": "bad"}, "x", {"msg": "worse"}]}', "body.1: bad; x; worse"),
        (b'{"message": "no"}', "no"),
        (b'{"error": {"code": 422, "message": "no"}}', "no"),
        (b'{"error": {"type": "invalid_request_error", "message": "no"}}', "invalid_request_error: no"),
        (b'{"error": "no"}', "no"),
        (b'{"error": "invalid_scope", "error_description": "no"}', "no"),
        (b'{"errors": [{"field": "data", "message": "bad"}, "worse"]}', "data: bad; worse"),
        (b'{"type": "about:blank", "title": "Forbidden", "status": 403, "detail": "no"}', "Forbidden: no"),
        (b'{"odd": 1}', '{"odd": 1}'),
        (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code><Message>not &amp; never</Message></Error>',
         "AccessDenied: not & never"),
        (b'<Error xmlns="x"><Code>SlowDown</Code></Error>', "SlowDown"),
        (b"<?xml version='1.0'?><a/>", "XML without words"),
        (b"<html>\x1b", "an HTML page"),
        (b"<!DOCTYPE html><title>502</title><message>x</message>", "an HTML page"),
        (b"plain \x1b[1m", "plain \\x1b[1m"),
        (b"x" * 2_000_000, "x" * 300 + "…"),
        (b"y" * 400, "y" * 300 + "…"),
    ],
)
async def test_words_of_a_refusal_are_shown_short_and_harmless(body: bytes, detail: str) -> None:
    async with answering(body, 422, {"Retry-After": "7"}) as client:
        found = await client.start("f", lambda: None)
        assert found == Reply(422, None, True, detail, 7.0)


async def test_redirect_is_said_and_not_followed() -> None:
    async with answering(b"", 307, {"Location": "https://else.example/flows"}) as client:
        found = await client.start("f", lambda: None)
        assert isinstance(found, Reply)
        assert "redirects to else.example" in found.detail


NO_IDS = [b"[]", b'{"state": "created"}', b'{"flow_id": true}', b'{"id": ""}', b'{"id": "\\ud800"}', b'{"id": "a\\nb"}']


@pytest.mark.parametrize("body", NO_IDS)
async def test_create_without_an_id_is_unknown(body: bytes) -> None:
    async with answering(body) as client:
        found = await client.create("t", {}, None, lambda: None)
        assert isinstance(found, Reply)
        verdict = classify(Calls.CREATE, found)
        assert (verdict.kind, verdict.answered) == (Kind.UNKNOWN, True)


async def test_flow_that_is_none_is_not_readable_and_ids_may_be_numbers() -> None:
    async with answering(b"[1]") as client:
        found = await client.flow("f")
        assert isinstance(found, Reply)
        assert not found.readable
    async with answering(b'{"id": 7, "status": "Running"}') as client:
        found = await client.flow("f")
        assert isinstance(found, RemoteFlow)
        assert (found.flow_id, found.state) == ("7", "running")


def test_key_that_cannot_be_read_again_is_the_same_key_and_it_is_never_shown() -> None:
    """Its file vanished between the 401 and the second look: the 401 stands, and nothing crashes."""
    answers: list[object] = ["one", UsageError("gone"), "one", "two"]

    def read() -> str | None:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    key = Key(read)
    assert [key.read_again(), key.read_again(), key.read_again()] == [False, False, True]
    assert key.headers == {"Authorization": "Bearer two"}
    assert "two" not in repr(key)
    assert Key(lambda: None).headers == {}


async def test_plain_http_is_for_loopback_and_proxies_and_certificates_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(map(is_loopback, ("localhost", "127.9.9.9", "[::1]")))
    assert not any(map(is_loopback, ("10.0.0.1", "localhost.evil.example", "")))
    check_endpoint("http://127.0.0.1:80")
    with pytest.raises(UsageError, match="in clear"):
        check_endpoint("http://10.0.0.1")
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    assert FlowsApi("https://flows.example", Key(lambda: None), timeout_s=1, connections=1)._proxy == "http://proxy.example:3128"
    assert FlowsApi("http://127.0.0.1", Key(lambda: None), timeout_s=1, connections=1)._proxy is None
    with pytest.raises(UsageError, match="--ca-file"):
        async with FlowsApi("https://x.example", Key(lambda: None), timeout_s=1, connections=1, ca_file="/none"):
            pass


@pytest.mark.parametrize("bandwidth", [None, 1e9], ids=["one connection's wire", "aiohttp's session"])
async def test_every_request_says_who_asks(tmp_path: Path, bandwidth: float | None) -> None:
    agents: list[str | None] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        async for _ in request.content.iter_any():
            pass
        agents.append(request.headers.get("User-Agent"))
        return web.json_response({})

    path = tmp_path / "a.png"
    path.write_bytes(os.urandom(3 * WHOLE_BYTES))  # it leaves bit by bit
    sources = AllSources(0, time.time)
    what = Input("a.png", FileSource(str(path)), "image/png", ABSENT, Place("m", 1, 1))
    file_stat = sources.look(what)
    assert isinstance(file_stat, FileStat)
    body = sources.body(InputPlan(what, b"k" * 16, file_stat, "image/png", b"m", Change.NEW, None))
    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    cap = Bandwidth(bandwidth, time.monotonic)
    try:
        async with FlowsApi(url, Key(lambda: "k"), timeout_s=5, connections=2, bandwidth=cap) as client:
            assert await client.start("f", lambda: None) == StartReply("")
            assert await client.upload("f", body, lambda: None) == Reply(200, {})
    finally:
        sources.close()
        await runner.cleanup()
    assert agents == [f"batcher/{__version__}"] * 2
@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({}, ""),
        ({"error": None, "message": "", "detail": [], "reason": {}}, ""),
        ({"error": True, "message": "blocked by the moderation"}, "blocked by the moderation"),
        ({"error": "E7", "message": "E7: too dark", "detail": "too dark"}, "E7: too dark"),
        ({"error": {"code": 17, "message": "too dark"}, "status_message": "stage 2"}, "17: too dark: stage 2"),
        ({"errors": [{"loc": ["a"], "msg": "no mesh"}, "no texture"]}, "no mesh; no texture"),
        ({"error": {"stage": "mesh", "why": {"deep": "hole"}}}, "mesh: hole"),
        ({"error": "line\x1b[31m one\nand\ttwo"}, "line\\x1b[31m one and two"),
        ({"error": "Bearer secret-key-7 is odd"}, "Bearer [key] is odd"),
        ({"message": "x" * 5000}, "x" * 300 + "…"),
        ({"error": json.loads("[" * 900 + "]" * 900)}, ""),
    ],
)
async def test_why_a_flow_failed_is_shown_short_and_harmless(members: dict, reason: str) -> None:
    async with answering(json.dumps({"flow_id": "f", "state": "failed", **members}).encode(), key="secret-key-7") as client:
        found = await client.flow("f")
    assert isinstance(found, RemoteFlow)
    assert found.reason == reason
