"""Every fault is seen to do what it says, on the wire and in the record."""

from __future__ import annotations

import asyncio
import json
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from batcher.sandbox import Sandbox, parse_fault

from .api import IMAGE, PNG, Api, data_uri, id_of, items_of, open_api
from .conftest import Serve

pytestmark = pytest.mark.anyio

BODY = json.dumps({"data": data_uri(PNG), "additional": {"n": 1}}).encode()


async def send(api: Api, path: str, body: bytes = BODY, *, part: int | None = None, wait_s: float = 2) -> bytes:
    """What a raw socket gets for a POST of `body`, or of its first `part` bytes. Raises what the connection does."""
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    try:
        writer.write(head.encode() + body[:part])
        async with asyncio.timeout(wait_s):
            return await reader.read()
    finally:
        writer.close()


async def committed(api: Api, flow_id: str) -> int:
    return len(await api.recorded_inputs(flow_id))


async def last_request(api: Api, endpoint: str) -> dict[str, Any]:
    requests = (await api.ok("GET", "/_sandbox/requests"))["requests"]
    last: dict[str, Any] = [each for each in requests if each["endpoint"] == endpoint][-1]
    return last


@pytest.mark.parametrize(
    ("fault", "status", "count"),
    [
        ("upload:status=503", 503, 0),
        ("upload:status=404,body=html", 404, 0),
        ("upload:status=500,body=empty", 500, 0),
        ("upload:error_after_commit=502,body=html", 502, 1),
        ("upload:status=504,when=after", 504, 1),
        ("upload:early_reply=413", 413, 0),
        ("upload:capacity=1,over=429", 200, 1),
    ],
)
async def test_errors_come_before_or_after_the_commit(api: Api, fault: str, status: int, count: int) -> None:
    flow_id = await api.create()
    await api.faults(fault)
    assert (await api.upload(flow_id))[0] == status
    assert await committed(api, flow_id) == count
    assert (await last_request(api, "upload"))["committed"] == bool(count)


