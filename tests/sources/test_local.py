"""Bodies of exactly known length; a source that changes while it is read is found out."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from batcher.core.errors import Reason, Stop
from batcher.core.model import ABSENT, JSON, Absent, FileSource, Input, Place, Problem, TextSource
from batcher.core.planning import Change, InputPlan
from batcher.host import process as host
from batcher.sources import encoder as encoding
from batcher.sources import local as sources_module
from batcher.sources.encoder import Seen
from batcher.sources.local import ENCODER_FROM, SMALL_BYTES, WHOLE_BYTES, Encoder, LocalSources, SmallBody, StreamBody

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n"
TYPES = ("image/png", "image/jpg", "image/webp")


def source(path: Path | None, text: str | None = None, additional: JSON | Absent = ABSENT, mime: str | None = None) -> Input:
    origin = FileSource(str(path)) if path else TextSource(text or "")
    return Input(path.name if path else "text", origin, mime, additional, Place("m", 1, 1))


def path_of(one: InputPlan) -> str:
    assert isinstance(one.input.source, FileSource)
    return one.input.source.path


def plan(sources: LocalSources, what: Input, types: tuple[str, ...] | None = None) -> InputPlan:
    file_stat, mime = sources.look(what), sources.mime(what, types)
    assert not isinstance(file_stat, Problem)
    assert isinstance(mime, str)
    return InputPlan(what, b"k" * 16, file_stat, mime, b"m", Change.NEW, None)


@pytest.fixture
def sources():
    made = LocalSources(0, time.time)
    yield made
    made.close()


@pytest.mark.parametrize("size", [1, 2, 3, 1000, SMALL_BYTES, SMALL_BYTES + 1, 393_216 * 2, WHOLE_BYTES, 1_500_001])
async def test_body_is_as_long_as_it_said_and_holds_the_file(sources: LocalSources, tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.png"
    content = (PNG + os.urandom(size))[-size:] if size < 8 else PNG + os.urandom(size - 8)
    path.write_bytes(content)
    one = plan(sources, source(path, additional={"n": "ü"}, mime="image/png"))
    body = sources.body(one)
    assert not isinstance(body, Problem)
    streamed = isinstance(body, StreamBody)
    if streamed and body.short:
        whole = await sources.body(one).whole()  # type: ignore[union-attr]  # as long as this one
        assert b"".join(whole or []) == b"".join([chunk async for chunk in sources.body(one).chunks()])  # type: ignore[union-attr]
    sent = b"".join([chunk async for chunk in body.chunks()]) if streamed else body.content
    assert body.fault is None
    assert len(sent) == body.length
    document = json.loads(sent)
    head, _, data = document["data"].partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(data, validate=True) == content
    digest = hashlib.sha256(content)
    assert body.sha256 == digest.digest()
    tag = {"key": (b"k" * 16).hex(), "sha256": digest.hexdigest()}
    assert document["additional"] == {"n": "ü", "batcher": tag}


@pytest.mark.parametrize("change", ["shrinks", "grows", "is rewritten", "vanishes"])
@pytest.mark.parametrize("size", [1000, 3_000_000])
async def test_source_that_changes_is_found_out(sources: LocalSources, tmp_path: Path, change: str, size: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG + os.urandom(size))
    one = plan(sources, source(path))
    match change:
        case "shrinks":
            os.truncate(path, size // 2)
        case "grows":
            path.write_bytes(path.read_bytes() + b"more")
        case "is rewritten":
            (tmp_path / "b.png").write_bytes(PNG + os.urandom(size))
            os.replace(tmp_path / "b.png", path)
        case "vanishes":
            path.unlink()
    body = sources.body(one)
    if isinstance(body, StreamBody):
        async for _ in body.chunks():
            pass
        assert body.sha256 is None
        body = body.fault
    assert isinstance(body, Problem)
    assert body.kind == "source"


async def test_file_that_grows_while_it_streams_is_found_out(sources: LocalSources, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG + os.urandom(2_000_000))
    body = sources.body(plan(sources, source(path)))
    assert isinstance(body, StreamBody)
    seen = 0
    async for chunk in body.chunks():
        if not seen:
            with path.open("ab") as file:
                file.write(b"more")
        seen += len(chunk)
    assert body.fault is not None
    assert seen < body.length, "a body that is not whole must not look whole"


def test_types_come_from_content_before_names(sources: LocalSources, tmp_path: Path) -> None:
    cases = {
        "a.txt": (PNG, "image/png"), "b.png": (b"\xff\xd8\xff\xe0", "image/jpg"), "c": (b"RIFF....WEBPVP8 ", "image/webp"),
    }  # fmt: skip
    for name, (content, mime) in cases.items():
        (tmp_path / name).write_bytes(content)
        assert sources.mime(source(tmp_path / name), TYPES) == mime
    (tmp_path / "d.bin").write_bytes(b"????")
    assert isinstance(sources.mime(source(tmp_path / "d.bin"), TYPES), Problem)
    assert sources.mime(source(tmp_path / "d.bin", mime="image/png"), TYPES) == "image/png"
    refused = sources.mime(source(None, "a chair"), TYPES)
    assert isinstance(refused, Problem)
    assert refused.kind == "manifest"


@pytest.mark.parametrize("kind", ["missing", "empty", "folder", "fifo", "loop", "secret"])
def test_source_that_cannot_be_sent_is_a_problem_with_advice(sources: LocalSources, tmp_path: Path, kind: str) -> None:
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


async def up(sources: LocalSources, plans: list[InputPlan]) -> Encoder:
    """The process that encodes, which is begun by the first many."""
    sources.bodies(plans)
    encoder = sources._encoder
    assert encoder is not None, "many files, and no process for them"
    async with asyncio.timeout(20):
        while not encoder.ready:
            await asyncio.sleep(0.01)
    return encoder


@pytest.fixture
def many(sources: LocalSources, tmp_path: Path) -> list[InputPlan]:
    """More small inputs than one process should encode; among them prompts, a list, a name of no UTF-8."""
    plans = []
    for number in range(ENCODER_FROM + 8):
        if number % 100 == 7:
            plans.append(plan(sources, source(None, text=f'"prompt" {number}'), ("text/plain",)))
            continue
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff%d\n.png" % number))
        path.write_bytes(PNG + os.urandom(number))
        meant: JSON | Absent = ([number], {"n": "ü"}, ABSENT)[number % 3]  # type: ignore[assignment]
        plans.append(plan(sources, source(path, additional=meant)))
    return plans


def content(body: object) -> bytes:
    assert isinstance(body, SmallBody)
    assert body.length == len(body.content)
    return body.content


async def test_process_of_its_own_encodes_the_same_bodies(
    sources: LocalSources, many: list[InputPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [(content(body), body.sha256) for body in map(sources.body, many) if not isinstance(body, Problem)]
    monkeypatch.setenv("GENERIO_API_KEY", "sesame")
    encoder = await up(sources, many)
    environment = Path(f"/proc/{encoder.pid}/environ")
    assert not environment.exists() or b"sesame" not in environment.read_bytes()
    monkeypatch.setattr(sources_module, "encode", None)  # here, it would have to be called
    prompts = [plan.mime == "text/plain" for plan in many]
    found = sources.bodies(many)
    assert [(content(body), body.sha256) for body in found if not isinstance(body, Problem)] == expected
    assert any(prompts)
    assert not all(prompts)


async def test_what_the_process_cannot_encode_is_told_in_words(sources: LocalSources, many: list[InputPlan]) -> None:
    await up(sources, many)
    gone, grown = (Path(path_of(one)) for one in many[:2])
    gone.unlink()
    grown.write_bytes(grown.read_bytes() + b"more")
    found = sources.bodies(many)
    assert [body.message.split(" ", 1)[1] if isinstance(body, Problem) else "" for body in found[:3]] == [
        f"such file: '{gone.name}'", "changed while it was read", "",
    ]  # fmt: skip
    assert not any(isinstance(body, Problem) for body in found[2:])


@pytest.mark.parametrize("when", ["before", "amid"])
async def test_process_that_dies_is_done_without(sources: LocalSources, many: list[InputPlan], when: str) -> None:
    encoder = await up(sources, many)
    if when == "amid":
        os.kill(encoder.pid, signal.SIGSTOP)
        threading.Timer(0.2, os.kill, (encoder.pid, signal.SIGKILL)).start()
    else:
        os.kill(encoder.pid, signal.SIGKILL)
    for _ in range(2):
        found = await asyncio.to_thread(sources.bodies, many)
        assert [content(body) for body in found] == [content(sources.body(one)) for one in many]
    assert not encoder.ready


async def test_what_the_process_sees_is_what_is_there(
    sources: LocalSources, many: list[InputPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for and not yet taken, bodies are encoded between, and the next ones are asked for."""
    await up(sources, many)
    (tmp_path / "empty.png").write_bytes(b"")
    wrong = [source(tmp_path / name) for name in ("none.png", "empty.png", "nul\0.png", ".")]
    found = wrong + [one.input for one in many]

    def looked(one: Input, what: Seen | None = None) -> list[object]:
        file_stat = sources.look(one, what)
        return [file_stat] if isinstance(file_stat, Problem) else [file_stat, sources.mime(one, None, what)]

    expected = [looked(one) for one in found]
    first = sources.ahead([(one, True) for one in found])
    bodies = [content(body) for body in sources.bodies(many[:50])]
    second = sources.ahead([(one.input, False) for one in many])
    seen = first()
    assert [looked(one, what) for one, what in zip(found, seen, strict=True)] == expected
    assert seen[:4] == [None] * 4, "what is wrong with them is found out here, and told in words"
    assert bodies == [content(sources.body(one)) for one in many[:50]]
    plain = [(one, what) for one, what in zip(many, second(), strict=True) if one.mime != "text/plain"]
    assert all(what is not None and what[3] == b"" for _, what in plain), "from outside: no file is opened"
    monkeypatch.setattr(os, "stat", None)  # here, it would have to be called
    assert [sources.look(one.input, what) for one, what in plain] == [one.stat for one, _ in plain]


