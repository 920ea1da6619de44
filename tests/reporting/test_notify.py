"""Pings and hooks: in order, bounded, without the key; and never a reason for another exit code."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from batcher.core.model import Notify
from batcher.reporting import notify as module
from batcher.reporting import ping
from batcher.reporting.notify import Notifier, hook_environment
from batcher.reporting.ping import ping_url
from batcher.service.credentials import Mask

pytestmark = pytest.mark.anyio

KEY = "the-key-of-this-test"
REPORT = {"exit_code": 3, "flows": {"total": 2, "started_now": 1}, "problems": []}


class Pings:
    """A service of pings on loopback; `replies` are the statuses it gives, 200 when they are spent."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.headers: list[str] = []
        self.replies: list[int] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.seen.append((request.path_qs, await request.text()))
        self.headers.append(str(request.headers))
        status = self.replies.pop(0) if self.replies else 200
        return web.Response(status=status, headers={"Location": "/elsewhere"} if 300 <= status < 400 else {})


@pytest.fixture
async def pings(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pings]:
    monkeypatch.setattr(ping, "PING_PAUSES_S", (0.01, 0.01))
    pings = Pings()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", pings.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    pings.url = f"http://127.0.0.1:{runner.addresses[0][1]}/secret-id"
    yield pings
    await runner.cleanup()


def notifier(notify: Notify, folder: Path, said: list[str]) -> Notifier:
    mask = Mask()
    mask.add(KEY)
    inherited = {**os.environ, "GENERIO_API_KEY": KEY, "GENERIO_API_KEY_FILE": "k", "OTHER": f"Bearer {KEY}"}
    return Notifier(notify, str(folder), ca_file=None, inherited=inherited, more={"BATCHER_MANIFEST": "/m.yaml"}, clean=mask,
                    complain=said.append)  # fmt: skip


def test_the_way_is_put_before_the_query() -> None:
    assert ping_url("https://h/ping/x?create=1", "/start") == "https://h/ping/x/start?create=1"
    assert ping_url("https://h/x/", "") == "https://h/x"


@pytest.mark.parametrize(("outcome", "path"), [("success", ""), ("problem", "/log"), ("failure", "/fail")])
async def test_a_start_and_an_end_arrive_in_order(pings: Pings, tmp_path: Path, outcome: str, path: str) -> None:
    said: list[str] = []
    told = notifier(Notify(pings.url), tmp_path, said)
    told.begin()
    await told.end(outcome, f"it said {KEY}", REPORT)  # type: ignore[arg-type]
    assert pings.seen == [("/secret-id/start", ""), (f"/secret-id{path}", "it said [key]")]
    assert said == []
    assert not any(KEY in headers or "Authorization" in headers for headers in pings.headers)


@pytest.mark.parametrize(
    ("replies", "asked", "why"),
    [([503, 500], 3, None), ([503] * 3, 3, "503"), ([404], 1, "404"), ([302], 1, "302, and no redirect is followed")],
)
async def test_a_ping_is_tried_a_few_times_and_goes_nowhere_else(
    pings: Pings, tmp_path: Path, replies: list[int], asked: int, why: str | None
) -> None:
    said: list[str] = []
    pings.replies = replies
    await notifier(Notify(pings.url), tmp_path, said).end("success", "", REPORT)
    assert [path for path, _ in pings.seen] == ["/secret-id"] * asked
    assert len(said) == (why is not None)
    if why is not None:
        assert why in said[0]
        assert "secret-id" not in said[0], "the address is a secret of a kind"


async def test_a_ping_that_nobody_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ping, "PING_PAUSES_S", (0.01, 0.01))
    monkeypatch.setattr(ping, "PING_S", 0.2)
    said: list[str] = []
    silent: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda reader, writer: silent.append(writer), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        await notifier(Notify(f"http://127.0.0.1:{port}/x"), tmp_path, said).end("success", "", REPORT)
        for writer in silent:
            writer.close()
    await notifier(Notify(f"http://127.0.0.1:{port}/x"), tmp_path, said).end("failure", "", REPORT)
    assert said[0] == "notify.ping: 127.0.0.1 could not be told: no answer in time"
    assert said[1].startswith("notify.ping: 127.0.0.1 could not be told (/fail): ")