async def test_an_early_reply_does_not_wait_for_the_body(api: Api) -> None:
    flow_id = await api.create()
    await api.faults("upload:early_reply=413")
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST /flows/{flow_id}/inputs HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{{".encode())
    async with asyncio.timeout(2):
        assert (await reader.readline()).startswith(b"HTTP/1.1 413")
    writer.close()
    assert await committed(api, flow_id) == 0


async def test_retry_after_is_in_seconds_or_a_date(api: Api) -> None:
    flow_id = await api.create()
    for fault in ("upload:status=429,retry_after=7", "upload:status=503,retry_after=date:7", "upload:status=429"):
        await api.faults(fault)
        async with api.session.post(f"{api.url}/flows/{flow_id}/inputs", data=BODY) as response:
            value = response.headers.get("Retry-After")
        if "date" in fault:
            assert value
            assert 4 < parsedate_to_datetime(value).timestamp() - time.time() < 8
        else:
            assert value == ("7" if "retry_after" in fault else None)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(
    ("fault", "count", "error"),
    [
        ("lost_reply=close", 1, None),
        ("lost_reply=reset", 1, ConnectionResetError),
        ("lost_reply=close,when=before", 0, None),
        ("drop_mid=1", 0, ConnectionResetError),
        ("drop_before=1", 0, ConnectionResetError),
    ],
)
async def test_replies_are_lost_with_and_without_a_commit(
    api: Api, fault: str, count: int, error: type[Exception] | None, large: bool
) -> None:
    flow_id = await api.create()
    await api.faults(f"upload:{fault}")
    body = json.dumps({"data": data_uri(bytes(1_000_000))}).encode() if large else BODY
    if error:
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await send(api, f"/flows/{flow_id}/inputs", body)
    else:
        assert await send(api, f"/flows/{flow_id}/inputs", body) == b""
    assert await committed(api, flow_id) == count


async def test_a_reply_that_hangs_is_committed_and_noticed_to_be_given_up(api: Api) -> None:
    flow_id = await api.create()
    await api.faults("upload:lost_reply=hang")
    with pytest.raises(TimeoutError):
        await send(api, f"/flows/{flow_id}/inputs", wait_s=0.2)
    assert await committed(api, flow_id) == 1
    await asyncio.sleep(0.2)
    last = await last_request(api, "upload")
    assert (last["hung_up"], last["status"], last["committed"]) == (True, 0, True)


async def test_a_late_commit_comes_although_its_client_has_left(api: Api) -> None:
    flow_id = await api.create()
    await api.faults("upload:late_commit=300ms")
    with pytest.raises(TimeoutError):
        await send(api, f"/flows/{flow_id}/inputs", wait_s=0.1)
    assert await committed(api, flow_id) == 0
    await asyncio.sleep(0.4)
    assert await committed(api, flow_id) == 1
    assert (await last_request(api, "upload"))["committed"]


async def test_a_late_commit_of_a_large_input_is_complete(api: Api) -> None:
    flow_id = await api.create()
    await api.faults("upload:late_commit=100ms,status=504")
    assert (await api.upload(flow_id, data_uri(bytes(1_000_000))))[0] == 504
    assert await committed(api, flow_id) == 0
    await asyncio.sleep(0.3)
    assert [each["bytes"] for each in await api.recorded_inputs(flow_id)] == [1_000_000]


async def test_a_late_commit_answers_a_client_that_waits(api: Api) -> None:
    flow_id = await api.create()
    await api.faults("upload:late_commit=100ms")
    assert (await api.upload(flow_id))[0] == 200
    assert await committed(api, flow_id) == 1


async def test_a_late_commit_into_a_flow_that_has_started_is_none(api: Api) -> None:
    flow_id = await api.create()
    await api.upload(flow_id)
    await api.faults("upload:late_commit=100ms,status=504")
    await api.upload(flow_id)
    await api.start(flow_id)
    await asyncio.sleep(0.2)
    assert await committed(api, flow_id) == 1


async def test_a_truncated_reply_promises_more_than_it_brings(api: Api) -> None:
    flow_id = await api.create()
    await api.faults("truncate")
    for method, path in (("GET", f"/flows/{flow_id}"), ("GET", "/flows"), ("GET", "/templates")):
        with pytest.raises(aiohttp.ClientPayloadError):
            await api.call(method, path)


@pytest.mark.parametrize("kind", ["json", "html", "empty", "binary"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_garbage_is_a_200_that_says_nothing(api: Api, kind: str, when: str) -> None:
    flow_id = await api.create()
    await api.faults(f"upload:garbage={kind},when={when}")
    reply = await send(api, f"/flows/{flow_id}/inputs")
    assert reply.startswith(b"HTTP/1.1 200")
    assert b'"id"' not in reply
    assert await committed(api, flow_id) == (when == "after")


async def test_a_trickle_takes_its_time(api: Api) -> None:
    await api.faults("flows:trickle=50")
    begun = time.perf_counter()
    body = await api.ok("GET", "/flows")
    assert body == {"flows": []}
    assert 0.15 < time.perf_counter() - begun < 2


async def test_a_stalled_reply_is_headers_and_then_nothing(api: Api) -> None:
    await api.faults("flows:stall")
    async with api.session.get(f"{api.url}/flows") as response:
        assert response.status == 200
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await response.read()


async def test_a_huge_reply_is_streamed(api: Api) -> None:
    await api.faults("flow:huge=20MB")
    flow_id = await api.create()
    async with api.session.get(f"{api.url}/flows/{flow_id}") as response:
        assert len(await response.read()) == 20_000_000


async def test_a_redirect_names_the_other_place(api: Api) -> None:
    flow_id = await api.create()
    await api.faults("upload:redirect=http://127.0.0.1:9")
    path = f"/flows/{flow_id}/inputs"
    async with api.session.post(api.url + path, data=BODY, allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (307, f"http://127.0.0.1:9{path}")
    assert await committed(api, flow_id) == 0


async def test_an_outage_resets_all_and_refuses_new_connections_then_ends(api: Api) -> None:
    flow_id = await api.create()
    await api.faults("*:outage=400ms", "flow:lost_reply=hang")
    hanging = asyncio.create_task(api.call("GET", f"/flows/{flow_id}"))
    with pytest.raises(aiohttp.ClientError):
        await hanging
    for _ in range(3):
        with pytest.raises(aiohttp.ClientConnectorError):
            await api.call("GET", "/templates")
    await asyncio.sleep(0.5)
    assert (await api.call("GET", "/templates"))[0] == 200
    assert await committed(api, flow_id) == 0


async def test_an_outage_takes_the_connections_of_others_with_it(api: Api) -> None:
    flow_id = await api.create()
    await api.faults("flow:lost_reply=hang", "templates:outage=100ms")
    hanging = asyncio.create_task(api.call("GET", f"/flows/{flow_id}"))
    await asyncio.sleep(0.1)
    for call in (api.call("GET", "/templates"), hanging):
        with pytest.raises(aiohttp.ClientError):
            await call


async def test_an_outage_may_begin_when_a_call_has_been_answered(api: Api) -> None:
    await api.faults("create:outage=300ms,when=after")
    flow_id = await api.create()
    with pytest.raises(aiohttp.ClientConnectorError):
        await api.call("GET", "/templates")
    await asyncio.sleep(0.5)
    assert (await api.flow(flow_id))["flow_id"] == flow_id


async def test_the_sandbox_tells_when_nothing_is_due_any_more(tmp_path: Path) -> None:
    faults = [parse_fault("create:late_commit=300ms,status=504")]
    async with Sandbox(tmp_path / "store", faults=faults) as sandbox, open_api(sandbox.url) as late:
        assert (await late.call("POST", "/flows", json={"template": IMAGE}))[0] == 504
        assert (await late.record())["flows"] == []
        await sandbox.caught_up()
        assert len((await late.record())["flows"]) == 1


async def test_a_body_may_be_read_slowly_and_is_not_taken(api: Api) -> None:
    flow_id = await api.create()
    await api.faults("upload:slow_read=2kB")
    path = f"/flows/{flow_id}/inputs"
    begun = time.perf_counter()
    with pytest.raises(ConnectionResetError):
        await send(api, path, BODY + b" " * 2000)
    assert time.perf_counter() - begun > 0.8
    with pytest.raises(TimeoutError):
        await send(api, path, BODY + b" " * 20_000, wait_s=0.3)
    assert await committed(api, flow_id) == 0


async def test_an_error_may_say_the_authorization_again(serve: Serve) -> None:
    async with serve("flows:status=422,body=echo", key="a-key") as api:
        assert await api.call("GET", "/flows") == (422, {"detail": "Sandbox fault: not with Authorization: Bearer a-key"})


async def test_capacity_refuses_what_is_too_much_or_lets_it_wait(api: Api) -> None:
    await api.faults("flows:capacity=3", "flows:latency=100ms")
    statuses = [status for status, _ in await asyncio.gather(*(api.call("GET", "/flows") for _ in range(10)))]
    assert sorted(statuses) == [200] * 3 + [503] * 7
    await api.faults("flows:capacity=3,over=queue", "flows:latency=50ms")
    begun = time.perf_counter()
    statuses = [status for status, _ in await asyncio.gather(*(api.call("GET", "/flows") for _ in range(9)))]
    assert statuses == [200] * 9
    assert 0.14 < time.perf_counter() - begun < 1
    assert (await api.record())["max_in_flight"] >= 9


@pytest.mark.parametrize("how", ["missing", "twice", "foreign", "digest", "shuffle"])
@pytest.mark.parametrize("envelope", ["named", "bare"])
async def test_a_list_of_inputs_is_corrupted(serve: Serve, how: str, envelope: str) -> None:
    async with serve(readings=f"inputs={envelope}") as api:
        flow_id = await api.create()
        for n in range(6):
            await api.upload(flow_id, additional={"batcher": {"sha256": "ab" * 32, "n": n}})
        true = await api.inputs(flow_id)
        await api.faults(f"inputs:corrupt_list={how}")
        shown = await api.inputs(flow_id)
    by_text = [json.dumps(item) for item in shown]
    lost = [item for item in true if item not in shown]
    new = [item for item in shown if item not in true]
    match how:
        case "missing":
            assert (len(shown), len(lost), len(new)) == (5, 1, 0)
        case "twice":
            assert (len(shown), len(set(by_text)), len(new)) == (7, 6, 0)
        case "foreign":
            assert (len(shown), len(lost), len(new)) == (7, 0, 1)
        case "digest":
            assert (len(lost), len(new)) == (1, 1)
            assert new[0]["id"] == lost[0]["id"]
        case "shuffle":
            assert (lost, new) == ([], [])
            assert shown != true


async def test_members_of_wrong_types_are_still_json(api: Api) -> None:
    flow_id = await api.create(additional={"a": 1})
    true = await api.flow(flow_id)
    await api.faults("flow:wrong_types=1")
    for _ in range(5):
        shown = await api.flow(flow_id)
        assert shown.keys() == true.keys()
        assert shown != true


async def test_a_flow_is_made_to_fail_and_an_input_to_be_in_error(api: Api) -> None:
    await api.faults("start:fail_flow", "upload:nth=2,input_error")
    flow_id = await api.started(IMAGE, {}, {})
    await api.until(flow_id, "failed")
    assert [item["status"] for item in await api.inputs(flow_id)] == ["available", "error"]


async def test_a_fault_may_be_about_one_flow_only(api: Api) -> None:
    await api.faults("*:flow=chairs,status=503")
    stools = await api.create(additional={"name": "stools"})
    body = {"template": IMAGE, "additional": {"name": "chairs"}}
    assert (await api.call("POST", "/flows", json=body))[0] == 503
    await api.faults()
    chairs = id_of(await api.ok("POST", "/flows", json=body))
    await api.faults(f"*:flow={chairs},status=503")
    assert (await api.call("GET", f"/flows/{chairs}"))[0] == 503
    assert (await api.call("GET", f"/flows/{stools}"))[0] == 200


async def test_start_and_abort_are_told_apart(api: Api) -> None:
    flow_id = await api.started()
    await api.faults("abort:status=503")
    assert (await api.start(flow_id))[0] == 409
    assert (await api.abort(flow_id))[0] == 503


async def test_faults_and_readings_are_changed_while_it_runs(api: Api) -> None:
    await api.faults({"calls": ["flows"], "status": 503, "nth": 2}, "upload:stall")
    assert [(await api.call("GET", "/flows"))[0] for _ in range(3)] == [200, 503, 200]
    listed = (await api.ok("GET", "/_sandbox/faults"))["faults"]
    assert [(each["seen"], each["struck"]) for each in listed] == [(3, 1), (0, 0)]
    status, body = await api.call("POST", "/_sandbox/faults", json=["upload:stal"])
    assert (status, "stal" in body["detail"]) == (422, True)
    await api.ok("POST", "/_sandbox/readings", json="flows=bare")
    assert items_of(await api.ok("GET", "/flows")) == []
    assert (await api.ok("GET", "/_sandbox/readings"))["flows"] == "bare"
    assert (await api.call("POST", "/_sandbox/readings", json={"flows": "none"}))[0] == 422


async def test_the_log_tells_what_came_of_each_request(api: Api) -> None:
    flow_id = await api.create()
    await api.faults("upload:status=503")
    await api.upload(flow_id)
    last = await last_request(api, "upload")
    assert (last["status"], last["flow_id"], last["authorization"]) == (503, flow_id, False)
    assert (last["committed"], last["fault"]) == (False, "upload:status=503")
    record = await api.record()
    assert record["requests"] == {"create": 1, "upload": 1}
    assert record["refused"] == {"503": 1}