async def test_looks_of_a_process_that_dies_are_done_without(sources: LocalSources, many: list[InputPlan]) -> None:
    encoder = await up(sources, many)
    os.kill(encoder.pid, signal.SIGSTOP)
    taken = sources.ahead([(one.input, True) for one in many])
    threading.Timer(0.2, os.kill, (encoder.pid, signal.SIGKILL)).start()
    assert await asyncio.to_thread(taken) == [None] * len(many)
    assert sources.ahead([(many[0].input, True)])() == [None]


async def test_run_that_is_to_end_does_not_wait_for_a_process_that_stands_still(
    sources: LocalSources, many: list[InputPlan]
) -> None:
    encoder = await up(sources, many)
    os.kill(encoder.pid, signal.SIGSTOP)
    taken = sources.ahead([(one.input, True) for one in many])
    stop = Stop(Reason.DEADLINE, "it is time")
    threading.Timer(0.2, sources.interrupt, (stop,)).start()
    async with asyncio.timeout(5):
        assert await asyncio.to_thread(taken) == [None] * len(many)
    with pytest.raises(Stop):
        sources.look(many[0].input)


async def test_each_thread_gets_the_answer_to_what_it_asked(sources: LocalSources, many: list[InputPlan]) -> None:
    await up(sources, many)
    files = [one for one in many if one.mime != "text/plain"]
    expected = [one.stat for one in files]
    bodies = [content(sources.body(one)) for one in files[:40]]

    def look() -> None:
        for _ in range(60):
            seen = sources.ahead([(one.input, False) for one in files])()
            assert [what and what[:3] for what in seen] == [(p.size, p.mtime_ns, p.inode) for p in expected]

    def encode() -> None:
        for _ in range(200):
            assert [content(body) for body in sources.bodies(files[:40])] == bodies

    async with asyncio.timeout(40):
        await asyncio.gather(asyncio.to_thread(look), asyncio.to_thread(encode))
    assert sources._encoder is not None
    assert sources._encoder.ready


