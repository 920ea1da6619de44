"""Flows in the sandbox's default reading: states, lists, pages, keys, the forms of refusals."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
from collections import Counter
from typing import Any

import pytest
import yarl

from .api import IMAGE, PNG, PROMPT, Api, data_uri, id_of, items_of, state_of
from .conftest import Serve

pytestmark = pytest.mark.anyio


async def test_states_come_in_their_order_and_progress_with_them(serve: Serve) -> None:
    async with serve(processing_s=0.4) as api:
        flow_id = await api.started()
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["state"] != "completed":
            seen.append(await api.flow(flow_id))
            await asyncio.sleep(0.005)
    assert list(dict.fromkeys(flow["state"] for flow in seen)) == ["starting", "running", "completed"]
    progress = [flow["progress"] for flow in seen]
    assert progress == sorted(progress)
    assert seen[-1]["progress"] == 1


async def test_an_aborted_flow_keeps_the_outputs_it_had(serve: Serve) -> None:
    async with serve(processing_s=2) as api:
        flow_id = await api.started(IMAGE, *[{"additional": n} for n in range(20)])
        await asyncio.sleep(0.5)
        assert (await api.abort(flow_id))[0] == 200
        assert state_of(await api.flow(flow_id)) == "aborting"
        assert (await api.abort(flow_id))[0] == 409
        assert await api.delete(flow_id) == 409
        flow = await api.until(flow_id, "aborted")
        outputs = await api.outputs(flow_id)
        assert [item["additional"] for item in outputs] == [*range(int(20 * flow["progress"]))]
        assert 0 < len(outputs) < 20
        single = f"/flows/{flow_id}/outputs/{outputs[-1]['id']}"
        assert (await api.call("GET", single))[0] == 200


@pytest.mark.parametrize(
    ("readings", "state", "listed"),
    [
        ("fewer=2", "completed", 1),
        ("fewer=9", "completed", 0),
        ("output_delay=60", "completed", 1),
        ("completed=succeeded,trailing=3", "succeeded", 3),
    ],
)
async def test_a_flow_at_its_end_may_show_fewer_outputs_under_another_word(
    serve: Serve, readings: str, state: str, listed: int
) -> None:
    async with serve(readings=readings) as api:
        flow_id = await api.started(IMAGE, *({"additional": number} for number in range(3)))
        await api.until(flow_id, state)
        outputs = await api.outputs(flow_id)
        assert [item["additional"] for item in outputs] == [*range(listed)]
        ids = [item["id"] for item in await api.inputs(flow_id)]
        found = [(await api.call("GET", f"/flows/{flow_id}/outputs/{asset_id[::-1]}"))[0] for asset_id in ids]
        assert found == [200] * listed + [404] * (3 - listed)
        for item in outputs:
            data = (await api.ok("GET", f"/flows/{flow_id}/outputs/{item['id']}"))["data"]
            content = base64.b64decode(data.partition(",")[2])
            assert len(content) - int.from_bytes(content[8:12], "little") == (3 if "trailing" in readings else 0)


async def test_an_output_may_be_a_text_or_an_address(serve: Serve) -> None:
    async with serve() as api:
        flow_id = await api.started(IMAGE, {})
        await api.until(flow_id, "completed")
        (output,) = await api.outputs(flow_id)
        path = f"/flows/{flow_id}/outputs/{output['id']}"
        await api.faults("output:garbage=text")
        assert (await api.ok("GET", path))["data"].startswith("Error: ")
        await api.faults("output:address=https://cdn.example")
        assert (await api.ok("GET", path))["data"].startswith(f"https://cdn.example{path}?X-")


async def test_an_input_may_ask_for_its_flow_to_fail(api: Api) -> None:
    flow_id = await api.started(IMAGE, {"additional": {"sandbox": "fail"}}, {"additional": "good"})
    await api.until(flow_id, "failed")
    assert [item["additional"] for item in await api.outputs(flow_id)] == ["good"]


async def test_an_input_may_ask_to_be_in_error(api: Api) -> None:
    flow_id = await api.create()
    await api.upload(flow_id, additional={"sandbox": "error"})
    assert [item["status"] for item in await api.inputs(flow_id)] == ["error"]


async def test_racing_starts_are_one_start(api: Api) -> None:
    flow_id = await api.create()
    await api.upload(flow_id)
    replies = await asyncio.gather(*(api.start(flow_id) for _ in range(20)))
    assert Counter(status for status, _ in replies) == {200: 1, 409: 19}
    (flow,) = (await api.record())["flows"]
    assert (flow["starts"], flow["start_requests"]) == (1, 20)


async def test_a_second_start_may_be_read_as_harmless(serve: Serve) -> None:
    async with serve(readings="start_twice=200,empty_start=200") as api:
        flow_id = await api.create()
        assert [(await api.start(flow_id))[0] for _ in range(2)] == [200, 200]
        (flow,) = (await api.record())["flows"]
        assert (flow["starts"], flow["start_requests"]) == (1, 2)


async def test_the_list_is_filtered_and_sorted(serve: Serve) -> None:
    async with serve(processing_s=0.02) as api:
        done = await api.started()
        waiting = [await api.create(additional={"n": n}) for n in range(3)]
        await api.until(done, "completed")
        assert [id_of(flow) for flow in items_of(await api.ok("GET", "/flows?filter_by=created"))] == waiting
        both = items_of(await api.ok("GET", "/flows?filter_by=created,completed&sort_by=state"))
        assert [state_of(flow) for flow in both] == ["completed", "created", "created", "created"]
        by_progress = items_of(await api.ok("GET", "/flows?sort_by=progress"))
        assert id_of(by_progress[-1]) == done
        assert {*both[0]} == {
            *("id", "template", "state", "progress", "created_at", "started_at", "finished_at"),
            *("parameters", "additional"),
        }


@pytest.mark.parametrize("pages", ["page", "offset", "cursor", "next"])
@pytest.mark.parametrize("envelope", ["named", "items"])
async def test_pages_lead_through_the_whole_list(serve: Serve, pages: str, envelope: str) -> None:
    async with serve(readings=f"pages={pages},page_size=3,flows={envelope}") as api:
        flow_ids = [await api.create() for _ in range(8)]
        found, sizes, path = [], [], "/flows?filter_by=created"
        while path:
            body = await api.ok("GET", path)
            found += [id_of(flow) for flow in items_of(body)]
            sizes.append(len(items_of(body)))
            match pages:
                case "page":
                    assert (body["total"], body["pages"]) == (8, 3)
                    path = f"/flows?page={body['page'] + 1}&per_page=3" if body["page"] < body["pages"] else ""
                case "offset":
                    following = body["offset"] + body["limit"]
                    path = f"/flows?offset={following}&limit=3" if following < body["total"] else ""
                case "cursor":
                    path = f"/flows?cursor={body['next_cursor']}" if body["next_cursor"] else ""
                case _:
                    path = body["next"].removeprefix(api.url) if body["next"] else ""
        assert (found, sizes) == (flow_ids, [3, 3, 2])


LEADS_ON = {
    "token": lambda body: body["next"] and f"/flows?cursor={body['next']}",
    "page_token": lambda body: body["next_page_token"] and f"/flows?page_token={body['next_page_token']}",
    "next_page": lambda body: body["next_page"] and f"/flows?page={body['next_page']}",
    "last_id": lambda body: body["has_more"] and f"/flows?starting_after={id_of(body['flows'][-1])}",
}


@pytest.mark.parametrize("pages", LEADS_ON)
async def test_further_forms_of_pages_lead_through_the_whole_list(serve: Serve, pages: str) -> None:
    async with serve(readings=f"pages={pages},page_size=3") as api:
        flow_ids = [await api.create() for _ in range(8)]
        found, path = [], "/flows"
        while path:
            body = await api.ok("GET", path)
            found += [id_of(flow) for flow in items_of(body)]
            path = LEADS_ON[pages](body)
        assert found == flow_ids


async def test_pages_are_told_by_headers_where_they_stand_and_as_a_total(serve: Serve) -> None:
    async with serve(readings="pages=link,page_size=2") as api:
        flow_ids = [await api.create() for _ in range(3)]
        async with api.session.get(f"{api.url}/flows") as reply:
            assert str(reply.links["next"]["url"]).endswith("/flows?page=2")
        await api.ok("POST", "/_sandbox/readings", json="pages=headers")
        for page, following in ((1, "2"), (2, "")):
            async with api.session.get(f"{api.url}/flows?page={page}") as reply:
                assert (reply.headers["X-Total-Count"], reply.headers["X-Next-Page"]) == ("3", following)
        await api.ok("POST", "/_sandbox/readings", json="pages=total,pages_in=meta,pages_place=before")
        body = await api.ok("GET", "/flows?page=2")
        assert (list(body), body["meta"]) == (["meta", "flows"], {"total_count": 3})
        await api.ok("POST", "/_sandbox/readings", json="pages=next,pages_in=_links")
        assert "cursor=c2" in (await api.ok("GET", "/flows"))["_links"]["next"]["href"]
        await api.ok("POST", "/_sandbox/readings", json="pages=cap,pages_in=top")
        assert {*(body := await api.ok("GET", "/flows?page=2&offset=2"))} == {"flows"}
        assert [id_of(flow) for flow in items_of(body)] == flow_ids[:2]
        await api.ok("POST", "/_sandbox/readings", json="order=desc")
        assert [id_of(flow) for flow in items_of(await api.ok("GET", "/flows"))] == flow_ids[:0:-1]


async def test_pages_may_begin_with_an_empty_one_lead_in_a_circle_and_not_be_had(serve: Serve) -> None:
    async with serve(readings="pages=cursor,page_size=2,page_first=empty") as api:
        flow_ids = [await api.create() for _ in range(3)]
        sizes = []
        path = "/flows"
        while path:
            body = await api.ok("GET", path)
            sizes.append(len(items_of(body)))
            path = body["next_cursor"] and f"/flows?cursor={body['next_cursor']}"
        assert sizes == [0, 2, 1]
        await api.ok("POST", "/_sandbox/readings", json="page_first=full,page_end=circle")
        assert (await api.ok("GET", "/flows?cursor=c2"))["next_cursor"] == "c0"
        await api.ok("POST", "/_sandbox/readings", json="page_end=end,page_params=ignored")
        assert [id_of(flow) for flow in items_of(await api.ok("GET", "/flows?cursor=c2"))] == flow_ids[:2]
        await api.ok("POST", "/_sandbox/readings", json="page_params=refused")
        assert (await api.call("GET", "/flows?cursor=c2"))[0] == 422
        assert (await api.call("GET", "/flows?filter_by=created"))[0] == 200


async def test_inputs_and_outputs_come_in_pages_where_all_lists_do(serve: Serve) -> None:
    async with serve(readings="pages=last_id,paged=all,page_size=2,order=desc", processing_s=0.01) as api:
        flow_id = await api.started(IMAGE, *({"additional": n} for n in range(3)))
        first = await api.ok("GET", f"/flows/{flow_id}/inputs")
        assert ([item["additional"] for item in items_of(first)], first["has_more"]) == ([2, 1], True)
        rest = await api.ok("GET", f"/flows/{flow_id}/inputs?starting_after={items_of(first)[-1]['id']}")
        assert ([item["additional"] for item in items_of(rest)], rest["has_more"]) == ([0], False)
        await api.until(flow_id, "completed")
        assert len(await api.outputs(flow_id)) == 2


async def test_keys_are_asked_for_where_there_are_any(serve: Serve) -> None:
    async with serve(keys=["good"], expired_keys=["old"]) as api:
        for authorization, status in [("Bearer good", 200), ("Bearer old", 401), ("Bearer bad", 401), ("good", 401)]:
            assert (await api.call("GET", "/templates", headers={"Authorization": authorization}))[0] == status
        assert (await api.call("GET", "/templates"))[0] == 401
        assert (await api.upload("any", data_uri(bytes(2_000_000))))[0] == 401
        await api.ok("POST", "/_sandbox/keys", json={"keys": ["new"]})
        assert (await api.call("GET", "/templates", headers={"Authorization": "Bearer good"}))[0] == 401
        assert (await api.call("GET", "/templates", headers={"Authorization": "Bearer new"}))[0] == 200


async def test_an_input_above_the_limit_is_too_large(serve: Serve) -> None:
    async with serve(max_data_bytes=100_000) as api:
        flow_id = await api.create()
        assert (await api.upload(flow_id, data_uri(bytes(100_000))))[0] == 200
        assert (await api.upload(flow_id, data_uri(bytes(100_001))))[0] == 413
        assert (await api.upload(flow_id, data_uri(bytes(3_000_000))))[0] == 413
        assert [item["bytes"] for item in await api.recorded_inputs(flow_id)] == [100_000]


async def test_a_refusal_names_the_place(api: Api) -> None:
    body = {"template": IMAGE, "parameters": {"quality": "medium", "sead": 1}}
    status, reply = await api.call("POST", "/flows", json=body)
    assert status == 422
    assert [(each["loc"], each["type"]) for each in reply["detail"]] == [
        (["body", "parameters", "quality"], "literal_error"),
        (["body", "parameters", "sead"], "extra_forbidden"),
    ]


async def test_a_prompt_that_looks_like_data_is_read_either_way(serve: Serve) -> None:
    async with serve(readings="data_prompt=text") as api:
        flow_id = await api.create(PROMPT)
        assert (await api.upload(flow_id, "data: a chair"))[0] == 200
        assert [item["kind"] for item in await api.recorded_inputs(flow_id)] == ["text"]
        await api.ok("POST", "/_sandbox/readings", json={"data_prompt": "refuse"})
        assert (await api.upload(flow_id, "data: a chair"))[0] == 422


@pytest.mark.parametrize("data", [b"a\x01b", b"a\\n\x01b", b"\xff", b"\\ud800", b"a\nb"])
async def test_a_prompt_is_a_json_string_of_utf_8_or_refused(api: Api, data: bytes) -> None:
    flow_id = await api.create(PROMPT)
    for body in (b'{"data":"' + data + b'"}', b'{"data":"' + b"long " * 60_000 + data + b'"}'):
        status, _ = await api.call("POST", f"/flows/{flow_id}/inputs", data=io.BytesIO(body))
        assert status == 422
    assert await api.recorded_inputs(flow_id) == []


async def test_a_long_prompt_with_every_kind_of_escape_comes_back(api: Api) -> None:
    flow_id = await api.create(PROMPT)
    prompt = 'Stuhl "schön" \\ ☃ 😀 \n\t/' * 30_000
    assert (await api.upload(flow_id, prompt))[0] == 200
    (item,) = await api.recorded_inputs(flow_id)
    assert item["sha256"] == hashlib.sha256(prompt.encode()).hexdigest()
    (item,) = await api.inputs(flow_id, "?include_data=true")
    assert item["data"] == prompt


async def test_inputs_may_be_processing_for_a_while(serve: Serve) -> None:
    async with serve(readings="input_processing=0.2,ready=ready") as api:
        flow_id = await api.create()
        await api.upload(flow_id)
        (item,) = await api.inputs(flow_id)
        assert (item["status"], item["processed"]) == ("processing", None)
        await asyncio.sleep(0.25)
        (item,) = await api.inputs(flow_id)
        assert item["status"] == "ready"
        assert item["processed"]


async def test_unknown_paths_and_methods_are_told_apart(api: Api) -> None:
    assert (await api.call("GET", "/nothing"))[0] == 404
    assert (await api.call("GET", "/flows/a/inputs/b/c"))[0] == 404
    assert (await api.call("PUT", "/flows"))[0] == 405
    assert (await api.call("GET", "/flows/x/inputs?include_data=True"))[0] == 422


async def test_half_a_surrogate_pair_harms_nobody(api: Api) -> None:
    headers = {"Content-Type": "application/json"}
    for body in (b'{"template":"model_optimize","additional":"\\ud800"}', b'{"template":"\\ud800"}'):
        status, _ = await api.call("POST", "/flows", data=body, headers=headers)
        assert status in (200, 422)
    body = b'{"template":"model_optimize","parameters":{"\\ud800":1}}'
    assert (await api.call("POST", "/flows", data=body, headers=headers))[0] == 422
    assert [flow["additional"] for flow in items_of(await api.ok("GET", "/flows"))] == ["\ud800"]
    for path in ("/flows/%FF", "/flows/%00", "/flows/%ED%A0%80", "/flows/x%2Fy"):
        assert (await api.call("GET", yarl.URL(api.url + path, encoded=True).raw_path))[0] == 404
        assert (await api.call("DELETE", path))[0] == 404


async def test_a_deleted_flow_stays_in_the_record(api: Api) -> None:
    flow_id = await api.create(additional={"n": 1})
    await api.upload(flow_id, data_uri(PNG))
    await api.delete(flow_id)
    (flow,) = (await api.record())["flows"]
    assert (flow["deleted"], flow["additional"], len(flow["inputs"])) == (True, {"n": 1}, 1)


@pytest.mark.parametrize("headers", ["Transfer-Encoding: chunked", "Content-Encoding: gzip\r\nContent-Length: 9"])
async def test_a_body_that_breaks_its_own_framing_is_refused_and_the_sandbox_lives(api: Api, headers: str) -> None:
    flow_id = await api.create()
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /flows/{flow_id}/inputs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n\r\n"
    writer.write(head.encode() + b"no chunks")
    reply = await reader.read()
    writer.close()
    assert reply.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    assert await api.recorded_inputs(flow_id) == []


async def test_a_client_that_expects_to_be_told_to_go_on_is(api: Api) -> None:
    flow_id = await api.create()
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = b'{"data":"' + data_uri(PNG).encode() + b'"}'
    head = f"POST /flows/{flow_id}/inputs HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {len(body)}"
    writer.write(head.encode() + b"\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()