async def test_a_hook_finds_the_outcome_and_no_key(tmp_path: Path) -> None:
    said: list[str] = []
    line = "env >env; cat $BATCHER_REPORT >report; ls -ld $(dirname $BATCHER_REPORT) >mode; pwd >where"
    told = notifier(Notify(on_success="touch wrong", on_failure=line), tmp_path, said)
    await told.end("failure", "", REPORT)
    env = (tmp_path / "env").read_text().splitlines()
    for wanted in ("BATCHER_EXIT_CODE=3", "BATCHER_OUTCOME=failure", "BATCHER_MANIFEST=/m.yaml", "BATCHER_FLOWS_TOTAL=2",
                   "BATCHER_FLOWS_STARTED_NOW=1"):  # fmt: skip
        assert wanted in env
    assert not any("GENERIO" in word or KEY in word for word in env)
    assert (tmp_path / "report").read_text() == '{"exit_code": 3, "flows": {"total": 2, "started_now": 1}, "problems": []}'
    assert (tmp_path / "mode").read_text().startswith("drwx------")
    assert (tmp_path / "where").read_text().strip() == str(tmp_path)
    report = next(word.split("=")[1] for word in env if word.startswith("BATCHER_REPORT="))
    assert not Path(report).exists()
    assert not (tmp_path / "wrong").exists()
    assert said == []


async def test_a_hook_speaks_only_if_it_fails(tmp_path: Path) -> None:
    said: list[str] = []
    words = ("/bin/sh", "-c", "seq 9999; echo alas >&2; exit 4")
    hooks = Notify(on_success="echo fine", on_failure=words, on_problem="kill -9 $$")
    told = notifier(hooks, tmp_path, said)
    await told.end("success", "", REPORT)
    assert said == []
    await told.end("failure", "", REPORT)
    assert said[0].startswith("notify.command.on_failure ended with 4:\n")
    assert said[0].endswith("9999\nalas")
    assert len(said[0]) < 5000
    await told.end("problem", "", REPORT)
    assert said[1] == "notify.command.on_problem was ended by signal 9"
    await notifier(Notify(on_success=("/none/such",)), tmp_path, said).end("success", "", REPORT)
    assert said[2] == "notify.command.on_success cannot be run: No such file or directory"


async def test_a_hook_is_bounded_with_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HOOK_S", 0.3)
    monkeypatch.setattr(module, "HOOK_GRACE_S", 0.3)
    said: list[str] = []
    line = "trap '' TERM; sleep 600 & echo $! >pid; wait; wait; sleep 600"
    began = time.monotonic()
    await notifier(Notify(on_success=line), tmp_path, said).end("success", "", REPORT)
    assert time.monotonic() - began < 30
    assert said == ["notify.command.on_success was ended after 0.3 s"]
    child = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    until = time.monotonic() + 10
    while child.exists() and child.read_text().split(") ")[1][0] != "Z":
        assert time.monotonic() < until, "what the hook started goes on"
        await asyncio.sleep(0.02)


async def test_a_hook_that_leaves_a_process_behind_holds_nobody_up(tmp_path: Path) -> None:
    said: list[str] = []
    began = time.monotonic()
    await notifier(Notify(on_success="sleep 600 & echo $! >pid"), tmp_path, said).end("success", "", REPORT)
    os.kill(int((tmp_path / "pid").read_text()), 9)
    assert time.monotonic() - began < 30
    assert said == []


def test_a_key_is_taken_out_of_the_environment_in_any_spelling() -> None:
    mask = Mask()
    mask.add(KEY)
    given = {"A": KEY.upper(), "B": KEY.encode().hex(), "PATH": "/bin", "GENERIO_API_KEY": "", "BATCHER_STATE": "s"}
    assert hook_environment(given, mask, {}, {"BATCHER_EXIT_CODE": "0"}) == {
        "PATH": "/bin", "BATCHER_STATE": "s", "BATCHER_EXIT_CODE": "0",
    }  # fmt: skip
