"""Lists in pages of every common form: all of it is read, or it is known not to be whole; and never in a circle."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from batcher.core.bodies import SmallBody
from batcher.core.remote import Listing, RemoteInput, Template
from batcher.core.retry import Reply
from batcher.sandbox import Readings, Sandbox
from batcher.service.client import FlowsApi
from batcher.service.credentials import Key
from batcher.service.pages import EMPTY_PAGES

from .serving import answering, flows, listed

pytestmark = pytest.mark.anyio
PLACES = ["top", "meta", "pagination", "paging", "page_info", "_links"]
TOLD = [
    *("page", "offset", "cursor", "next", "token", "page_token", "next_page", "has_more", "last_id", "total"),
    *("link", "headers"),
]


BY_BODY = [form for form in TOLD if form not in ("link", "headers")]
ENVELOPES = ["named", "items", "data", "null", "warnings"]


def forms() -> list[str]:
    """Every form in one place; every place with one form; every envelope; headers beside a bare list."""
    found = [f"pages={form},pages_in={PLACES[n % len(PLACES)]},flows={ENVELOPES[n % 5]}" for n, form in enumerate(TOLD)]
    found += [f"pages={form},pages_in={place},pages_place=before" for form in ("next", "total") for place in PLACES]
    found += [f"pages={form},flows=bare" for form in ("none", "link", "headers")]
    found += [f"pages={form},page_first=empty" for form in BY_BODY if form not in ("offset", "last_id")]
    return found + [f"pages=none,flows={envelope}" for envelope in ENVELOPES]


@pytest.mark.parametrize("form", forms())
async def test_every_form_of_pages_is_followed_to_its_end(tmp_path: Path, form: str) -> None:
    readings = Readings.parse(f"page_size=3,flow_id=both,state=status,{form}")
    async with (
        Sandbox(tmp_path, readings=readings) as sandbox,
        FlowsApi(sandbox.url, Key(lambda: None), timeout_s=5, connections=2) as client,
    ):
        assert await listed(client) == ([], Listing())
        made = [await client.create("model_optimize", {}, {"n": n}, lambda: None) for n in range(8)]
        assert await listed(client) == (made, Listing())


@pytest.mark.parametrize("form", ["next", "page", "has_more", "link", "last_id"])
async def test_inputs_and_outputs_come_in_pages_too(tmp_path: Path, form: str) -> None:
    async with (
        Sandbox(tmp_path, readings=Readings.parse(f"page_size=2,paged=all,pages={form}"), processing_s=0.01) as sandbox,
        FlowsApi(sandbox.url, Key(lambda: None), timeout_s=5, connections=2) as client,
    ):
        flow_id = await client.create("model_generate_fromprompt", {}, None, lambda: None)
        assert isinstance(flow_id, str)
        for number in range(5):
            body = SmallBody(json.dumps({"data": f"chair {number}"}).encode(), None)
            assert isinstance(await client.upload(flow_id, body, lambda: None), Reply)
        inputs: list[RemoteInput] = []
        assert await client.inputs(flow_id, inputs.append) == Listing()
        assert len({asset.asset_id for asset in inputs}) == len(inputs) == 5


@pytest.mark.parametrize("how", ["ignored", "refused"])
@pytest.mark.parametrize("form", TOLD)
async def test_pages_that_cannot_be_asked_for_make_a_list_that_is_not_whole(tmp_path: Path, form: str, how: str) -> None:
    readings = Readings.parse(f"page_size=3,pages={form},page_params={how}")
    async with (
        Sandbox(tmp_path, readings=readings) as sandbox,
        FlowsApi(sandbox.url, Key(lambda: None), timeout_s=5, connections=2) as client,
    ):
        made = [await client.create("model_optimize", {}, {"n": n}, lambda: None) for n in range(7)]
        found, listing = await listed(client)
        assert found == made[:3], "what it shows is known, and nothing twice"
        assert not listing.whole
        assert listing.why


@pytest.mark.parametrize("form", [form for form in TOLD if form not in ("offset", "total", "last_id", "page", "has_more")])
async def test_pages_in_a_circle_are_gone_round_once(tmp_path: Path, form: str) -> None:
    async with (
        Sandbox(tmp_path, readings=Readings.parse(f"page_size=2,pages={form},page_end=circle")) as sandbox,
        FlowsApi(sandbox.url, Key(lambda: None), timeout_s=5, connections=2) as client,
    ):
        made = [await client.create("model_optimize", {}, {"n": n}, lambda: None) for n in range(6)]
        found, listing = await listed(client)
        assert found == made
        assert not listing.whole


def spring(page: int) -> object:
    return {"_embedded": {"flows": flows(page)}, "page": {"size": 1, "totalElements": 3, "totalPages": 3, "number": page}}


FOREIGN: dict[str, Callable[[Mapping[str, str]], object]] = {
    "camel case": lambda q: {"items": flows(int(q.get("pageToken", 0))), "nextPageToken": {"": "1", "1": "2"}.get(
        q.get("pageToken", ""))},
    "DRF": lambda q: {"count": 3, "next": "?page=2" if "page" not in q else None, "results": flows(0, 1) if "page" not in q
                      else flows(2)},
    "GraphQL": lambda q: {"nodes": flows(int(q.get("after", 0))), "pageInfo": {"hasNextPage": q.get("after") != "2",
                          "endCursor": str(int(q.get("after", 0)) + 1)}},
    "JSON:API": lambda q: {"data": flows(int(q.get("page[number]", 0))), "included": [{"id": "x"}],
                           "links": {"self": "/flows", "next": f"/flows?page%5Bnumber%5D={n}" if (n := int(q.get("page[number]",
                                     0)) + 1) < 3 else None}},
    "Spring, from 0": lambda q: spring(int(q.get("page", 0))),
    "from 0, untold": lambda q: {"flows": flows(int(q.get("page", 0))), "has_more": int(q.get("page", 0)) < 2},
    "Slack": lambda q: {"ok": True, "flows": flows(int(q.get("cursor", 0))), "response_metadata": {
        "next_cursor": {"0": "1", "1": "2", "2": ""}[q.get("cursor", "0")]}},
    "list of links": lambda q: {"flows": flows(int(q.get("p", 0))), "links": [{"rel": "self", "href": "/flows"}] + (
        [{"rel": "next", "href": f"?p={int(q.get('p', 0)) + 1}"}] if q.get("p") != "2" else [])},
    "a bare cursor": lambda q: {"flows": flows(int(q.get("cursor", 0))), "cursor": str(min(2, int(q.get("cursor", 0)) + 1))},
    "empty pages": lambda q: {"flows": flows(int(q["c"]) // 3) if int(q.get("c", 1)) % 3 == 0 else [],
                              "next": f"?c={int(q.get('c', -1)) + 1}" if q.get("c") != "6" else None},
    "a token in next": lambda q: {"flows": flows(int(q.get("next", "/0==")[1:-2])), "next": {"": "/1==", "/1==": "/2=="}.get(
        q.get("next", ""))},
    "a full page of a told size": lambda q: {"flows": flows(0, 1) if q.get("offset", "0") == "0" else flows(2),
                                             "limit": 2, "offset": int(q.get("offset", 0))},
    "inside of a gateway": lambda q: {"flows": flows(int(q.get("p", 0))), "next": f"http://10.0.0.7:8000/v1/flows?p={n}" if (
        n := int(q.get("p", 0)) + 1) < 3 else None},
    "Content-Range": lambda q: (flows(int(q.get("offset", 0))), {"Content-Range": f"items {q.get('offset', 0)}-0/3"}),
    "repeated at the edges": lambda q: {"flows": flows(*{"0": (0, 1), "1": (1, 2)}[q.get("cursor", "0")]),
                                        "next_cursor": "1" if "cursor" not in q else None},
}  # fmt: skip


@pytest.mark.parametrize("form", FOREIGN)
async def test_forms_of_known_services_are_followed(form: str) -> None:
    async with answering(FOREIGN[form]) as (client, asked):
        assert await listed(client) == (["f0", "f1", "f2"], Listing())
    assert len(asked) <= 9


ENDLESS: dict[str, Callable[[Mapping[str, str]], object]] = {
    "a next page that is the same": lambda q: {"flows": flows(1), "next": "?page=2"},
    "a new cursor each time": lambda q: {"flows": flows(1), "next_cursor": f"{q.get('cursor', '')}x"},
    "a new cursor and nothing": lambda q: {"flows": [], "next_cursor": f"{q.get('cursor', '')}x"},
    "more, and nothing": lambda q: {"flows": [], "has_more": True},
    "a total, and nothing": lambda q: {"flows": [], "total": 9, "pages": 9},
    "another service": lambda q: {"flows": flows(1), "next": "https://elsewhere.example/next/2"},
    "other items in the same page": lambda q: {"flows": flows(1, 2) if "page" in q else flows(2, 1), "total_count": 4},
    "404 for the second page": lambda q: 404 if q else {"flows": flows(1), "next": "?page=2"},
    "it says that it is a part": lambda q: {"flows": flows(1), "incomplete_results": True},
    "it comes with an error": lambda q: {"flows": flows(1), "errors": [{"message": "a shard is down"}]},
}


@pytest.mark.parametrize("form", ENDLESS)
async def test_what_has_no_end_comes_to_one_and_proves_nothing(form: str) -> None:
    async with answering(ENDLESS[form]) as (client, asked):
        found, listing = await listed(client)
    assert len(found) == len(set(found)) <= 2
    assert not listing.whole
    assert len(asked) <= (EMPTY_PAGES + 2 if "nothing" in form else 15)


async def test_what_is_made_meanwhile_shifts_the_pages_and_is_found_in_a_second_round() -> None:
    """Newest first: between the first page and the second a flow is made, and what it pushed onto the second was shown."""
    there = [3, 2, 1, 0]

    def answer(query: Mapping[str, str]) -> object:
        page = int(query.get("page", 1))
        shown = {"flows": flows(*there[2 * page - 2 : 2 * page]), "page": page, "total": len(there)}
        if page == 1 and len(there) == 4:
            there.insert(0, 4)
        return shown

    async with answering(answer) as (client, asked):
        found, listing = await listed(client)
    assert (sorted(found), listing) == ([f"f{n}" for n in range(5)], Listing())
    assert len(asked) <= 8


async def test_templates_on_a_page_that_is_not_to_be_had_are_not_said_to_be_missing() -> None:
    body = {"warnings": [], "templates": [{"name": "a"}], "has_more": True}
    async with answering(lambda query: body) as (client, _):
        found: list[Template] = []
        listing = await client.templates(found.append)
        assert isinstance(listing, Listing)
        assert (found, listing.whole) == ([Template("a", None)], False)
