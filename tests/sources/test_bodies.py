"""Bodies of requests say their length before they are read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pybase64
import pytest

from batcher.core.facts import FileStat
from batcher.core.model import ABSENT, JSON, Absent, FileSource, Input, Place, Problem
from batcher.core.planning import Change, InputPlan
from batcher.sources.bodies import SmallBody, StreamBody, beside, text_body

pytestmark = pytest.mark.anyio


def planned(size: int, additional: JSON | Absent = ABSENT, mime: str = "image/png") -> InputPlan:
    item = Input("a.png", FileSource("a.png"), None, additional, Place("m", 1, 1))
    return InputPlan(item, b"k" * 16, FileStat(size), mime, b"m", Change.NEW, None)


class OfBytes(StreamBody):
    """A body of what lies in memory: all that another kind of source has to bring."""

    def __init__(self, plan: InputPlan, content: bytes) -> None:
        super().__init__(plan)
        self._content = content

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._head
        yield pybase64.b64encode(self._content)
        if len(self._content) != self._plan.stat.size:
            self.fault = Problem("source", "it changed")
            return
        self.sha256 = b"s" * 32
        yield self._tail(self.sha256)


@pytest.mark.parametrize("additional", [ABSENT, {"n": "ü"}, [1], None, "text"])
@pytest.mark.parametrize("size", [1, 2, 3, 4000])
async def test_streamed_body_of_any_kind_is_as_long_as_it_said(size: int, additional: JSON | Absent) -> None:
    body = OfBytes(planned(size, additional), b"x" * size)
    sent = b"".join([chunk async for chunk in body.chunks()])
    assert len(sent) == body.length
    own, tag = beside(planned(size, additional))
    assert json.loads(sent)["additional"] == ({**(own or {}), tag[0]: {"key": tag[1], "sha256": "73" * 32}} if tag else own)
    assert b"".join(await OfBytes(planned(size, additional), b"x" * size).whole() or []) == sent


async def test_streamed_body_that_ends_early_is_not_whole() -> None:
    body = OfBytes(planned(5), b"four")
    assert await body.whole() is None
    assert body.fault is not None
    assert not body.short


def test_text_body_is_a_plain_string_and_is_kept() -> None:
    body = text_body(planned(7, mime="text/plain"), "a chair")
    assert isinstance(body, SmallBody)
    assert json.loads(body.content)["data"] == "a chair"
    assert (body.length, body.fault) == (len(body.content), None)


def test_only_an_object_or_nothing_carries_the_tag() -> None:
    assert beside(planned(1)) == (None, ("batcher", (b"k" * 16).hex()))
    assert beside(planned(1, {"a": 1})) == ({"a": 1}, ("batcher", (b"k" * 16).hex()))
    for other in ([1], None, "text", 0):
        assert beside(planned(1, other)) == (other, None)
