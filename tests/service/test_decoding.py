"""Downloads come out the same however they are cut into pieces, in both dialects, and nonsense is told as such."""

from __future__ import annotations

import base64
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.service.decoding import Decoder, Elsewhere, NotAnOutput

CONTENT = b"glTF" + bytes(range(256)) * 5


def decode(body: bytes, content_type: str, sizes: list[int]) -> tuple[bytes, str]:
    decoder = Decoder(content_type)
    out = b""
    at = 0
    for size in [*sizes, len(body)]:
        if piece := body[at : at + size]:
            out += decoder.feed(piece)
        at += size
    return out + decoder.end(), decoder.declared


def document(content: bytes, before: str = "", header: str = "data:model/gltf-binary;base64,", after: str = "") -> bytes:
    return f'{{{before}"data":"{header}{base64.b64encode(content).decode()}"{after}}}'.encode()


@given(
    st.binary(max_size=60),
    st.lists(st.integers(1, 9), max_size=60),
    st.sampled_from(["", '"additional":{"data":"data:x;base64,QQ==","l":["data",{"data":1}]},', '"x":"\\"data\\":\\"",']),
    st.sampled_from(["", ',"additional":{"data":"no"}', ' , "z" : "}" ']),
)
def test_data_uri_is_found_at_the_top_only_and_decoded_in_any_pieces(
    content: bytes, sizes: list[int], before: str, after: str
) -> None:
    assert decode(document(content, before, after=after), "application/json", sizes) == (content, "model/gltf-binary")


@given(st.lists(st.integers(1, 400), max_size=30), st.sampled_from(["", "application/json", "model/gltf-binary"]))
def test_raw_bytes_pass_as_they_are_whatever_the_header_says(sizes: list[int], content_type: str) -> None:
    assert decode(CONTENT, content_type, sizes) == (CONTENT, content_type)


@given(st.lists(st.integers(1, 5), max_size=40))
def test_escapes_line_breaks_and_missing_padding_are_taken(sizes: list[int]) -> None:
    text = base64.b64encode(b"??>>" * 9 + b"x").decode().rstrip("=")
    escaped = "".join({"/": "\\/", "+": "\\u002b"}.get(c, c) for c in text[:20]) + "\\r\\n" + text[20:].replace("/", "\\u002F")
    body = f'{{"data": "data:model\\/gltf-binary;base64,{escaped}"}}'.encode()
    assert decode(body, "", sizes)[0] == b"??>>" * 9 + b"x"


WORDS = st.text(max_size=30).filter(lambda text: not text.startswith(("data:", "http")))


@given(WORDS, st.lists(st.integers(1, 7), max_size=30))
def test_text_is_no_output_unless_it_is_declared_as_one(text: str, sizes: list[int]) -> None:
    for body in (json.dumps({"data": text}), json.dumps(text)):
        with pytest.raises(NotAnOutput, match="it is a text"):
            decode(body.encode(), "application/json", sizes)
    content = text.encode(errors="replace")
    assert decode(document(content, header="data:text/plain;base64,"), "", sizes) == (content, "text/plain")


def test_raw_text_comes_without_a_type() -> None:
    assert decode(b"Error: asset is being migrated", "text/plain; charset=utf-8", []) == (b"Error: asset is being migrated", "")


SIGNED = "https://cdn.example/a/b%2Fc.glb?X-Expires=300&X-Signature=5e%2F1c"


@given(
    st.sampled_from([
        {"data": SIGNED}, {"data": f" {SIGNED}\n"}, {"url": SIGNED}, {"download_url": SIGNED, "additional": {"data": "x"}},
        {"data": None, "href": SIGNED}, {"data": {"url": SIGNED, "expires": 300}}, SIGNED,
    ]),
    st.lists(st.integers(1, 40), max_size=30),
)  # fmt: skip
def test_address_is_found_wherever_it_stands(reply: object, sizes: list[int]) -> None:
    for body in (json.dumps(reply), SIGNED):
        with pytest.raises(Elsewhere) as place:
            decode(body.encode(), "application/json", sizes)
        assert place.value.address == SIGNED
        assert "Signature" not in str(place.value)


@pytest.mark.parametrize(
    "text", [f"moved to {SIGNED}", "ftp://cdn.example/x.glb", "https://", f"{SIGNED} {SIGNED}", "file:///etc/passwd"]
)
def test_text_that_is_no_address_is_shown_without_signatures(text: str) -> None:
    with pytest.raises(NotAnOutput, match="it is a text") as error:
        decode(json.dumps({"data": text}).encode(), "application/json", [])
    assert "Signature" not in str(error.value)


def test_reply_without_data_is_held_within_bounds() -> None:
    for start in (b'{"data": 5, "more": "', b"https://", b'"https://'):
        with pytest.raises(NotAnOutput):
            decode(start + b"x" * (1 << 20), "application/json", [1 << 14] * 6)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"unexpected": ["valid", "JSON", {"of": "another kind"}]}', "no member"),
        (b'{"data": null, "x": "the rest"}', "no string"),
        (b'{"data": {"data": "data:a/b;base64,QQ=="}}', "no string"),
        (b'{"data": "data:model/gltf-binary;base64,Q!Q="}', "broken"),
        (b'{"data": "data:model/gltf-binary;base64,QQ==QQ=="}', "base64"),
        (b'{"data": "data:model/gltf-binary,QQ=="}', "not base64"),
        (b'{"data": "data:' + b"x" * 2000 + b'"}', "end of its header"),
        (b'{"data": "data:a/b;base64,QQ\\q="}', "broken"),
        (b'{"additional": "' + b"x" * (1 << 21) + b'", "data": "data:a/b;base64,QQ=="}', "first MiB"),
    ],
)
def test_what_is_whole_and_no_output_is_said_so(body: bytes, words: str) -> None:
    for size in (1 << 16, 3):
        if len(body) < 5000 or size > 3:
            with pytest.raises(NotAnOutput, match=words):
                decode(body, "application/json", [size] * (len(body) // size))


def test_reply_that_is_cut_off_is_never_taken_for_whole() -> None:
    body = document(CONTENT, '"id":"1",')
    for at in range(12, len(body)):
        with pytest.raises((ValueError, NotAnOutput)):
            decode(body[:at], "application/json", [7, 100])


def test_nothing_but_a_piece_is_held() -> None:
    body = document(random.Random(1).randbytes(3_000_000))
    decoder = Decoder("application/json")
    for at in range(0, len(body), 1 << 16):
        assert len(decoder.feed(body[at : at + (1 << 16)])) <= 1 << 16
        assert decoder._json is not None
        assert len(decoder._json._start or b"") <= 1 << 17
