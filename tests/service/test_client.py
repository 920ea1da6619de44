"""The calls, against the embedded service: each asks for what it says, and gives what the service shows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from batcher.core.bodies import SmallBody
from batcher.core.remote import Listing, RemoteFlow, RemoteInput, StartReply, Template
from batcher.core.retry import Reply
from batcher.sandbox import Sandbox
from batcher.service.client import FlowsApi
from batcher.service.credentials import Key

from .serving import answering

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[FlowsApi]:
    async with (
        Sandbox(tmp_path, processing_s=0.01) as sandbox,
        FlowsApi(sandbox.url, Key(lambda: None), timeout_s=5, connections=2) as client,
    ):
        yield client


async def test_flow_from_its_template_to_its_end(client: FlowsApi) -> None:
    templates: list[Template] = []
    assert await client.templates(templates.append) == Listing()
    assert "model_generate_fromprompt" in [template.name for template in templates]
    sent: list[str] = []
    flow_id = await client.create("model_generate_fromprompt", {}, {"n": 1}, lambda: sent.append("create"))
    assert isinstance(flow_id, str)
    body = SmallBody(json.dumps({"data": "a chair", "additional": {"sku": 7}}).encode(), None)
    assert isinstance(await client.upload(flow_id, body, lambda: sent.append("upload")), Reply)
    inputs: list[RemoteInput] = []
    assert await client.inputs(flow_id, inputs.append) == Listing()
    (asset,) = inputs
    assert asset.additional == {"sku": 7}
    assert await client.input_digest(flow_id, asset.asset_id) == hashlib.sha256(b"a chair").digest()
    started = await client.start(flow_id, lambda: sent.append("start"))
    assert isinstance(started, StartReply)
    assert started.started
    assert sent == ["create", "upload", "start"]
    found = await client.flow(flow_id)
    assert isinstance(found, RemoteFlow)
    assert (found.flow_id, found.template) == (flow_id, "model_generate_fromprompt")


async def test_flow_that_is_deleted_is_not_there(client: FlowsApi) -> None:
    flow_id = await client.create("model_optimize", {}, None, lambda: None)
    assert isinstance(flow_id, str)
    deleted = await client.delete(flow_id)
    assert isinstance(deleted, Reply)
    assert deleted.status // 100 == 2
    found = await client.flow(flow_id)
    assert isinstance(found, Reply)
    assert found.status == 404
    flows: list[RemoteFlow] = []
    assert await client.flows(flows.append) == Listing()
    assert not flows


async def test_ids_are_quoted_in_paths_and_lists_come_without_data() -> None:
    async with answering(lambda query: []) as (client, asked):
        await client.outputs("a/b", lambda output: None)
        await client.inputs("ü?", lambda asset: None)
        await client.input_digest("f", "../g")
    assert asked == [
        "/flows/a%2Fb/outputs?include_data=false", "/flows/%C3%BC%3F/inputs?include_data=false", "/flows/f/inputs/..%2Fg",
    ]  # fmt: skip


def test_key_is_asked_for_again() -> None:
    keys = iter([None, None, "k" * 9])
    client = FlowsApi("https://flows.example", Key(lambda: next(keys)), timeout_s=5, connections=2)
    assert not client.has_key
    assert not client.read_key_again()
    assert client.read_key_again()
    assert client.has_key