@pytest.mark.skipif(shutil.which("localedef") is None, reason="no other locale can be made here")
def test_process_reads_the_same_names_whatever_the_locale(tmp_path: Path) -> None:
    made = subprocess.run(["localedef", "-f", "ISO-8859-1", "-i", "en_US", tmp_path / "en_US.ISO-8859-1"], capture_output=True)
    if made.returncode > 1:
        pytest.skip("no definition of another locale here")
    for name, text in ((b"/\xfc.png", b"meant"), (b"/\xc3\xbc.png", b"the other file")):
        Path(os.fsdecode(os.fsencode(tmp_path) + name)).write_bytes(text)
    code = """if True:
        import sys, time
        from batcher.core.model import ABSENT, FileSource, Input, Place
        from batcher.sources import local as sources
        if sys.getfilesystemencoding() != "iso8859-1":
            sys.exit(77)
        sources.LOOKS_FROM = 0
        made = sources.LocalSources(0, time.time)
        what = Input("a", FileSource(sys.argv[1] + "/\\xfc.png"), None, ABSENT, Place("m"))
        while not (seen := made.ahead([(what, True)])()[0]):
            time.sleep(0.01)
        print(seen[3].decode())
        made.close()
    """
    locale = {"LOCPATH": str(tmp_path), "LC_ALL": "en_US.ISO-8859-1"}
    command = [sys.executable, "-c", code, str(tmp_path)]
    result = subprocess.run(command, env={**os.environ, **locale}, capture_output=True, text=True, timeout=30)
    if result.returncode == 77:
        pytest.skip("Python does not take another locale here")
    assert result.stdout == "meant\n", result.stderr


