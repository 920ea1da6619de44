"""Listings in pieces of every size, and what is none."""

from __future__ import annotations

import json

import pytest

from batcher.core.remote import Listing
from batcher.core.retry import Fault
from batcher.service.listing import ITEM_CHARS, ListParser

from .serving import answering, flows, listed

ITEMS = [{"id": "a", "n": [1, {"x": None}], "s": 'quo"te ] } ,'}, {"id": "日本", "f": -1.5e3}, {}]


def parse(data: bytes, step: int) -> tuple[list[object], dict[str, object]]:
    items: list[object] = []
    parser = ListParser(items.append)
    for start in range(0, len(data), step):
        parser.feed(data[start : start + step])
    parser.close()
    return items, parser.envelope


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"total": 12, "items": ITEMS, "next": None, "more": {"a": [1]}, "page": 3}, ensure_ascii=False),
        json.dumps({"items": ITEMS, "total": 12, "others": [1, 2], "next": None, "page": 3}, indent=2),
    ],
)
def test_an_envelope_in_pieces(text: str, step: int) -> None:
    assert parse(text.encode(), step) == (ITEMS, {"total": 12, "next": None, "page": 3})


@pytest.mark.parametrize("step", [1, 4, 1000])
def test_a_bare_list_in_pieces(step: int) -> None:
    assert parse(json.dumps(ITEMS).encode(), step) == (ITEMS, {})
    assert parse(b" [ ] ", step) == ([], {})
    assert parse(b"[12, 345]", step) == ([12, 345], {})


@pytest.mark.parametrize("step", [1, 5, 1000])
@pytest.mark.parametrize(
    "text",
    ["", " ", "{}", '{"a": 1}', "[1", '{"items": [1]', "[1 2]", "[,]", "[1,]", "[1]]", '{"a": [1]} x', "<html>", "nul", "nulls",
     '"[1]"', '{"a" 1}', "{1: [2]}", '{"a": [1] "b": 2}', "[{]", "[\xff]"],
)  # fmt: skip
def test_what_is_no_listing_is_refused(text: str, step: int) -> None:
    with pytest.raises(ValueError):
        parse(text.encode("latin-1"), step)


def test_an_item_beyond_the_bound_is_refused_before_it_is_whole() -> None:
    parser = ListParser(lambda item: None)
    parser.feed(b"[\"" + b"x" * (ITEM_CHARS - 2))
    with pytest.raises(ValueError, match="larger than 1 MiB"):
        parser.feed(b"xxx")


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises((ValueError, RecursionError)):
        parse(b"[" * 1_000_000, 100_000)


@pytest.mark.anyio
async def test_list_is_told_by_its_name_and_its_items() -> None:
    bodies: list[tuple[object, list[str]]] = [
        (None, []), ({"flows": None}, []), ({"warnings": [], "flows": flows(1)}, ["f1"]),
        ({"notes": [{"id": "n"}], "data": {"flows": flows(1)}}, ["f1"]), ({"result": flows(1)}, ["f1"]),
        ({"response": {"data": {"items": flows(1, 2)}}}, ["f1", "f2"]), ({"things": flows(1)}, ["f1"]),
        ([{"flow": each} for each in flows(1)], ["f1"]), ({"data": [], "flows": flows(1)}, ["f1"]),
    ]  # fmt: skip
    for body, meant in bodies:
        async with answering(lambda query, body=body: body) as (client, _):
            assert await listed(client) == (meant, Listing()), body


@pytest.mark.anyio
@pytest.mark.parametrize(
    "body",
    [{"warnings": []}, {"warnings": [{"id": "w"}], "notes": [{"id": "n"}]}, {"flows": ["f1"]}, {"flows": [{"name": "x"}]}, {},
     {"items": flows(1), "flows": flows(2)}, {"unexpected": ["valid", "JSON"]}, "flows", {"flow": flows(1)[0]}],
)  # fmt: skip
async def test_list_of_something_else_is_no_list_without_flows(body: object) -> None:
    async with answering(lambda query: body) as (client, _):
        found = await client.flows(lambda flow: None)
        assert isinstance(found, Fault), found
