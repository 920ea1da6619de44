"""Durations, sizes, rates and bandwidths as people write them: `90s`, `64MiB`, `300/min`, `20MB/s`.

In: a text or a plain number. Out: seconds, bytes, requests per second, bytes per second; ValueError with a sentence
for people. Called by the manifest's model and by the command line.
"""

from __future__ import annotations

import math
import re
from typing import Final

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_PER: Final = {"s": 1.0, "sec": 1.0, "second": 1.0, "m": 60.0, "min": 60.0, "minute": 60.0, "h": 3600.0, "hour": 3600.0}
_BYTES: Final = {
    "b": 1,
    **dict(zip(("kb", "mb", "gb", "tb"), (10**3, 10**6, 10**9, 10**12), strict=True)),
    **dict(zip(("kib", "mib", "gib", "tib"), (2**10, 2**20, 2**30, 2**40), strict=True)),
}
_NUMBER: Final = r"[0-9]{1,15}(?:\.[0-9]{1,15})?"
_DURATION: Final = re.compile(rf"(?:{_NUMBER}\s*(?:ms|s|min|m|h|d)\s*)+", re.ASCII)
_DURATION_PART: Final = re.compile(rf"({_NUMBER})\s*(ms|s|min|m|h|d)", re.ASCII)
_SIZE: Final = re.compile(rf"({_NUMBER})\s*([A-Za-z]*)", re.ASCII)
_RATE: Final = re.compile(rf"({_NUMBER})\s*/\s*([a-z]+)", re.ASCII)

MAX_DURATION_S: Final = 3650 * 86400.0  # ten years: more is a slip of the unit, and overflows timers
MAX_QUANTITY: Final = 1e18  # requests or bytes


def parse_duration(value: str | float) -> float:
    """Seconds in `90s`, `2h`, `15m`, `500ms`, `1h30m`, or a number (seconds). Zero is allowed, and needs no unit."""
    advice = "write a duration like 90s, 15m, 2h or 500ms"
    number = _plain_number(value)
    if number is None:
        text = _text(value, advice)
        if text != "0" and not _DURATION.fullmatch(text):
            raise ValueError(advice)
        number = sum(float(n) * _SECONDS[unit] for n, unit in _DURATION_PART.findall(text))
    if not 0 <= number <= MAX_DURATION_S:
        raise ValueError("a duration is between 0 and ten years")
    return number


def parse_size(value: str | float) -> int:
    """Bytes in `64MiB`, `20MB`, `512kB`, or a number (bytes). MB is 1,000,000 bytes, MiB is 1,048,576."""
    number = _plain_number(value)
    if number is not None:
        return int(_bounded(number, "a size"))
    advice = "write a size like 64MiB or 20MB"
    found = _SIZE.fullmatch(_text(value, advice))
    if not found:
        raise ValueError(advice)
    unit = found[2].lower()
    if unit in ("k", "m", "g", "t"):
        letter = unit.upper()
        raise ValueError(f"write {letter}iB (1024-based) or {letter}B (1000-based) instead of {found[2]}")
    if unit and unit not in _BYTES:
        raise ValueError(advice)
    return int(_bounded(float(found[1]) * _BYTES[unit or "b"], "a size"))


def parse_rate(value: str | float) -> float:
    """Requests per second in `20/s`, `300/min`, `1000/h`, or a number (per second). More than zero."""
    number = _plain_number(value)
    if number is None:
        advice = "write a rate like 20/s or 300/min"
        found = _RATE.fullmatch(_text(value, advice))
        if not found or found[2] not in _PER:
            raise ValueError(advice)
        number = float(found[1]) / _PER[found[2]]
    return _positive(number, "a rate")


def parse_bandwidth(value: str | float) -> float:
    """Bytes per second in `20MB/s`, `512KiB/s`, or a number (bytes per second). More than zero."""
    number = _plain_number(value)
    if number is None:
        advice = "write a bandwidth like 20MB/s or 512KiB/s"
        size, slash, per = _text(value, advice).rpartition("/")
        if not slash or per.strip() not in _PER:
            raise ValueError(advice)
        try:
            number = parse_size(size) / _PER[per.strip()]
        except ValueError:
            raise ValueError(advice) from None
    return _positive(number, "a bandwidth")


def _plain_number(value: str | float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError("the number is too large")
    return number


def _text(value: object, advice: str) -> str:
    if not isinstance(value, str):
        raise ValueError(advice)
    return value.strip()


def _bounded(number: float, what: str) -> float:
    if not 0 <= number <= MAX_QUANTITY:
        raise ValueError(f"{what} cannot be negative" if number < 0 else f"{what} of that many is a slip of the unit")
    return number


def _positive(number: float, what: str) -> float:
    if _bounded(number, what) <= 0:
        raise ValueError(f"{what} must be more than zero (leave it out for no bound)")
    return number
