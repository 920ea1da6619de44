"""The scanner and the intake by themselves: whatever way a body is cut, it is read as `json.loads` reads it."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batcher.sandbox.intake import INLINE_MAX_BYTES, Asset, Intake
from batcher.sandbox.scan import NotJson, ObjectScanner

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
# Quotes, backslashes, control characters and characters beyond the BMP, more often than chance would have them.
tricky_text = st.text(st.sampled_from('ab"\\/\n\t\x01é☃😀\ud7ff\ue000{}[],:') | st.characters(exclude_categories=["Cs"]))


def scan(body: bytes, cuts: list[int]) -> tuple[bytes | None, dict[str, Any]]:
    pieces: list[bytes] = []
    scanner = ObjectScanner(lambda piece, raw: pieces.append(piece))
    bounds = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    for start, end in itertools.pairwise(bounds):
        scanner.feed(body[start:end])
    scanner.close()
    members = {name: json.loads(raw) for name, raw in scanner.members.items()}
    return b"".join(pieces) if scanner.has_data else None, members


@settings(deadline=None)
@given(tricky_text, json_values, st.booleans(), st.booleans(), st.sampled_from([None, 1]), st.lists(st.integers(0, 300)))
def test_a_body_cut_anywhere_is_read_as_json_reads_it(
    data: str, additional: object, data_first: bool, escaped: bool, indent: int | None, cuts: list[int]
) -> None:
    members = {"data": data, "additional": additional}
    ordered = members if data_first else dict(reversed(members.items()))
    body = json.dumps(ordered, ensure_ascii=escaped, indent=indent).encode()
    assert scan(body, cuts) == (data.encode(), {"additional": additional})


def test_a_body_of_single_bytes_is_read_too() -> None:
    body = json.dumps({"a": [{"b": "]}"}], "data": 'x"\\😀', "additional": {"c": "\\"}}).encode()
    assert scan(body, [*range(len(body))]) == ('x"\\😀'.encode(), {"a": [{"b": "]}"}], "additional": {"c": "\\"}})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"data"}',
        b'{"data":}',
        b'{"data":"a",}',
        b'{"data":"a"} x',
        b'{"data":"a" "b":1}',
        b'{"data":"a","data":"b"}',
        b'{"data":1,"data":"b"}',
        b'{"data":"\\x"}',
        b'{"data":"\\ud800 and more than twelve"}',
        b'{"data":"\\udc00 and more than twelve"}',
        b'{"data":"\\u12',
        b'{"a":[1,2}}',
        b'{"a":{"b":1]}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":"\xff"}',
        b'{"a":01}',
        b"{'a':1}",
        b"{a:1}",
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":"' + b"x" * 5_000_000 + b'"}',
    ],
    ids=lambda body: repr(body[:30]),
)
def test_what_is_no_object_of_json_is_refused(body: bytes) -> None:
    for cuts in ([], [*range(min(len(body), 60))]):
        with pytest.raises(NotJson):
            scan(body, cuts)


def take(spool: Path, text: str, cut: int, **options: Any) -> Asset:
    intake = Intake(spool / "spooled", **options)
    raw = text.encode()
    for offset in range(0, len(raw), cut):
        intake.feed(raw[offset : offset + cut], True)
    return intake.close()


@pytest.mark.parametrize("size", [1, 2, 3, 1000, INLINE_MAX_BYTES, INLINE_MAX_BYTES + 1, 200_001])
@pytest.mark.parametrize("cut", [1, 5, 4096, 1_000_000])
def test_content_is_digested_and_kept_however_it_is_cut(tmp_path: Path, size: int, cut: int) -> None:
    content = hashlib.shake_128(b"content").digest(size)
    asset = take(tmp_path, f"data:image/PNG;base64,{base64.b64encode(content).decode()}", cut)
    assert asset.problem is None
    assert (asset.kind, asset.mime, asset.size_bytes) == ("file", "image/PNG", size)
    assert asset.sha256 == hashlib.sha256(content).hexdigest()
    kept = asset.path.read_bytes() if asset.path else asset.blob
    assert kept == content
    assert (asset.path is not None) == (size > INLINE_MAX_BYTES)


@pytest.mark.parametrize("text", ["a chair", "d", "data", "dat a", "datum: x", "☃" * 40_000])
@pytest.mark.parametrize("cut", [1, 4096])
def test_a_prompt_is_digested_as_utf_8(tmp_path: Path, text: str, cut: int) -> None:
    asset = take(tmp_path, text, cut)
    assert (asset.problem, asset.kind, asset.mime) == (None, "text", "text/plain")
    assert asset.sha256 == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "data:",
        "data:image/png",
        "data:image/png,base64;AAAA",
        "data:image/png;base64,",
        "data:;base64,AAAA",
        "data:image/png;charset=x;base64,AAAA",
        "data:image/png;base64,AAAA=",
        "data:image/png;base64,AA==AAAA",
        "data:image/png;base64,AA=A",
        "data:image/png;base64,====",
        "data:image/png;base64,AAA",
        "data:image/png;base64,AA-_",
        "data:image/png;base64,AAAA\n",
        "data:image/png;base64,AA AA",
        "data:image/png;base64,ÄÄÄÄ",
        "data:" + "x" * 5000,
    ],
    ids=lambda text: text[:34],
)
@pytest.mark.parametrize("cut", [1, 8, 4096])
def test_data_that_is_no_data_is_a_problem_and_leaves_nothing(tmp_path: Path, text: str, cut: int) -> None:
    assert take(tmp_path, text, cut).problem is not None
    assert [*tmp_path.iterdir()] == []


def test_too_much_content_is_a_problem_and_leaves_nothing(tmp_path: Path) -> None:
    text = "data:image/png;base64," + "AAAA" * 100_000
    asset = take(tmp_path, text, 4096, max_bytes=299_999)
    assert asset.problem is not None
    assert asset.problem.status == 413
    assert [*tmp_path.iterdir()] == []
