"""Inputs in a real S3: every byte once, changes found out, and what goes wrong said with its place."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator

import pytest

from batcher.core.model import ABSENT, Input, ObjectSource, Place, Problem
from batcher.core.planning import Change, InputPlan
from batcher.sources.bodies import StreamBody
from batcher.sources.dispatch import SMALL_BYTES, AllSources

from .stores import PNG, SECRET, Gate, Shop

pytestmark = pytest.mark.anyio


@pytest.fixture
def sources() -> Iterator[AllSources]:
    with contextlib.closing(AllSources(0, time.time)) as made:
        yield made


def stored(shop: Shop, name: str, content: bytes) -> Input:
    shop.put(name, content)
    return named(shop, name)


def named(shop: Shop, name: str) -> Input:
    url = f"{shop.url}/{name}"
    return Input(url, ObjectSource(url), None, ABSENT, Place("m.yaml", 7, 5))


def planned(sources: AllSources, item: Input) -> InputPlan:
    file_stat, mime = sources.look(item), sources.mime(item, ("image/png",))
    assert not isinstance(file_stat, Problem), file_stat
    assert isinstance(mime, str), mime
    return InputPlan(item, b"k" * 16, file_stat, mime, b"m", Change.NEW, None)


async def sent(sources: AllSources, plan: InputPlan) -> tuple[bytes, Problem | None]:
    body = sources.body(plan)
    if isinstance(body, Problem):
        return b"", body
    if isinstance(body, StreamBody):
        return b"".join([chunk async for chunk in body.chunks()]), body.fault
    return body.content, None


@pytest.mark.parametrize("size", [9, 1000, SMALL_BYTES, SMALL_BYTES + 1, 393_216, 393_217, 1_500_001])
async def test_body_is_as_long_as_it_said_and_holds_the_object(
    sources: AllSources, shop: Shop, gate: Gate, size: int
) -> None:
    content = PNG + os.urandom(size - 8)
    plan = planned(sources, stored(shop, "photos/ü p%20q#.png", content))
    assert plan.stat.size == size
    data, fault = await sent(sources, plan)
    assert fault is None
    document = json.loads(data)
    assert base64.b64decode(document["data"].partition(",")[2], validate=True) == content
    assert document["additional"]["batcher"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert sources.digest(plan.input) == hashlib.sha256(content).digest()


@pytest.mark.parametrize("size", [1000, 3_000_000])
@pytest.mark.parametrize("change", ["is rewritten", "grows", "vanishes"])
async def test_object_that_changes_is_found_out(sources: AllSources, shop: Shop, gate: Gate, size: int, change: str) -> None:
    plan = planned(sources, stored(shop, "a.png", PNG + os.urandom(size)))
    match change:
        case "vanishes":
            shop.delete("a.png")
        case "grows":
            stored(shop, "a.png", PNG + os.urandom(size + 1))
        case _:
            stored(shop, "a.png", PNG + os.urandom(size))
    _, fault = await sent(sources, plan)
    assert fault is not None
    assert fault.kind == "source"
    assert ("is not there" if change == "vanishes" else "changed while it was read") in fault.message
    assert str(fault.place) == "m.yaml:7:5"


@pytest.mark.parametrize("size", [3_000_000, 900_000])
@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("swapped", [False, True])
async def test_body_that_is_cut_is_read_on_of_the_same_object_only(
    sources: AllSources, shop: Shop, gate: Gate, swapped: bool, ranges: bool, size: int
) -> None:
    """What was put in its place meanwhile is never taken."""
    content = PNG + os.urandom(size)
    plan = planned(sources, stored(shop, "a.png", content))
    cuts = iter(["cut"])
    gate.ranges, gate.wrong = ranges, lambda method, path: next(cuts, None) if method == "GET" else None
    if swapped:
        gate.swap = lambda: shop.put("a.png", PNG + os.urandom(size)) and None
    before = len(gate.asked)
    data, fault = await sent(sources, plan)
    assert ["Range" in headers for method, _, headers in gate.asked[before:] if method == "GET"][:2] == [False, True]
    assert (fault is not None) == swapped
    if fault is None:
        assert base64.b64decode(json.loads(data)["data"].partition(",")[2]) == content


async def test_503_is_waited_for_by_reads(sources: AllSources, shop: Shop, gate: Gate) -> None:
    item = stored(shop, "a.png", PNG + os.urandom(1000))
    answers = iter(["503", None, "503"])
    gate.wrong = lambda method, path: next(answers, None)
    _, fault = await sent(sources, planned(sources, item))
    assert fault is None


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [("403", "source", "may not be read (403"), ("404", "source", "is not there"), ("503", "unavailable", "answers 503"),
     ("500", "unavailable", "answers 500")],
)  # fmt: skip
async def test_what_a_store_answers_is_said_with_its_place_and_without_keys(
    sources: AllSources, shop: Shop, gate: Gate, status: str, kind: str, words: str
) -> None:
    gate.wrong = lambda method, path: status
    problem = sources.look(stored(shop, "a.png", PNG))
    assert isinstance(problem, Problem)
    assert problem.kind == kind
    assert words in problem.message
    assert problem.message.startswith(f"{shop.url}/a.png ")
    assert str(problem.place) == "m.yaml:7:5"
    assert problem.hint
    assert SECRET not in str(problem)
    assert "127.0.0.1" not in str(problem)


async def test_store_that_cannot_be_had_is_not_asked_for_each_input(sources: AllSources, shop: Shop, gate: Gate) -> None:
    gate.wrong = lambda method, path: "503"
    sources.look(named(shop, "0.png"))
    asked = len(gate.asked)
    for number in range(1, 50):
        problem = sources.look(named(shop, f"{number}.png"))
        assert isinstance(problem, Problem)
        assert problem.kind == "unavailable"
    assert len(gate.asked) == asked


async def test_what_is_no_input_is_said(sources: AllSources, shop: Shop, gate: Gate) -> None:
    empty = sources.look(stored(shop, "empty.png", b""))
    assert isinstance(empty, Problem)
    assert "is empty" in empty.message
    page = sources.mime(stored(shop, "page.png", b"<!DOCTYPE html><html></html>"), ("image/png",))
    assert isinstance(page, Problem)
    assert "not what its name says" in page.message
    prompt = stored(shop, "p.txt", "ein Stühlchen".encode())
    assert sources.mime(prompt, ("text/plain",)) == "text/plain"


async def test_many_are_looked_at_together_and_one_by_one_alike(sources: AllSources, shop: Shop, gate: Gate) -> None:
    items = [stored(shop, f"{number}.png", PNG + os.urandom(100)) for number in range(40)] + [named(shop, "none.png")]
    seen = sources.ahead([(item, True) for item in items])()
    looks = [sources.look(item, one) for item, one in zip(items, seen, strict=True)]
    asked = len(gate.asked)
    assert looks[:40] == [sources.look(item) for item in items[:40]]
    assert isinstance(looks[40], Problem)
    types = {sources.mime(item, ("image/png",), one) for item, one in zip(items[:40], seen[:40], strict=True)}
    assert types == {"image/png"}
    assert gate.count("GET") <= asked, "the first bytes are asked for once"
