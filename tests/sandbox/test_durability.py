"""Nothing acknowledged is lost and nothing is there by half, whenever the process is killed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from batcher.sandbox import Sandbox
from batcher.sandbox.__main__ import main

from .api import IMAGE, PNG, Api, data_uri, id_of, items_of, open_api
from .conftest import Serve

pytestmark = pytest.mark.anyio

SIZES = (700, 40_000, 150_000, 1_500_000)  # inline, inline, a file on the fast path, a file on the streaming path


@asynccontextmanager
async def process(folder: Path, *arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """`python -m batcher.sandbox` and its address."""
    command = [sys.executable, "-m", "batcher.sandbox", "--dir", str(folder), "--quiet", *arguments]
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert child.stdout is not None
        line = (await child.stdout.readline()).decode()
        yield child, line.removeprefix("sandbox: ").strip()
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.communicate()


async def upload_until_killed(api: Api, flow_id: str, worker: int, acknowledged: dict[str, str]) -> None:
    """Uploads of several sizes, one after the other; notes what was acknowledged, by tag."""
    for number in range(10_000):
        content = PNG + os.urandom(SIZES[(worker + number) % len(SIZES)])
        tag = f"{worker}-{number}"
        try:
            status, _ = await api.upload(flow_id, data_uri(content), additional={"tag": tag})
        except (aiohttp.ClientError, ConnectionError):
            return
        assert status == 200
        acknowledged[tag] = hashlib.sha256(content).hexdigest()


async def kill_and_judge(folder: Path, delay_s: float) -> None:
    acknowledged: dict[str, str] = {}
    async with process(folder) as (child, url), open_api(url) as api:
        flow_id = await api.create()
        workers = [asyncio.create_task(upload_until_killed(api, flow_id, n, acknowledged)) for n in range(8)]
        await asyncio.sleep(delay_s)
        child.send_signal(signal.SIGKILL)
        await asyncio.gather(*workers)
    assert acknowledged
    async with Sandbox(folder) as sandbox, open_api(sandbox.url) as api:
        recorded = await api.recorded_inputs(flow_id)
        found = {item["additional"]["tag"]: item["sha256"] for item in recorded}
        assert len(found) == len(recorded)
        assert acknowledged.items() <= found.items()
        assert len(found) - len(acknowledged) <= 8  # committed, but the reply did not get out any more
        for item in await api.inputs(flow_id):
            single = await api.ok("GET", f"/flows/{flow_id}/inputs/{item['id']}")
            content = base64.b64decode(single["data"].partition(",")[2], validate=True)
            assert hashlib.sha256(content).hexdigest() == found[item["additional"]["tag"]]
        files = {entry.name for entry in (folder / "assets").iterdir()}
        assert files == {item["asset_id"] for item in recorded if item["bytes"] > 64 * 1024}
        assert [*(folder / "spool").iterdir()] == []


async def test_every_acknowledged_upload_survives_kill_9_and_no_half_one_does(tmp_path: Path) -> None:
    await kill_and_judge(tmp_path, 0.5)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_the_same_at_many_moments(tmp_path: Path) -> None:
    rng = random.Random(7)
    for run in range(40):
        await kill_and_judge(tmp_path / str(run), rng.uniform(0.05, 1.0))


async def test_flows_go_on_while_the_sandbox_is_down(serve: Serve) -> None:
    async with serve(processing_s=0.3) as api:
        flow_id = await api.started(IMAGE, {"additional": "mine"})
        waiting = await api.create(additional={"n": 1}, parameters={"quality": "low"})
        gone = await api.create()
        await api.delete(gone)
        before = await api.flow(waiting)
    await asyncio.sleep(0.3)
    async with serve(processing_s=99) as api:
        assert (await api.flow(flow_id))["state"] == "completed"
        assert [item["additional"] for item in await api.outputs(flow_id)] == ["mine"]
        assert await api.flow(waiting) == before
        assert [id_of(flow) for flow in items_of(await api.ok("GET", "/flows"))] == [flow_id, waiting]
        record = (await api.record())["flows"]
        assert [(flow["starts"], flow["deleted"]) for flow in record] == [(1, False), (0, False), (0, True)]


async def test_an_upload_that_is_broken_off_leaves_nothing(serve: Serve, tmp_path: Path) -> None:
    async with serve() as api:
        flow_id = await api.create()
        host, port = api.url.removeprefix("http://").split(":")
        for part in (100, 1_000_000):
            _, writer = await asyncio.open_connection(host, int(port))
            head = f"POST /flows/{flow_id}/inputs HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n"
            writer.write(head.encode() + b'{"data":"data:image/png;base64,' + b"A" * part)
            await writer.drain()
            await asyncio.sleep(0.1)
            writer.close()
        await asyncio.sleep(0.2)
        assert await api.recorded_inputs(flow_id) == []
        assert [*(tmp_path / "sandbox" / "spool").iterdir()] == []
        requests = (await api.ok("GET", "/_sandbox/requests"))["requests"]
        assert [each["hung_up"] for each in requests if each["endpoint"] == "upload"] == [True, True]


async def test_refused_and_deleted_contents_leave_no_file(serve: Serve, tmp_path: Path) -> None:
    async with serve() as api:
        flow_id = await api.create()
        large = bytes(500_000)
        assert (await api.upload(flow_id, data_uri(large, "text/html")))[0] == 422
        assert (await api.upload("unknown", data_uri(large)))[0] == 404
        assert (await api.upload(flow_id, data_uri(large)))[0] == 200
        assert len([*(tmp_path / "sandbox" / "assets").iterdir()]) == 1
        await api.delete(flow_id)
        assert [*(tmp_path / "sandbox" / "assets").iterdir()] == []
        assert [*(tmp_path / "sandbox" / "spool").iterdir()] == []


async def test_a_folder_is_served_by_one_sandbox_at_a_time(serve: Serve) -> None:
    async with serve():
        with pytest.raises(BlockingIOError):
            async with serve():
                pass
    async with serve():
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_process_stops_cleanly_even_with_a_hanging_client(tmp_path: Path, number: signal.Signals) -> None:
    async with process(tmp_path, "--fault", "flows:lost_reply=hang") as (child, url), open_api(url) as api:
        hanging = asyncio.create_task(api.call("GET", "/flows"))
        await api.create()
        child.send_signal(number)
        async with asyncio.timeout(5):
            assert await child.wait() == 0
        with pytest.raises(aiohttp.ClientError):
            await hanging


@pytest.mark.parametrize(
    "arguments",
    [["--fault", "upload:stal"], ["--reading", "id=x"], ["--faults", "none.yaml"], ["--processing", "x"], ["--huh"]],
)
def test_wrong_usage_is_code_2(tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: object = main(["--dir", str(tmp_path), *arguments])
    except SystemExit as stop:  # argparse's own
        code = stop.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err


def test_it_listens_on_loopback_only(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="loopback"):
        Sandbox(tmp_path, host="0.0.0.0")
