"""Replies read to their end: the words of a refusal, Retry-After in both of its forms, the digest of an asset."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.core.retry import Fault, FaultKind, Reply
from batcher.service.receiving import retry_after_s

from .serving import replying

pytestmark = pytest.mark.anyio
DATA = os.urandom(700_001)
DATA_URI = b'{"id": "x", "data": "data:image/png;base64,' + base64.b64encode(DATA) + b'", "additional": null}'
TEXT = 'A "chair" \\ 日本 \U0001f600'


@pytest.mark.parametrize(
    ("body", "content"),
    [
        (DATA_URI, DATA),
        (DATA_URI.replace(b"/", b"\\/"), DATA),
        (b'{"data":"data:;base64,QUI="}', b"AB"),
        (json.dumps({"data": TEXT}).encode(), TEXT.encode()),
        (json.dumps({"data": TEXT}, ensure_ascii=False).encode(), TEXT.encode()),
        (json.dumps({"data": "x" * 500_000 + "\\"}).encode(), b"x" * 500_000 + b"\\"),
        (b'{"data":""}', b""),
    ],
    ids=("file", "escaped", "short", "text", "utf-8", "long", "empty"),  # not of what they hold, which is drawn by chance
)
async def test_digest_is_of_the_bytes_that_are_shown(body: bytes, content: bytes) -> None:
    async with replying(body) as client:
        assert await client.input_digest("f", "a") == hashlib.sha256(content).digest()


@pytest.mark.parametrize(
    "body", [b"{}", b'{"data":1}', b'{"data":"data:;base64,***"}', b'{"data":"data:;base64,QUI=', b'{"data":"x']
)
async def test_data_that_cannot_be_read_is_a_fault(body: bytes) -> None:
    async with replying(body) as client:
        found = await client.input_digest("f", "a")
        assert isinstance(found, Fault)
        assert (found.kind, found.status) == (FaultKind.CUT_OFF, 200)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"detail": "no"}', "no"),
        (b'{"detail": [{"loc": ["body", 1], "msg": "bad"}, "x", {"msg": "worse"}]}', "body.1: bad; x; worse"),
        (b'{"message": "no"}', "no"),
        (b'{"error": {"code": 422, "message": "no"}}', "no"),
        (b'{"error": {"type": "invalid_request_error", "message": "no"}}', "invalid_request_error: no"),
        (b'{"error": "no"}', "no"),
        (b'{"error": "invalid_scope", "error_description": "no"}', "no"),
        (b'{"errors": [{"field": "data", "message": "bad"}, "worse"]}', "data: bad; worse"),
        (b'{"type": "about:blank", "title": "Forbidden", "status": 403, "detail": "no"}', "Forbidden: no"),
        (b'{"odd": 1}', '{"odd": 1}'),
        (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code><Message>not &amp; never</Message></Error>',
         "AccessDenied: not & never"),
        (b'<Error xmlns="x"><Code>SlowDown</Code></Error>', "SlowDown"),
        (b"<?xml version='1.0'?><a/>", "XML without words"),
        (b"<html>\x1b", "an HTML page"),
        (b"<!DOCTYPE html><title>502</title><message>x</message>", "an HTML page"),
        (b"plain \x1b[1m", "plain \\x1b[1m"),
        (b"x" * 2_000_000, "x" * 300 + "…"),
        (b"y" * 400, "y" * 300 + "…"),
    ],
)
async def test_words_of_a_refusal_are_shown_short_and_harmless(body: bytes, detail: str) -> None:
    async with replying(body, 422, {"Retry-After": "7"}) as client:
        found = await client.start("f", lambda: None)
        assert found == Reply(422, None, True, detail, 7.0)


async def test_redirect_is_said_and_not_followed() -> None:
    async with replying(b"", 307, {"Location": "https://else.example/flows"}) as client:
        found = await client.start("f", lambda: None)
        assert isinstance(found, Reply)
        assert "redirects to else.example" in found.detail


@given(st.floats(0, 1e8))
def test_seconds(seconds: float) -> None:
    assert retry_after_s(str(seconds)) == seconds


@given(st.integers(-10_000, 10_000_000))
def test_date(seconds: int) -> None:
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    found = retry_after_s(format_datetime(at, usegmt=True))
    assert found is not None
    assert max(0, seconds - 3) <= found <= max(0, seconds + 1)


NUMBERS = st.floats().map(str) | st.integers().map(str)
DATES = st.builds(
    "{}, {:02} {} {} {:02}:{:02}:{:02} {}".format, st.sampled_from(["Mon", "Fri", "x"]), st.integers(0, 40),
    st.sampled_from(["Jan", "Dec", "Foo"]), st.integers(0, 10_000), st.integers(0, 30), st.integers(0, 70), st.integers(0, 70),
    st.sampled_from(["GMT", "-0000", "+2359", "", "+9999", "EST"]),
)  # fmt: skip


@given(st.text() | NUMBERS | DATES)
def test_anything_is_a_bounded_wait_or_none(value: str) -> None:
    found = retry_after_s(value)
    assert found is None or (found >= 0 and math.isfinite(found))


@pytest.mark.parametrize("value", [None, "", "soon", "-1", "nan", "inf", "1e400", "1_0x", "Mon, 99 Foo 2026 00:00:00 GMT"])
def test_what_cannot_be_read_is_none(value: str | None) -> None:
    assert retry_after_s(value) is None


async def test_reply_beyond_the_bound_is_not_read() -> None:
    async with replying(b'{"state": "' + b"x" * (1 << 20) + b'"}') as client:
        found = await client.start("f", lambda: None)
    assert isinstance(found, Fault)
    assert (found.kind, found.status) == (FaultKind.CUT_OFF, 200)
    assert "larger than 1 MiB" in found.message
