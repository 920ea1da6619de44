"""The words of a refusal that says again what was sent: found in whatever pieces it comes, and never held."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.service.error_text import KEPT_BYTES, STRING_BYTES, Head, words_of

DATA = "data:image/png;base64," + "QUI/" * 500_000


def read(body: bytes, *cuts: int) -> str:
    head = Head()
    for begin, end in zip((0, *sorted(cuts)), (*sorted(cuts), len(body)), strict=True):
        head.feed(body[begin:end])
    assert len(head.text()) <= KEPT_BYTES + STRING_BYTES
    return words_of(head.text())


def entry(msg: str, given: object, first: str = "type") -> dict[str, object]:
    members = {"type": "value_error", "loc": ["body", "data"], "msg": msg, "input": given, "ctx": {}}
    return {first: members[first], **members}


@pytest.mark.parametrize("first", ["type", "input"])
@pytest.mark.parametrize("given", [DATA, {"data": DATA, "additional": {"n": 1}}])
def test_words_stand_before_and_behind_a_large_input(first: str, given: object) -> None:
    body = json.dumps({"detail": [entry("not this", given, first), entry("nor that", DATA, first)]}).encode()
    assert read(body) == "body.data: not this; body.data: nor that"
    assert read(body, 100, 70_000, 2_000_001) == "body.data: not this; body.data: nor that"


def test_a_body_that_ends_too_early_says_what_had_come() -> None:
    body = json.dumps({"detail": [entry("not this", DATA)]}).encode()
    assert read(body[:1_000_000]) == "body.data: not this"
    assert read(b'{"detail": [{"loc": ["a"], "msg": "one"}, {"loc": ["b"], "msg": "tw') == "a: one"
    many = json.dumps({"detail": [entry(f"{number}", None) for number in range(5000)]}).encode()
    assert read(many).startswith("body.data: 0; body.data: 1; ")


@given(st.text(), st.lists(st.integers(0, 10_000), max_size=8), st.booleans())
def test_short_words_are_the_same_however_they_are_cut(words: str, cuts: list[int], ascii_only: bool) -> None:
    body = json.dumps({"detail": words}, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert read(body, *(cut % (len(body) + 1) for cut in cuts)) == read(body)


@given(st.integers(STRING_BYTES - 40, STRING_BYTES), st.text(min_size=20, max_size=60, alphabet='a"\\\U0001f600\n'))
def test_a_long_string_is_cut_between_its_characters(before: int, after: str) -> None:
    words = "x" * before + after
    head = Head()
    head.feed(json.dumps({"detail": words}).encode())
    kept = json.loads(head.text())["detail"]
    assert words.startswith(kept.rstrip("\ud83d"))  # half of a pair may be left
    assert len(kept) > STRING_BYTES // 12 - 20
