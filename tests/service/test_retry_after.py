"""Retry-After in both of its forms, and whatever else may stand there."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.service.client import _retry_after


@given(st.floats(0, 1e8))
def test_seconds(seconds: float) -> None:
    assert _retry_after(str(seconds)) == seconds


@given(st.integers(-10_000, 10_000_000))
def test_date(seconds: int) -> None:
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    found = _retry_after(format_datetime(at, usegmt=True))
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
    found = _retry_after(value)
    assert found is None or (found >= 0 and math.isfinite(found))


@pytest.mark.parametrize("value", [None, "", "soon", "-1", "nan", "inf", "1e400", "1_0x", "Mon, 99 Foo 2026 00:00:00 GMT"])
def test_what_cannot_be_read_is_none(value: str | None) -> None:
    assert _retry_after(value) is None
