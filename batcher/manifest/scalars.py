"""Plain YAML scalars by the core schema of YAML 1.2: `NO`, `yes`, `12:30:45`, `1_000` and dates are texts.

In: the text of a plain (unquoted) scalar. Out: null, a boolean, a number, or the text. Called by `document`.
Source: YAML 1.2.2, 10.3.2 (tag resolution).
"""

from __future__ import annotations

import math
import re
from typing import Final, TypeVar

from batcher.manifest.findings import Unfit, quoted

_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
# Everything that is no text begins with one of these: most scalars need one look.
_FIRST: Final = frozenset("-+.0123456789~nNtTfF")

_INT: Final = re.compile(r"[-+]?[0-9]+", re.ASCII)
_OCTAL: Final = re.compile(r"0o[0-7]+")
_HEX: Final = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_NOT_FINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WHOLE: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
# Python refuses conversions beyond 4,300 decimal digits, which are quadratic; that many hexadecimal ones are less.
_MAX_DIGITS: Final = 3500

_OddNumber = TypeVar("_OddNumber", bound="_Odd")


class _Odd:
    """A number that JSON spells otherwise than the manifest does. Its repr is the manifest's."""

    text: str

    def __repr__(self) -> str:
        return self.text


class OddInt(_Odd, int):
    """0012, +49, 0x1F."""


class OddFloat(_Odd, float):
    """1.10, 12E5, or more digits than a float keeps."""


def json_spelling(value: OddInt | OddFloat) -> str:
    return int.__repr__(value) if isinstance(value, OddInt) else float.__repr__(value)


def _int(value: int, text: str) -> int:
    return value if repr(value) == text else _odd(OddInt(value), text)


def _odd(value: _OddNumber, text: str) -> _OddNumber:
    value.text = text
    return value


def plain(text: str) -> bool | int | float | str | None:
    """The value of a plain scalar; a number that does not read back as it is written is an OddInt or OddFloat: as a setting it
    will do, but not in what is sent. Raises Unfit for what JSON cannot hold: NaN, infinity, endless digits."""
    if text and text[0] not in _FIRST:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if text[0].isalpha() or text[0] == "~":
        return text
    if len(text) > _MAX_DIGITS and _WHOLE.fullmatch(text):
        raise Unfit(f"a number of {len(text)} digits is too long", "quote it if it is a text")
    if _INT.fullmatch(text):
        return _int(int(text), text)
    if _OCTAL.fullmatch(text):
        return _int(int(text[2:], 8), text)
    if _HEX.fullmatch(text):
        return _int(int(text[2:], 16), text)
    if _NOT_FINITE.fullmatch(text):
        raise _not_json(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if not math.isfinite(number):
            raise _not_json(text)
        return number if repr(number) == text else _odd(OddFloat(number), text)
    return text


def _not_json(text: str) -> Unfit:
    return Unfit(f"{quoted(text)} is no number that JSON can hold", "leave it out, or quote it if it is a text")