async def test_files_that_are_too_young_are_left_alone_whoever_looks(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    with contextlib.closing(LocalSources(60.0, time.time)) as sources:
        found = os.stat(path)
        for seen in (None, (found.st_size, found.st_mtime_ns, found.st_ino, PNG[:16])):
            problem = sources.look(source(path), seen)
            assert isinstance(problem, Problem)
            assert problem.kind == "waiting"


@pytest.mark.parametrize("content", [b"", b"  \n", b"\xff\xfe", b"data:x"])
def test_prompt_that_is_none_is_a_problem(sources: LocalSources, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.txt"
    path.write_bytes(content)
    assert isinstance(sources.mime(source(path), ("text/plain",)), Problem)


def test_process_ends_with_its_parent_however_that_dies() -> None:
    code = """if True:
        import time
        from batcher.sources.local import Encoder
        encoder = Encoder()
        while not encoder.ready:
            time.sleep(0.01)
        print(encoder.pid, flush=True)
        time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
        parent.kill()
    deadline = time.monotonic() + 10
    while _lives(pid):
        assert time.monotonic() < deadline, "it outlives its parent"
        time.sleep(0.01)


def _lives(pid: int) -> bool:
    """A zombie is dead; whether somebody collects it is the machine's affair."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("seconds", [-11_676_096_000, 9_223_372_037, -9_223_372_037, 10_413_792_000])  # 1600, 2262, 1677, 2300
async def test_time_beyond_the_journals_integers_is_bounded(sources: LocalSources, tmp_path: Path, seconds: int) -> None:
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


def test_every_integer_of_a_file_fits_into_the_journal() -> None:
    found = os.stat_result((stat.S_IFREG, 2**64 - 1, 0, 1, 0, 0, 2**63 - 1, 0, 0, 0), {"st_mtime_ns": -(2**70)})
    assert all(-(2**63) <= value < 2**63 for value in encoding.stat_fields(found))


async def test_file_that_claims_to_be_endless_is_a_problem(sources: LocalSources, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    try:
        with path.open("wb") as file:
            file.truncate(2**41)
    except OSError:
        pytest.skip("this file system takes no such file")
    found = sources.look(source(path))
    assert isinstance(found, Problem)
    assert (found.kind, found.message) == ("source", "a.png claims 2,199,023,255,552 bytes")


@contextlib.contextmanager
def no_file_left(give_back_after_s: float):
    """Every file that this process may open is open; after a while one can be had again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first = os.open(os.devnull, os.O_RDONLY)
    held = [first]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/dev/fd"))) + 8, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        timer = threading.Timer(give_back_after_s, lambda: os.close(held.pop()))
        timer.start()
        yield
        timer.join()
    finally:
        for one in held:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("size", [100, SMALL_BYTES + 1, WHOLE_BYTES + 1])
async def test_too_many_open_files_are_waited_for(sources: LocalSources, tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG + os.urandom(size))
    one = plan(sources, source(path))
    sources.reader.submit(int).result()
    with no_file_left(0.2):
        digest = await asyncio.to_thread(sources.digest, one.input)
    with no_file_left(0.2):
        body = sources.body(one)
        if isinstance(body, StreamBody):
            sent = b"".join([chunk async for chunk in body.chunks()])
            assert len(sent) == body.length
    assert not isinstance(body, Problem)
    assert body.sha256 == digest == hashlib.sha256(path.read_bytes()).digest()


async def test_too_many_open_files_are_not_the_files_fault(
    sources: LocalSources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    one = plan(sources, source(path))
    monkeypatch.setattr(host, "PATIENCE_S", 0.1)
    with no_file_left(0.5):
        found = sources.body(one)
    assert isinstance(found, Problem)
    assert (found.kind, found.message) == ("unavailable", "a.png cannot be opened: too many files are open")


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
    sources: LocalSources, tmp_path: Path, name: str, content: bytes, found: str
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
def test_content_comes_before_the_name(sources: LocalSources, tmp_path: Path, name: str, content: bytes, mime: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert sources.mime(source(tmp_path / name), None) == mime
