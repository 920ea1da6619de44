"""Files: what can be sent, what type it has, and what keeps it from being sent."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from pathlib import Path

import pytest

from batcher.core.model import Problem
from batcher.sources.bodies import SmallBody, StreamBody
from batcher.sources.dispatch import SMALL_BYTES, AllSources
from batcher.sources.file_body import WHOLE_BYTES

from .conftest import PNG, TYPES, no_file_left, plan, source

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("kind", ["missing", "empty", "folder", "fifo", "loop", "secret"])
def test_source_that_cannot_be_sent_is_a_problem_with_advice(sources: AllSources, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.png"
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "loop":
            path.symlink_to(path)
        case "secret":
            path.write_bytes(PNG)
            path.chmod(0)
            if os.access(path, os.R_OK):
                pytest.skip("root reads everything")
    found = sources.look(source(path))
    if not isinstance(found, Problem):
        found = sources.mime(source(path), TYPES)
    assert isinstance(found, Problem)
    assert found.kind == "source"
    assert found.hint


async def test_files_that_are_too_young_are_left_alone_whoever_looks(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    with contextlib.closing(AllSources(60.0, time.time)) as sources:
        found = os.stat(path)
        for seen in (None, (found.st_size, found.st_mtime_ns, found.st_ino, PNG[:16])):
            problem = sources.look(source(path), seen)
            assert isinstance(problem, Problem)
            assert problem.kind == "waiting"


@pytest.mark.parametrize("seconds", [-11_676_096_000, 9_223_372_037, -9_223_372_037, 10_413_792_000])  # 1600, 2262, 1677, 2300
async def test_time_beyond_the_journals_integers_is_bounded(sources: AllSources, tmp_path: Path, seconds: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG + b"a")
    ns = seconds * 10**9 + 1
    os.utime(path, ns=(ns, ns))
    if path.stat().st_mtime_ns != ns:
        pytest.skip("this file system has no such time")
    file_stat = sources.look(source(path))
    assert not isinstance(file_stat, Problem)
    assert -(2**63) <= file_stat.mtime_ns < 2**63
    os.utime(path, ns=(ns + 1, ns + 1))
    assert sources.look(source(path)) != file_stat, "another time is still another one"
    one = plan(sources, source(path))
    assert isinstance(sources.body(one), SmallBody), "the encoder bounds it as the look does"


async def test_file_that_claims_to_be_endless_is_a_problem(sources: AllSources, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    try:
        with path.open("wb") as file:
            file.truncate(2**41)
    except OSError:
        pytest.skip("this file system takes no such file")
    found = sources.look(source(path))
    assert isinstance(found, Problem)
    assert (found.kind, found.message) == ("source", "a.png claims 2,199,023,255,552 bytes")


@pytest.mark.parametrize("size", [100, SMALL_BYTES + 1, WHOLE_BYTES + 1])
async def test_too_many_open_files_are_waited_for(sources: AllSources, tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG + os.urandom(size))
    one = plan(sources, source(path))
    sources.files.reader.submit(int).result()
    with no_file_left(0.2):
        digest = await asyncio.to_thread(sources.digest, one.input)
    with no_file_left(0.2):
        body = sources.body(one)
        if isinstance(body, StreamBody):
            sent = b"".join([chunk async for chunk in body.chunks()])
            assert len(sent) == body.length
    assert not isinstance(body, Problem)
    assert body.sha256 == digest == hashlib.sha256(path.read_bytes()).digest()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (LFS, "those of a Git LFS pointer"),
        (b"\xef\xbb\xbf\n <!DOCTYPE html><title>Not found</title>", "those of an HTML page"),
        (b"<html>", "those of an HTML page"),
        (b"GIF89a\1\0\1\0", "those of a GIF"),
        (bytes(5000), "zeros"),
        (b"\0", "zeros"),
        (b'{"error": "not found"}', "those of a JSON text"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "those of an HEIC or AVIF image"),
        (b"Not found\n", "those of a text"),
        (b"\x89PNG\n\x1a\n", "89 50 4e 47 0a 1a 0a"),  # line ends were translated on the way
    ],
)
@pytest.mark.parametrize("name", ["a.png", "a.JPG", "a.tiff", "a.webp", "a.glb"])
def test_file_that_is_not_what_its_name_says_is_a_problem(
    sources: AllSources, tmp_path: Path, name: str, content: bytes, found: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    problem = sources.mime(source(path), None)
    assert isinstance(problem, Problem)
    assert problem.kind == "source"
    assert problem.message == f"{name} is not what its name says: its first bytes are {found}"
    assert sources.mime(source(path, mime="image/png"), None) == "image/png", "what is said counts"


@pytest.mark.parametrize(
    ("name", "content", "mime"),
    [
        ("a.png", b"\xff\xd8\xff\xe0", "image/jpeg"),  # sent as what it is
        ("a.glb", b"glTF\2\0\0\0", "model/gltf-binary"),
        ("a.tif", b"II+\0\x08\0\0\0", "image/tiff"),
        ("a.jpg", b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        ("a", PNG, "image/png"),
    ],
)
def test_content_comes_before_the_name(sources: AllSources, tmp_path: Path, name: str, content: bytes, mime: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert sources.mime(source(tmp_path / name), None) == mime
