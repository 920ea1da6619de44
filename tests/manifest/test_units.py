"""Durations, sizes, rates and bandwidths."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.manifest import parse_bandwidth, parse_duration, parse_rate, parse_size

PARSERS: list[Callable[..., float]] = [parse_bandwidth, parse_duration, parse_rate, parse_size]


@pytest.mark.parametrize(
    ("parse", "value", "result"),
    [
        (parse_duration, "90s", 90), (parse_duration, "2h", 7200), (parse_duration, "15m", 900),
        (parse_duration, "15min", 900), (parse_duration, "500ms", 0.5), (parse_duration, "1h30m", 5400),
        (parse_duration, "1.5 h", 5400), (parse_duration, "1d", 86400), (parse_duration, 0, 0), (parse_duration, "0", 0),
        (parse_duration, 1.5, 1.5), (parse_duration, "0s", 0), (parse_duration, " 3s ", 3),
        (parse_size, "64MiB", 64 << 20), (parse_size, "20MB", 20_000_000), (parse_size, "20 mb", 20_000_000),
        (parse_size, "512kB", 512_000), (parse_size, "1.5GiB", 3 << 29), (parse_size, "7", 7), (parse_size, "7B", 7),
        (parse_size, 7, 7), (parse_size, 0, 0),
        (parse_rate, "20/s", 20), (parse_rate, "300/min", 5), (parse_rate, "3600/h", 1), (parse_rate, "0.5 / s", 0.5),
        (parse_rate, 4, 4),
        (parse_bandwidth, "20MB/s", 20e6), (parse_bandwidth, "60KiB/min", 1024), (parse_bandwidth, 1000, 1000),
    ],
)  # fmt: skip
def test_what_people_write_is_read(parse: Callable[..., float], value: object, result: float) -> None:
    assert parse(value) == pytest.approx(result)


@pytest.mark.parametrize(
    ("parse", "value", "message"),
    [
        (parse_duration, "90", "like 90s"), (parse_duration, "s", "like 90s"), (parse_duration, "", "like 90s"),
        (parse_duration, "-1s", "like 90s"), (parse_duration, "1s2", "like 90s"), (parse_duration, "٣s", "like 90s"),
        (parse_duration, "99999d", "ten years"), (parse_duration, -1, "between 0"), (parse_duration, True, "like 90s"),
        (parse_duration, None, "like 90s"), (parse_duration, [1], "like 90s"), (parse_duration, 10**400, "too large"),
        (parse_duration, float("nan"), "too large"), (parse_duration, "9" * 500 + "s", "like 90s"),
        (parse_size, "64M", "MiB (1024-based) or MB"), (parse_size, "64X", "like 64MiB"), (parse_size, -1, "negative"),
        (parse_size, "999999999TB", "slip"), (parse_rate, "0/s", "more than zero"), (parse_rate, "20", "like 20/s"),
        (parse_rate, "20/fortnight", "300/min"), (parse_rate, 0, "more than zero"), (parse_rate, False, "like 20/s"),
        (parse_bandwidth, "20MB", "20MB/s"), (parse_bandwidth, "20M/s", "20MB/s"), (parse_bandwidth, "0B/s", "zero"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_an_example(parse: Callable[..., float], value: object, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(value)
    assert message in str(caught.value)


@given(st.sampled_from(PARSERS), st.text() | st.integers() | st.floats() | st.booleans() | st.none())
def test_anything_is_read_or_refused(parse: Callable[..., float], value: object) -> None:
    try:
        number = parse(value)
    except ValueError:
        return
    assert 0 <= number < 1e19
