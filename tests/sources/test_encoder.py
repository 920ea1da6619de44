"""A process of its own looks and encodes as this one would; when it dies, this one does."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from batcher.core.errors import Reason, Stop
from batcher.core.model import Input, Problem
from batcher.core.planning import InputPlan
from batcher.sources import local
from batcher.sources.dispatch import AllSources
from batcher.sources.encode_worker import Seen

from .conftest import content, path_of, source, up

pytestmark = pytest.mark.anyio


async def test_process_of_its_own_encodes_the_same_bodies(
    sources: AllSources, many: list[InputPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [(content(body), body.sha256) for body in map(sources.body, many) if not isinstance(body, Problem)]
    monkeypatch.setenv("GENERIO_API_KEY", "sesame")
    encoder = await up(sources, many)
    environment = Path(f"/proc/{encoder.pid}/environ")
    assert not environment.exists() or b"sesame" not in environment.read_bytes()
    monkeypatch.setattr(local, "encode", None)  # here, it would have to be called
    prompts = [plan.mime == "text/plain" for plan in many]
    found = sources.bodies(many)
    assert [(content(body), body.sha256) for body in found if not isinstance(body, Problem)] == expected
    assert any(prompts)
    assert not all(prompts)


async def test_what_the_process_cannot_encode_is_told_in_words(sources: AllSources, many: list[InputPlan]) -> None:
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
async def test_process_that_dies_is_done_without(sources: AllSources, many: list[InputPlan], when: str) -> None:
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
    sources: AllSources, many: list[InputPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


async def test_looks_of_a_process_that_dies_are_done_without(sources: AllSources, many: list[InputPlan]) -> None:
    encoder = await up(sources, many)
    os.kill(encoder.pid, signal.SIGSTOP)
    taken = sources.ahead([(one.input, True) for one in many])
    threading.Timer(0.2, os.kill, (encoder.pid, signal.SIGKILL)).start()
    assert await asyncio.to_thread(taken) == [None] * len(many)
    assert sources.ahead([(many[0].input, True)])() == [None]


async def test_run_that_is_to_end_does_not_wait_for_a_process_that_stands_still(
    sources: AllSources, many: list[InputPlan]
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


async def test_each_thread_gets_the_answer_to_what_it_asked(sources: AllSources, many: list[InputPlan]) -> None:
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
    assert sources.files._encoder is not None
    assert sources.files._encoder.ready


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
        from batcher.sources import local
        from batcher.sources.dispatch import AllSources
        if sys.getfilesystemencoding() != "iso8859-1":
            sys.exit(77)
        local.LOOKS_FROM = 0
        made = AllSources(0, time.time)
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
