"""The readings of replies that the documentation leaves open."""

from __future__ import annotations

import json

import pytest

from batcher.core.bodies import SmallBody
from batcher.core.remote import Listing, RemoteFlow, Template
from batcher.core.retry import Call, Fault, Kind, Reply, classify

from .serving import answering, replying

pytestmark = pytest.mark.anyio
TEMPLATES: list[tuple[object, list[Template]]] = [
    (["a", 1, None], [Template("a", None)]),
    ({"templates": [{"name": "a", "id": "1", "input_types": ["image/png"]}]}, [Template("a", ("image/png",), ("1",))]),
    ([{"template_name": "a", "outputs": ["model/gltf-binary"], "x": ["prompt"]}], [Template("a", ("prompt",))]),
    ([{"template_id": "t", "mime_types": []}, {"input_types": ["a/b"]}], [Template("t", None)]),
]


@pytest.mark.parametrize(("body", "meant"), TEMPLATES)
async def test_templates_are_read_however_they_are_shown(body: object, meant: list[Template]) -> None:
    async with replying(json.dumps(body).encode()) as client:
        found: list[Template] = []
        assert await client.templates(found.append) == Listing()
        assert found == meant


@pytest.mark.parametrize("body", [b"{}", b"1", b'{"templates": 1}', b"", b"<html>"])
async def test_templates_that_are_none_are_not_readable(body: bytes) -> None:
    async with replying(body) as client:
        found = await client.templates(lambda template: None)
        assert isinstance(found, Fault)
        assert classify(Call.TEMPLATES, found).kind is Kind.UNAVAILABLE


NO_IDS = [b"[]", b'{"state": "created"}', b'{"flow_id": true}', b'{"id": ""}', b'{"id": "\\ud800"}', b'{"id": "a\\nb"}']


@pytest.mark.parametrize("body", NO_IDS)
async def test_create_without_an_id_is_unknown(body: bytes) -> None:
    async with replying(body) as client:
        found = await client.create("t", {}, None, lambda: None)
        assert isinstance(found, Reply)
        verdict = classify(Call.CREATE, found)
        assert (verdict.kind, verdict.answered) == (Kind.UNKNOWN, True)


async def test_flow_that_is_none_is_not_readable_and_ids_may_be_numbers() -> None:
    async with replying(b"[1]") as client:
        found = await client.flow("f")
        assert isinstance(found, Reply)
        assert not found.readable
    async with replying(b'{"id": 7, "status": "Running"}') as client:
        found = await client.flow("7")
        assert isinstance(found, RemoteFlow)
        assert (found.flow_id, found.state) == ("7", "running")


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
    async with replying(json.dumps({"flow_id": "f", "state": "failed", **members}).encode(), key="secret-key-7") as client:
        found = await client.flow("f")
    assert isinstance(found, RemoteFlow)
    assert found.reason == reason


SINGLE: list[tuple[object, str, str]] = [
    ({"flow": {"id": "7", "state": "Running"}}, "7", "running"),
    ({"data": {"flow_id": "7", "status": "created"}}, "7", "created"),
    ({"status": "success", "data": {"flow": {"id": 7, "state": "created"}}}, "7", "created"),
    ({"id": "request-9", "flow": {"id": "7", "state": "created"}}, "7", "created"),
    ({"flow_id": "7", "state": "created", "data": {"id": "8", "state": "x"}}, "7", "created"),
    ({"id": "row-1", "flow_id": "7", "state": "running"}, "7", "running"),
    ({"state": "running"}, "7", "running"),
]


@pytest.mark.parametrize(("body", "flow_id", "state"), SINGLE)
async def test_flow_is_found_in_whatever_it_stands_in(body: object, flow_id: str, state: str) -> None:
    async with answering(lambda query: body) as (client, _):
        found = await client.flow("7")
        assert isinstance(found, RemoteFlow)
        assert (found.flow_id, found.state) == (flow_id, state)
        made = await client.create("t", {}, None, lambda: None)
        assert made == flow_id if body != {"state": "running"} else isinstance(made, Reply)


@pytest.mark.parametrize("body", [{"status": "Failed", "progress": 0.5}, {"flow": {"state": "failed", "template": "t"}}])
async def test_flow_without_its_id_is_known_by_what_only_a_flow_has(body: dict) -> None:
    async with answering(lambda query: body) as (client, _):
        found = await client.flow("7")
        assert isinstance(found, RemoteFlow)
        assert (found.flow_id, found.state) == ("7", "failed")


NO_FLOWS: list[object] = [
    {}, {"ok": True}, {"error": "it is being migrated"}, {"data": None}, [], {"status": "error", "message": "busy"},
    {"status": "failed"}, {"state": "error", "detail": "busy"}, {"status": "success", "data": None}, {"status": "ok"},
    {"id": "request-9", "status": "error", "message": "busy"}, {"flow_id": "8", "state": "completed"},
    {"status": "success", "data": {"id": "8", "state": "completed"}},
]  # fmt: skip


@pytest.mark.parametrize("body", NO_FLOWS)
async def test_reply_without_a_flow_is_no_flow_in_an_unknown_state(body: object) -> None:
    async with answering(lambda query: body) as (client, _):
        found = await client.flow("7")
        assert isinstance(found, Reply)
        assert not found.readable


UPLOADS: list[tuple[object, bool]] = [
    (None, True), ({}, True), ({"id": "a1"}, True), ({"asset_id": "a1", "status": "processing"}, True),
    ({"success": True}, True), ({"status": "ok"}, True), (["a1"], True), ({"ok": False}, False),
    ({"id": "a1", "status": "error", "error": "too dark"}, True),
    ({"success": False, "message": "secret-key-7 is busy"}, False), ({"error": "busy"}, False), ({"errors": ["busy"]}, False),
    ({"status": "error", "message": "busy"}, False), ({"id": "a1", "success": False}, False),
]  # fmt: skip


@pytest.mark.parametrize(("body", "done"), UPLOADS)
async def test_upload_and_deletion_count_only_where_their_replies_do_not_deny_it(body: object, done: bool) -> None:
    async with replying(json.dumps(body).encode(), key="secret-key-7") as client:
        sent = await client.upload("f", SmallBody(b"{}", None), lambda: None)
        deleted = await client.delete("f")
    assert isinstance(sent, Reply)
    assert isinstance(deleted, Reply)
    assert "secret" not in sent.not_done
    verdict = classify(Call.UPLOAD, sent)
    assert (verdict.kind, verdict.answered) == ((Kind.DONE, False) if done else (Kind.UNKNOWN, True))
    assert classify(Call.DELETE, deleted).kind is (Kind.DONE if done else Kind.REFUSED)


async def test_deletion_that_shows_the_flow_that_failed_is_done_unless_it_says_that_it_is_there() -> None:
    shown = {"flow_id": "f", "state": "failed", "error": "too dark"}
    for body, kind in ((shown, Kind.DONE), ({**shown, "deleted": False}, Kind.REFUSED), ({"deleted": True}, Kind.DONE)):
        async with replying(json.dumps(body).encode()) as client:
            found = await client.delete("f")
            assert isinstance(found, Reply)
            assert classify(Call.DELETE, found).kind is kind
