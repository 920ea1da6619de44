"""Inputs on a web server: on loopback, over plain http, which is as far as that may go."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from functools import partial

import anyio
import pytest
from aiohttp import web

from batcher.core.model import ABSENT, Input, ObjectSource, Place, Problem
from batcher.core.objects import shown, spelled
from batcher.core.planning import Change, InputPlan
from batcher.objects.client import objects
from batcher.sources.bodies import StreamBody
from batcher.sources.dispatch import AllSources

from .stores import PNG

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("brisk")]
SIGNATURE = "X-Amz-Signature=do-not-show-me"


@pytest.fixture
def sources() -> Iterator[AllSources]:
    objects()._down.clear()
    with closing(AllSources(0, lambda: 0.0)) as made:
        yield made


class Server:
    """One object, at /a.png; `how` it is served."""

    def __init__(self, content: bytes, *how: str) -> None:
        self.content, self.how = content, set(how)
        self.asked: list[dict[str, str]] = []
        self.cuts = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.headers) | {"query": request.query_string})
        if "signed" in self.how and request.query_string != SIGNATURE:
            return web.Response(status=403)
        if request.method == "HEAD":
            return web.Response(status=403)
        tag = f'"{hashlib.md5(self.content).hexdigest()}"'
        about = {"ETag": tag} if "tagged" in self.how else {}
        if "dated" in self.how:
            about["Last-Modified"] = "Sun, 29 Nov 2026 10:00:00 GMT"
        if request.headers.get("If-Match", tag) != tag:
            return web.Response(status=412)
        wanted = request.http_range
        if "ranges" in self.how and wanted.start is not None:
            part = self.content[wanted.start : wanted.stop]
            about["Content-Range"] = f"bytes {wanted.start}-{wanted.start + len(part) - 1}/{len(self.content)}"
            return web.Response(status=206, body=part, headers=about)
        response = web.StreamResponse(headers=about)
        if "length" in self.how:
            response.content_length = len(self.content)
        else:
            response.enable_chunked_encoding()
        await response.prepare(request)
        if "cut" in self.how and self.cuts == 0 and len(self.content) > 400_000:
            self.cuts += 1
            await response.write(self.content[:400_000])
            assert request.transport is not None
            request.transport.abort()
            return response
        await response.write(self.content)
        return response

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_route("*", "/a.png", self.answer)
        app.router.add_get("/moved.png", partial(_moved, "/a.png"))
        app.router.add_get("/away.png", partial(_moved, "http://example.com/a.png"))
        app.router.add_get("/round.png", partial(_moved, "/round.png"))
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


async def _moved(place: str, request: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": place})


def item(url: str) -> Input:
    return Input(shown(url), ObjectSource(url), None, ABSENT, Place("m.yaml", 7, 5))


async def in_thread(work: Callable[..., object], *values: object) -> object:
    return await anyio.to_thread.run_sync(partial(work, *values))


async def planned(sources: AllSources, url: str) -> InputPlan:
    one = item(url)
    file_stat, mime = await in_thread(sources.look, one), await in_thread(sources.mime, one, ("image/png",))
    assert not isinstance(file_stat, Problem), file_stat
    assert isinstance(mime, str), mime
    return InputPlan(one, b"k" * 16, file_stat, mime, b"m", Change.NEW, None)  # type: ignore[arg-type]


async def sent(sources: AllSources, plan: InputPlan) -> tuple[bytes, Problem | None]:
    body = await in_thread(sources.body, plan)
    if isinstance(body, Problem):
        return b"", body
    if isinstance(body, StreamBody):
        return b"".join([chunk async for chunk in body.chunks()]), body.fault
    return base64.b64decode(base64.b64encode(body.content)), None  # type: ignore[attr-defined]


HOWS = [("tagged", "ranges", "length"), ("tagged", "length"), ("dated", "length"), ("tagged",), ("length",), ()]


@pytest.mark.parametrize("size", [300, 900_000])
@pytest.mark.parametrize("how", HOWS)
async def test_every_kind_of_server_is_read(sources: AllSources, how: tuple[str, ...], size: int) -> None:
    """With a length or without, by its ETag, its date, or its content."""
    server = Server(PNG + os.urandom(size), *how)
    async with server.served() as url:
        plan = await planned(sources, f"{url}/a.png")
        assert plan.stat.size == len(server.content)
        data, fault = await sent(sources, plan)
        assert fault is None
        assert base64.b64decode(json.loads(data)["data"].partition(",")[2]) == server.content
        again = await planned(sources, f"{url}/a.png")
        assert again.stat == plan.stat
        if "dated" not in how:  # which has seconds only
            server.content = PNG + os.urandom(size)
            changed = await planned(sources, f"{url}/a.png")
            assert changed.stat != plan.stat
            _, fault = await sent(sources, plan)
            assert fault is not None
            assert "changed while it was read" in fault.message


@pytest.mark.parametrize("swapped", [False, True])
async def test_body_that_is_cut_is_read_on_of_the_same_object_only(sources: AllSources, swapped: bool) -> None:
    server = Server(PNG + os.urandom(900_000), "tagged", "ranges", "length", "cut")
    async with server.served() as url:
        plan = await planned(sources, f"{url}/a.png")
        if swapped:
            server.how.discard("ranges")  # it gives another answer than the rest of what it gave
        data, fault = await sent(sources, plan)
        assert server.cuts == 1
        assert int(server.asked[-1]["Range"].removeprefix("bytes=").removesuffix("-")) > 0
        assert server.asked[-1]["If-Match"]
        assert (fault is not None) == swapped
        if fault is None:
            assert base64.b64decode(json.loads(data)["data"].partition(",")[2]) == server.content


async def test_signed_address_is_asked_with_its_query_and_shown_without(sources: AllSources) -> None:
    server = Server(PNG + os.urandom(300), "tagged", "length", "signed")
    async with server.served() as url:
        plan = await planned(sources, spelled(f"{url}/a.png?{SIGNATURE}"))
        _, fault = await sent(sources, plan)
        assert fault is None
        assert {one["query"] for one in server.asked} == {SIGNATURE}
        assert not any("Authorization" in one for one in server.asked)
        assert plan.input.label == f"{url}/a.png"
        assert "do-not-show-me" not in repr(plan)
        problem = await in_thread(sources.look, item(f"{url}/a.png?X-Amz-Signature=do-not-show-me-expired"))
        assert isinstance(problem, Problem)
        assert "may not be read (403)" in problem.message
        assert "do-not-show-me" not in str(problem)


@pytest.mark.parametrize(
    ("path", "words"),
    [("away.png", "redirected to what is not https"), ("round.png", "redirected more than 5 times"),
     ("none.png", "is not there")],
)  # fmt: skip
async def test_where_a_redirect_may_not_lead_it_is_said(sources: AllSources, path: str, words: str) -> None:
    async with Server(PNG, "length").served() as url:
        problem = await in_thread(sources.look, item(f"{url}/{path}"))
        assert isinstance(problem, Problem)
        assert problem.kind == "source"
        assert words in problem.message


async def test_redirect_is_followed(sources: AllSources) -> None:
    server = Server(PNG + b"x", "tagged", "length")
    async with server.served() as url:
        assert (await planned(sources, f"{url}/moved.png")).stat.size == 9
