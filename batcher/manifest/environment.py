"""`${NAME}`, `${NAME:-default}` and `$$` in the manifest's strings, resolved once while the text is read.

In: a string and the environment as the command line hands it over. Out: the resolved string, which remembers what
came from the environment: that is data, and never read again as a placeholder or a pattern. Called by `document`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeAlias

from batcher.core.suggestion import did_you_mean
from batcher.manifest.findings import Unfit, in_backticks, quoted

API_KEY: Final = "GENERIO_API_KEY"  # read by the command line alone; never a part of a manifest

_REFERENCE: Final = re.compile(r"\$(?:(\$)|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|(\{))")


class Data(str):
    """A piece of text that is data: no brace or pattern character in it means anything."""

    __slots__ = ()


Piece: TypeAlias = "str | Data"


class Resolved(str):
    """A string after `${...}`: equal to its text, with the `pieces` it was made of."""

    __slots__ = ("pieces",)
    pieces: tuple[Piece, ...]

    @classmethod
    def of(cls, pieces: list[Piece]) -> Resolved:
        text = cls("".join(pieces))
        text.pieces = tuple(pieces)
        return text


def pieces(text: str) -> tuple[Piece, ...]:
    """What a string of the manifest is made of: plain text, and data from the environment."""
    return text.pieces if isinstance(text, Resolved) else (text,)


def resolve(text: str, env: Mapping[str, str]) -> str:
    """`text` with its references replaced. Raises Unfit for an unset name or a reference that cannot be read."""
    parts: list[Piece] = []
    end = 0
    for found in _REFERENCE.finditer(text):
        parts.append(text[end : found.start()])
        end = found.end()
        dollar, name, default, broken = found.groups()
        if broken:
            reference = text[found.start() : found.start() + 40]
            raise Unfit(
                f"the reference {quoted(reference)} cannot be read",
                "write ${NAME} or ${NAME:-default}; a plain dollar sign before a brace is $$",
            )
        parts.append("$" if dollar else Data(_value(name, default, env)))
    if not end:
        return text  # a dollar sign that refers to nothing ("5 $") is itself
    parts.append(text[end:])
    return Resolved.of([part for part in parts if part])


def _value(name: str, default: str | None, env: Mapping[str, str]) -> str:
    if name == API_KEY:
        raise Unfit(f"the API key has no place in a manifest (${{{name}}})", f"batcher reads {API_KEY} by itself")
    value = env.get(name)
    if default is not None and not value:
        return default.replace("$$", "$")
    if value is None:
        close = did_you_mean(name, (known for known in env if known != API_KEY), spell=in_backticks)
        advice = f"set {name}, or write ${{{name}:-default}}"
        raise Unfit(f"the environment variable {name} is not set", f"{close} {advice}" if close else advice)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unfit(f"the environment variable {name} is not UTF-8", "it cannot be sent as JSON") from None
    return value
