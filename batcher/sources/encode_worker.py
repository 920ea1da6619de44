"""A small file becomes the body of a request: read, held against its plan, hashed, encoded, tagged.

In: paths with their planned file stats; or paths alone, to be looked at. Out: bodies; what was seen. Called by `local` for a
few files, and run by `encoder` as a script for many (see `child_main`): on a core of its own, where it does not take turns
with the loop at the interpreter's lock (at 1 KB a file that was a fifth of all time). It imports nothing of batcher.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import pybase64

if TYPE_CHECKING:
    from concurrent.futures import Executor

T = TypeVar("T")

MOST = (1 << 63) - 1  # the journal's integers have 64 bits with their sign; an inode has 64 without, a time as many as it likes
MAGIC_BYTES = 32  # the first bytes of a file, which tell its type, or what it is instead

LOOKERS = 4  # threads
TRIED = 32  # looks before it is known whether the disk is cold
COLD_S = 30e-6  # a look; more is a disk's work

# What is looked at: path (as the disk has it), and whether inside. What is seen of it: size, mtime_ns, inode, the first bytes.
ToLookAt = tuple[bytes, bool]
Seen = tuple[int, int, int, bytes]

# What is asked for: path, MIME type, (size, mtime_ns, inode), `additional`, and the tag's member and key, or None for none.
Asked = tuple[bytes, str, tuple[int, int, int], Any, tuple[str, str] | None]


def stat_fields(found: os.stat_result) -> tuple[int, int, int]:
    """Size, mtime_ns and inode, bounded as the journal's integers are: what is beyond (a file of the year 1600 or 2262) keeps
    its last 63 bits, so that it still tells one file from another. As `host.system.stat_of`, which a test holds beside it."""
    size, mtime_ns, inode = found.st_size, found.st_mtime_ns, found.st_ino
    if not -MOST <= mtime_ns <= MOST:
        mtime_ns &= MOST
    return size, mtime_ns, inode & MOST


def look(path: bytes, inside: bool) -> Seen | None:
    """The file's stat, and `inside` its first bytes; None where it is none that can be sent. Raises OSError."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode) or not found.st_size:
        return None
    return *stat_fields(found), head(path) if inside else b""


def head(path: str | bytes) -> bytes:
    """The first bytes. Raises OSError."""
    file = os.open(path, os.O_RDONLY)
    try:
        return os.read(file, MAGIC_BYTES)
    finally:
        os.close(file)


def encode(asked: Asked) -> tuple[bytes, bytes] | None:
    """The body and the SHA-256 of the file; None where the file is not what was planned. Raises OSError."""
    path, mime, planned, additional, tag = asked
    found = read(path, planned)
    if found is None:
        return None
    data, sha256 = found
    return body(b'"data:' + mime.encode() + b";base64," + data + b'"', additional, tag, sha256.hex()), sha256


def read(path: str | bytes, planned: tuple[int, int, int]) -> tuple[bytes, bytes] | None:
    """All of the file as base64, and its SHA-256; None where it is not what was planned. Raises OSError."""
    file = os.open(path, os.O_RDONLY)
    try:
        raw = os.read(file, planned[0] + 1)
        found = os.fstat(file)
    finally:
        os.close(file)
    if stat_fields(found) != planned or len(raw) != planned[0]:
        return None
    return pybase64.b64encode(raw), hashlib.sha256(raw).digest()


def body(data: bytes, additional: Any, tag: tuple[str, str] | None, sha256: str) -> bytes:
    """The JSON object that is posted; `data` is the JSON text of its `data`."""
    return b'{"data":' + data + b"," + member(additional, tag, sha256) + b"}"


def member(additional: Any, tag: tuple[str, str] | None, sha256: str) -> bytes:
    """The member `additional`, after the data, so that the digest can be taken while a file streams."""
    if tag is not None:
        additional = {**(additional or {}), tag[0]: {"key": tag[1], "sha256": sha256}}
    return b'"additional":' + json.dumps(additional).encode()


def look_all(asked: list[ToLookAt]) -> list[Seen | None]:
    """`look` at each. A cold disk is asked for several at a time: four threads took 24 µs a file where one took 87; of what is
    in the machine's memory one takes 8 and four take 13."""
    began = time.perf_counter()
    found = [_or_none(look, one) for one in asked[:TRIED]]
    rest = asked[TRIED:]
    if time.perf_counter() - began < COLD_S * len(found):
        return found + [_or_none(look, one) for one in rest]
    parts = [rest[at : at + TRIED] for at in range(0, len(rest), TRIED)]
    for part in _threads().map(lambda part: [_or_none(look, one) for one in part], parts):
        found += part
    return found


def encode_all(asked: list[Asked]) -> list[tuple[bytes, bytes] | None]:
    return [_or_none(lambda *one: encode(one), one) for one in asked]


def _or_none(work: Callable[..., T], one: Sequence[Any]) -> T | None:
    """None where it cannot be done: the parent looks for itself what is wrong."""
    try:
        return work(*one)
    except (OSError, ValueError):
        return None


@lru_cache(1)
def _threads() -> Executor:
    from concurrent.futures import ThreadPoolExecutor  # it takes a while to import, and is rarely wanted

    return ThreadPoolExecutor(LOOKERS)


def works() -> dict[str, Callable[[list[Any]], list[Any]]]:
    """What the process can be asked for."""
    return {"look": look_all, "encode": encode_all}
