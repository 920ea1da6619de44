"""A small file becomes the body of a request: read, held against its plan, hashed, encoded, tagged.

In: paths with their planned outsides. Out: bodies. Called by `sources` for a few files, and run by it as a script for many:
on a core of its own, where it does not take turns with the loop at the interpreter's lock (at 1 KB a file that was a fifth
of all time). It imports nothing of batcher, so that it is quick to start. Frames on stdin and stdout: eight bytes of length,
then a list as `marshal` writes it; the list of the same length comes back.
"""

from __future__ import annotations

import hashlib
import json
import marshal
import os
import signal
import sys
from typing import IO, Any

import pybase64

INODES = (1 << 63) - 1  # inode numbers have 64 bits, the journal's integers 63
HEAD_BYTES = 8
FRAME_BYTES = 1 << 28  # far above what one request asks for

# What is asked for: path, MIME type, (size, mtime_ns, inode), `additional`, and the tag's member and key, or None for none.
Asked = tuple[str, str, tuple[int, int, int], Any, tuple[str, str] | None]


def encode(asked: Asked) -> tuple[bytes, bytes] | None:
    """The body and the SHA-256 of the file; None where the file is not what was planned. Raises OSError."""
    path, mime, planned, additional, tag = asked
    found = read(path, planned)
    if found is None:
        return None
    data, sha256 = found
    return body(b'"data:' + mime.encode() + b";base64," + data + b'"', additional, tag, sha256.hex()), sha256


def read(path: str, planned: tuple[int, int, int]) -> tuple[bytes, bytes] | None:
    """All of the file as base64, and its SHA-256; None where it is not what was planned. Raises OSError."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        raw = os.read(file, planned[0] + 1)
        found = os.fstat(file)
    finally:
        os.close(file)
    if (found.st_size, found.st_mtime_ns, found.st_ino & INODES) != planned or len(raw) != planned[0]:
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


def write_frame(file: IO[bytes], items: list[Any]) -> None:
    """Raises BrokenPipeError where nobody reads."""
    content = marshal.dumps(items)
    file.write(len(content).to_bytes(HEAD_BYTES, "big") + content)
    file.flush()


def read_frame(file: IO[bytes]) -> list[Any] | None:
    """None: nobody writes any more, or something that is no frame."""
    length = int.from_bytes(file.read(HEAD_BYTES), "big")
    content = file.read(length) if length <= FRAME_BYTES else b""
    if not content or len(content) < length:
        return None
    items: list[Any] = marshal.loads(content)  # noqa: S302 - from our own process
    return items


def main() -> None:
    """Until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, who closes stdin
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    write_frame(sink, [])  # ready
    while (items := read_frame(source)) is not None:
        found: list[tuple[bytes, bytes] | None] = []
        for asked in items:
            try:
                found.append(encode(asked))
            except (OSError, ValueError):
                found.append(None)  # the parent looks for itself what is wrong
        try:
            write_frame(sink, found)
        except BrokenPipeError:
            return


if __name__ == "__main__":
    main()
