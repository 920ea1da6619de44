"""The marks by which a flow or an input is found again, and the sums by which two sets of inputs are compared.

In: names, paths, contents. Out: keys (16 bytes), tags (the member `batcher` of an `additional`), `Multiset` sums.
Called by planning, the producer and the reconciler. The tag is one member, so that the user's own stay as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from .facts import FileStat
from .model import ABSENT, JSON, TAG, Absent, Input, TextSource

KEY_BYTES: Final = 16
DIGITS: Final = 18  # of a generation's number, at most
_MODULUS: Final = 1 << 256


def canonical(value: JSON | Absent) -> bytes:
    """One spelling for one JSON value: sorted members, no spaces, UTF-8. ABSENT is the empty string."""
    if value is ABSENT:
        return b""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _framed(*parts: bytes) -> bytes:
    """Lengths first, so that ("ab", "c") and ("a", "bc") differ."""
    return b"".join([piece for part in parts for piece in (len(part).to_bytes(8, "big"), part)])


def _hashed(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=KEY_BYTES).digest()


def _digest(*parts: bytes) -> bytes:
    return _hashed(_framed(*parts))


@lru_cache(1024)
def flow_key(batch: str, flow: str) -> bytes:
    """The flow's key: 16 bytes."""
    return _digest(b"flow", batch.encode(), flow.encode())


class InputKeys:
    """The keys of one flow's inputs, 16 bytes each, in their order: from the flow's key, the input's path (or text), and which
    of equal ones it is (from 0); or from the `key` that the manifest gives it, wherever its file lies."""

    def __init__(self, batch: str, flow: str) -> None:
        key = flow_key(batch, flow)
        self._named = _framed(b"named input", key)
        self._begin = _framed(b"input", key)  # equal for all, as is the end for nearly all: half of the time
        self._first = _framed((0).to_bytes(8, "big"))
        self._occurrences: dict[str, int] = {}

    def next(self, item: Input) -> bytes:
        """The key of the next input."""
        if item.key is not None:  # unique in the flow: the manifest has seen to that
            return _hashed(self._named + _framed(item.key.encode()))
        what = f"\0{item.source.text}" if isinstance(item.source, TextSource) else item.label
        occurrence = self._occurrences.get(what, 0)
        self._occurrences[what] = occurrence + 1
        spelled = what.encode()
        end = self._first if not occurrence else _framed(occurrence.to_bytes(8, "big"))
        return _hashed(self._begin + len(spelled).to_bytes(8, "big") + spelled + end)


def stat_bytes(item: Input, file_stat: FileStat) -> bytes:
    """What is seen of an input without reading it, for the sum over a flow's file stats."""
    if item.key is not None:
        what = f"\0key\0{item.key}"
    else:
        what = item.source.text if isinstance(item.source, TextSource) else item.label
    extra = b"" if item.additional is ABSENT else canonical(item.additional)
    return f"{what}\0{file_stat.size}\0{file_stat.mtime_ns}\0{file_stat.inode}\0{item.mime}\0".encode() + extra + b"\n"


def spec_digest(mime: str, additional: JSON | Absent) -> bytes:
    """What is sent beside the content, as 16 bytes: two inputs with equal keys, contents and meanings are the same."""
    return _bare(mime) if additional is ABSENT else _digest(mime.encode(), b"=" + canonical(additional))


@lru_cache(64)
def _bare(mime: str) -> bytes:
    return _digest(mime.encode(), b"")


def flow_spec_digest(template: str | None, parameters: Mapping[str, JSON], additional: Mapping[str, JSON] | None) -> bytes:
    """What is sent to create the flow, as 16 bytes."""
    return _digest((template or "").encode(), canonical(dict(parameters)), canonical(dict(additional or {})))


def can_carry_tag(additional: JSON | Absent) -> bool:
    """Whether the tag fits: an `additional` that is an object or absent. Others are sent untouched."""
    return additional is ABSENT or isinstance(additional, dict)


def untagged_ident(sha256: bytes, additional: JSON) -> bytes:
    """What an input without a tag is compared by, as 16 bytes: its data and its `additional`."""
    return _digest(b"untagged", sha256, canonical(additional))


def generation_name(owner: str, build: int) -> str:
    """The name of one attempt to create a flow: the journal's own random name, and a number that only grows."""
    return f"{owner}-{build}"


@dataclass(frozen=True, slots=True)
class FlowTag:
    """The tag of a flow as it stands on the service."""

    batch: str
    flow: str
    key: str
    generation: str

    def json(self) -> JSON:
        return {"batch": self.batch, "flow": self.flow, "key": self.key, "build": self.generation}

    @property
    def name(self) -> str:
        """What no other create ever has: the flow's key and the build."""
        return f"{self.key}/{self.generation}"

    @property
    def owner(self) -> str:
        return self.generation.rpartition("-")[0]

    @property
    def number(self) -> int:
        """Which create of the flow it comes from: the journal's row had this `generation` then. 0 where it does not tell."""
        digits = self.generation.rpartition("-")[2]
        return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= DIGITS else 0


def flow_tag(batch: str, owner: str, flow: str, generation: int) -> FlowTag:
    """The tag of the create number `generation` of the flow, by the journal `owner`."""
    return FlowTag(batch, flow, flow_key(batch, flow).hex(), generation_name(owner, generation))


def read_flow_tag(additional: object) -> FlowTag | None:
    """The flow's tag, or None where there is none, or not one of ours."""
    tag = additional.get(TAG) if isinstance(additional, dict) else None
    if not isinstance(tag, dict):
        return None
    match tag:
        case {"batch": str(batch), "flow": str(flow), "key": str(key), "build": str(build)}:
            return FlowTag(batch, flow, key, build)
    return None


def read_input_tag(additional: object) -> tuple[bytes, bytes] | None:
    """(key, sha256) of an input's tag, or None where there is none, or not one of ours."""
    tag = additional.get(TAG) if isinstance(additional, dict) else None
    if not isinstance(tag, dict):
        return None
    key, sha256 = tag.get("key"), tag.get("sha256")
    if not isinstance(key, str) or not isinstance(sha256, str) or len(key) != 2 * KEY_BYTES or len(sha256) != 64:
        return None
    try:
        return bytes.fromhex(key), bytes.fromhex(sha256)
    except ValueError:
        return None


def with_flow_tag(additional: Mapping[str, JSON] | None, tag: FlowTag) -> dict[str, JSON]:
    """The `additional` to create a flow with."""
    return {**(additional or {}), TAG: tag.json()}


class Multiset:
    """A sum over a multiset of byte strings, independent of their order, in constant memory (AdHash with SHA-256).

    Two multisets are the same where `count` and `value` are; there is no adversary here who could make them so.
    """

    __slots__ = ("count", "value")

    def __init__(self, count: int = 0, value: int = 0) -> None:
        self.count = count
        self.value = value

    def add(self, *parts: bytes) -> None:
        """Add one element, given in parts of fixed lengths."""
        self.count += 1
        self.value = (self.value + int.from_bytes(hashlib.sha256(b"".join(parts)).digest(), "big")) % _MODULUS

    def __add__(self, other: Multiset) -> Multiset:
        return Multiset(self.count + other.count, (self.value + other.value) % _MODULUS)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Multiset) and (self.count, self.value) == (other.count, other.value)

    __hash__ = None  # type: ignore[assignment]  # it changes
