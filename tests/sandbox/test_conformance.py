"""What flows-api.md promises, held against the sandbox in every reading, and against a live service.

With BATCHER_LIVE_URL (and GENERIO_API_KEY) the tests of the first part run there too: they start nothing, and delete
what they create. The others need a flow that runs, which costs money; they meet the sandbox only.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from .api import IMAGE, OPTIMIZE, PNG, PROMPT, Api, asset_id_of, data_uri, id_of, items_of, open_api, state_of
from .conftest import Serve

pytestmark = pytest.mark.anyio

READINGS = [
    "",
    "id=asset_id,upload=asset_id,flow_id=flow_id,create=id,state=status,template_name=template_name",
    "id=both,upload=none,flow_id=both,create=both,state=both,ready=ready,processed=bool,time=epoch",
    "upload=empty,flows=bare,inputs=bare,outputs=bare,template_types=absent,action=empty,delete=204",
    "flows=items,inputs=items,outputs=items,template_types=mime_types,jpeg=image/jpg,prompt=prompt,action=state",
    "illegal=422,start_twice=422,bad_json=400,bad_mime=415,download=raw,errors=message,order=desc",
    "illegal=400,start_twice=400,empty_start=400,errors=html,template_types=inputs,processed=null,data_prompt=text",
    "flow_in=flow,flows=warnings,inputs=null,outputs=data,pages=next,pages_in=_links,paged=all,page_size=99",
    "flow_in=data,flows=data,inputs=warnings,outputs=null,pages=headers,paged=all,page_size=99,action=state",
]
LIVE_URL = os.environ.get("BATCHER_LIVE_URL")
REFUSED = (400, 409, 415, 422)


@pytest.fixture(params=[*READINGS, *(["live"] if LIVE_URL else [])], ids=lambda param: param[:30] or "default")
async def any_api(request: pytest.FixtureRequest, serve: Serve) -> AsyncIterator[Api]:
    """A client of a service that plays one reading, or of the live one."""
    if request.param == "live" and LIVE_URL:
        async with open_api(LIVE_URL, os.environ["GENERIO_API_KEY"]) as api:
            yield api
    else:
        async with serve(readings=request.param) as api:
            yield api


@pytest.fixture
async def flow_id(any_api: Api) -> AsyncIterator[str]:
    """A flow for images that waits for inputs, deleted in the end."""
    flow_id = await any_api.create(additional={"batcher": {"test": "conformance"}})
    yield flow_id
    await any_api.delete(flow_id)


# ---- what may be asked of a live service


async def test_templates_name_what_is_known_today(any_api: Api) -> None:
    templates = items_of(await any_api.ok("GET", "/templates"))
    names = {item.get("name", item.get("template_name")) for item in templates}
    assert {IMAGE, PROMPT, OPTIMIZE} <= names


async def test_a_flow_without_inputs_waits_in_created(any_api: Api, flow_id: str) -> None:
    flow = await any_api.flow(flow_id)
    assert (id_of(flow), state_of(flow), flow["template"]) == (flow_id, "created", IMAGE)
    assert flow["additional"] == {"batcher": {"test": "conformance"}}
    assert flow["started_at"] is None


async def test_a_new_flow_is_found_in_the_list(any_api: Api, flow_id: str) -> None:
    flows = items_of(await any_api.ok("GET", "/flows?filter_by=created&sort_by=created_at"))
    assert flow_id in [id_of(flow) for flow in flows]


@pytest.mark.parametrize("additional", [None, 7, "text", ["list", {"a": 1.5}], {"batcher": {"é": "☃"}}])
async def test_an_input_carries_its_additional_whatever_it_is(any_api: Api, flow_id: str, additional: Any) -> None:
    status, _ = await any_api.upload(flow_id, additional=additional)
    assert status == 200
    (item,) = await any_api.inputs(flow_id)
    assert item["additional"] == additional
    assert item["status"] in ("available", "ready", "processing")
    assert "data" not in item or item["data"] is None


async def test_the_data_of_an_input_comes_back_as_it_was_sent(any_api: Api, flow_id: str) -> None:
    await any_api.upload(flow_id)
    (item,) = await any_api.inputs(flow_id, "?include_data=true")
    assert item["data"] == data_uri(PNG)
    single = await any_api.ok("GET", f"/flows/{flow_id}/inputs/{asset_id_of(item)}")
    assert single["data"] == data_uri(PNG)


@pytest.mark.parametrize("mime", ["image/jpeg", "image/jpg"])
async def test_both_spellings_of_jpeg_are_taken(any_api: Api, flow_id: str, mime: str) -> None:
    status, body = await any_api.upload(flow_id, data_uri(b"\xff\xd8\xff\xe0 not much of an image", mime))
    assert status == 200, body


@pytest.mark.parametrize(
    "data",
    [
        data_uri(PNG, "application/pdf"),
        data_uri(PNG, "text/plain"),
        "a prompt for a template that wants images",
        "data:image/png;base64,not base64!",
        "data:image/png;base64,AAA",
    ],
)
async def test_data_that_the_template_does_not_take_is_refused(any_api: Api, flow_id: str, data: str) -> None:
    status, _ = await any_api.upload(flow_id, data)
    assert status in REFUSED
    assert await any_api.inputs(flow_id) == []


async def test_an_upload_without_data_is_refused(any_api: Api, flow_id: str) -> None:
    for body in ({}, {"data": None}, {"data": 7}, {"additional": 1}):
        status, _ = await any_api.call("POST", f"/flows/{flow_id}/inputs", json=body)
        assert status in REFUSED, body


async def test_a_body_that_is_no_json_object_is_refused(any_api: Api, flow_id: str) -> None:
    headers = {"Content-Type": "application/json"}
    for body in (b"", b"{", b"[]", b'{"data":"x"', b'{"data":"x"}}', b'{"data":"x","additional":NaN}'):
        status, _ = await any_api.call("POST", f"/flows/{flow_id}/inputs", data=body, headers=headers)
        assert status in REFUSED, body
    assert await any_api.inputs(flow_id) == []


async def test_a_flow_that_makes_no_sense_is_refused(any_api: Api) -> None:
    nonsense: list[dict[str, Any]] = [
        {"template": "no_such_template"},
        {"template": None},
        {"parameters": {"quality": "medium"}},
        {"parameters": {"texture": "yes"}},
        {"parameters": {"seed": 1.5}},
    ]
    for members in nonsense:
        status, _ = await any_api.call("POST", "/flows", json={"template": IMAGE, **members})
        assert status in REFUSED, members


async def test_an_unknown_flow_is_not_found(any_api: Api) -> None:
    unknown = "0123456789abcdef01234567"
    assert (await any_api.call("GET", f"/flows/{unknown}"))[0] == 404
    assert (await any_api.upload(unknown))[0] == 404
    assert (await any_api.start(unknown))[0] == 404
    assert await any_api.delete(unknown) == 404


async def test_outputs_are_not_to_be_had_before_the_end(any_api: Api, flow_id: str) -> None:
    assert (await any_api.call("GET", f"/flows/{flow_id}/outputs"))[0] in REFUSED


async def test_abort_is_refused_before_the_start(any_api: Api, flow_id: str) -> None:
    assert (await any_api.abort(flow_id))[0] in REFUSED


async def test_a_deleted_flow_is_gone(any_api: Api) -> None:
    flow_id = await any_api.create()
    await any_api.upload(flow_id)
    assert await any_api.delete(flow_id) in (200, 204)
    assert (await any_api.call("GET", f"/flows/{flow_id}"))[0] == 404
    assert flow_id not in [id_of(flow) for flow in items_of(await any_api.ok("GET", "/flows"))]


async def test_a_list_cannot_be_sorted_or_filtered_by_nonsense(any_api: Api) -> None:
    assert (await any_api.call("GET", "/flows?sort_by=beauty"))[0] == 422
    assert (await any_api.call("GET", "/flows?filter_by=beautiful"))[0] == 422


# ---- what needs a flow that runs: the sandbox only


@pytest.fixture(params=READINGS, ids=lambda param: param[:30] or "default")
async def sandbox_api(request: pytest.FixtureRequest, serve: Serve) -> AsyncIterator[Api]:
    async with serve(readings=request.param) as api:
        yield api


async def test_a_started_flow_runs_and_completes_with_an_output_per_input(sandbox_api: Api) -> None:
    additionals = [{"batcher": "tag"}, None, 3]
    flow_id = await sandbox_api.started(IMAGE, *({"additional": additional} for additional in additionals))
    flow = await sandbox_api.until(flow_id, "completed")
    assert flow["progress"] == 1
    assert flow["created_at"] <= flow["started_at"] <= flow["finished_at"]
    outputs = await sandbox_api.outputs(flow_id)
    assert [item["additional"] for item in outputs] == additionals
    assert {item["status"] for item in outputs} == {"ready"}
    assert not {*map(asset_id_of, outputs)} & {*map(asset_id_of, await sandbox_api.inputs(flow_id))}


async def test_a_flow_starts_once_however_often_it_is_asked_to(sandbox_api: Api) -> None:
    flow_id = await sandbox_api.started()
    status, _ = await sandbox_api.start(flow_id)
    assert status in REFUSED
    (flow,) = (await sandbox_api.record())["flows"]
    assert (flow["starts"], flow["start_requests"]) == (1, 2)


async def test_a_started_flow_takes_no_more_inputs(sandbox_api: Api) -> None:
    flow_id = await sandbox_api.started()
    assert (await sandbox_api.upload(flow_id))[0] in REFUSED
    assert len(await sandbox_api.recorded_inputs(flow_id)) == 1


async def test_a_flow_with_inputs_starts_at_once(sandbox_api: Api) -> None:
    inputs = [{"data": "a chair", "additional": {"n": 1}}, "a plain string"]
    flow_id = await sandbox_api.create(PROMPT, inputs=inputs)
    await sandbox_api.until(flow_id, "completed")
    assert [item["additional"] for item in await sandbox_api.outputs(flow_id)] == [{"n": 1}, None]


async def test_a_start_without_inputs_is_refused_and_the_flow_still_waits(sandbox_api: Api) -> None:
    flow_id = await sandbox_api.create()
    assert (await sandbox_api.start(flow_id))[0] in REFUSED
    assert state_of(await sandbox_api.flow(flow_id)) == "created"


async def test_an_unknown_action_is_refused(sandbox_api: Api) -> None:
    flow_id = await sandbox_api.create()
    for body in ({"action": "pause"}, {}, {"action": None}):
        assert (await sandbox_api.call("PATCH", f"/flows/{flow_id}", json=body))[0] == 422
