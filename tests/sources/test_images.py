"""The look at images: what is broken or too large is found, what was fit is not looked at again."""

from __future__ import annotations

import os
import signal
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from batcher.core.errors import Reason, Stop, UsageError
from batcher.core.facts import FileStat
from batcher.core.model import ABSENT, FileSource, Input, Place, Problem, TextSource
from batcher.sources import image_worker, images
from batcher.sources.child import Child
from batcher.sources.images import Images, _mark

KINDS = {"PNG": "image/png", "JPEG": "image/jpeg", "TIFF": "image/tiff", "WEBP": "image/webp"}


@pytest.fixture
def pil() -> Any:
    return pytest.importorskip("PIL.Image", reason="Pillow is not installed: pip install 'batcher[images]'")


@pytest.fixture
def look(pil: Any) -> Iterator[Images]:
    made = Images(decode=True, max_pixels=1_000_000)
    yield made
    made.close()


def looked(path: Path, mime: str = "image/png") -> tuple[Input, FileStat, str]:
    found = path.stat()
    source = Input(path.name, FileSource(str(path)), None, ABSENT, Place("m.yaml", 3, 5))
    return source, FileStat(found.st_size, found.st_mtime_ns, found.st_ino), mime


def said(found: list[Problem | None]) -> list[str]:
    return ["" if problem is None else problem.message for problem in found]


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that decodes to a huge one, if anybody does."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_whole_images_of_every_kind_are_fit_and_cut_ones_are_not(look: Images, pil: Any, tmp_path: Path) -> None:
    noise = pil.effect_noise((120, 90), 80).convert("RGB")
    for kind, mime in KINDS.items():
        whole, cut = tmp_path / f"whole.{kind}", tmp_path / f"cut.{kind}"
        noise.save(whole, kind)
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
        first, second = look.look([looked(whole, mime), looked(cut, mime)])
        assert first is None
        assert isinstance(second, Problem)
        assert second.message.startswith(f"cut.{kind} does not decode: ")
        assert (second.kind, str(second.place), second.input) == ("source", "m.yaml:3:5", f"cut.{kind}")


def test_a_flipped_bit_another_kind_and_no_image_are_found(look: Images, pil: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    pil.effect_noise((64, 64), 80).save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "flipped.png").write_bytes(data)
    (tmp_path / "magic.png").write_bytes(b"\x89PNG\r\n\x1a\n" + os.urandom(100))
    found = look.look([looked(tmp_path / "flipped.png"), looked(path, "image/webp"), looked(tmp_path / "magic.png")])
    assert said(found)[0].startswith("flipped.png does not decode: ")
    assert said(found)[1] == "a.png does not decode: it is no WEBP"
    assert said(found)[2].startswith("magic.png does not decode: ")


def test_a_bomb_is_told_by_its_size_and_never_decoded(look: Images, tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(bomb(60_000, 60_000))
    began = time.monotonic()
    (problem,) = look.look([looked(tmp_path / "bomb.png")])
    assert str(problem) == (
        "m.yaml:3:5: bomb.png has 60,000 × 60,000 pixels, and limits.max_pixels allows 1,000,000 "
        "(scale it down, or raise the limit)"
    )
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("packed", [False, True])
def test_a_png_that_holds_a_whole_workflow_is_fit(look: Images, pil: Any, tmp_path: Path, packed: bool) -> None:
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    for name, size in (("workflow", 3 << 20), ("prompt", 9 << 20)):
        texts.add_text(name, '{"nodes": []}' * (size // 13), zip=packed)
    texts.add_itxt("xmp", "ü" * (2 << 20), zip=packed)
    pil.effect_noise((64, 64), 80).save(tmp_path / "a.png", pnginfo=texts)
    assert look.look([looked(tmp_path / "a.png")]) == [None]


def test_a_text_that_unpacks_without_end_is_bounded(look: Images, pil: Any, tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    texts.add_text("bomb", "x" * (image_worker.TEXT_BYTES + 1), zip=True)
    pil.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=texts)
    (problem,) = look.look([looked(tmp_path / "a.png")])
    assert problem is not None
    assert problem.message == "a.png does not decode: a text in it has more than 16 MiB, or all of them 64 MiB"


def test_without_decoding_only_the_size_counts(pil: Any, tmp_path: Path) -> None:
    made = Images(decode=False, max_pixels=100)
    (tmp_path / "small.png").write_bytes(bomb(10, 10))
    (tmp_path / "large.png").write_bytes(bomb(10, 11))
    try:
        assert [bool(problem) for problem in made.look([looked(tmp_path / "small.png"), looked(tmp_path / "large.png")])] == [
            False,
            True,
        ]
    finally:
        made.close()


def test_many_images_come_back_in_order_and_other_types_are_let_through(look: Images, pil: Any, tmp_path: Path) -> None:
    found = []
    for number in range(40):
        path = tmp_path / f"{number}.png"
        pil.new("RGB", (number + 1, 3)).save(path)
        if number % 7 == 3:
            path.write_bytes(path.read_bytes()[:-20])
        found.append(looked(path, "model/gltf-binary" if number == 10 else "image/png"))
    text = Input("a chair", TextSource("a chair"), None, ABSENT, Place("m.yaml"))
    problems = look.look([*found, (text, FileStat(7), "text/plain")])
    assert [index for index, problem in enumerate(problems) if problem] == [3, 17, 24, 31, 38]
    assert look.look([]) == []


def test_large_images_pass_one_at_a_time(pil: Any, tmp_path: Path) -> None:
    assert image_worker.LARGE_PIXELS < 4100 * 4000
    made = Images(decode=True, max_pixels=None)
    for number in range(3):
        pil.new("L", (4100, 4000)).save(tmp_path / f"{number}.png", compress_level=1)
    try:
        assert made.look([looked(tmp_path / f"{number}.png") for number in range(3)]) == [None] * 3
    finally:
        made.close()


def test_what_was_fit_is_not_looked_at_again_until_it_changes(
    pil: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    ask = Child.ask

    def noted(worker: Child, work: str, items: Sequence[Any]) -> bool:
        asked.extend(Path(os.fsdecode(path)).name for path, *_ in items)
        return ask(worker, work, items)

    monkeypatch.setattr(Child, "ask", noted)
    memory = tmp_path / "m.images"
    for name in ("a.png", "b.png"):
        pil.new("RGB", (5, 5)).save(tmp_path / name)
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")

    def once(*names: str, remember: bool = True, max_pixels: int = 100, whole: bool = True) -> list[str]:
        asked.clear()
        made = Images(True, max_pixels, memory, remember=remember)
        made.look([looked(tmp_path / name) for name in names])
        made.look([looked(tmp_path / name) for name in names if name != "bad.png"])
        made.whole = whole
        made.close()
        return sorted(asked)

    assert once("a.png", "b.png", "bad.png", remember=False) == ["a.png", "b.png", "bad.png"]
    assert not memory.exists(), "plan writes nothing"
    assert once("a.png", "b.png", "bad.png") == ["a.png", "b.png", "bad.png"]
    assert memory.stat().st_mode & 0o777 == 0o600
    assert once("a.png", "b.png", "bad.png") == ["bad.png"]
    assert once(whole=False) == once("a.png", "b.png") == [], "a run that ends early forgets nothing"
    os.utime(tmp_path / "b.png", ns=(1, 1))
    assert once("b.png") == ["b.png"]
    assert once("a.png") == ["a.png"], "what a run does not meet is forgotten"
    assert once("a.png", max_pixels=99) == ["a.png"], "other limits, another look"
    memory.write_bytes(b"x" * 21)
    assert once("a.png", max_pixels=99) == ["a.png"]


def test_a_decoder_that_dies_or_hangs_is_told_and_the_others_are_looked_at(
    pil: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import os, time\n"
        "def look(items):\n"
        "    path = items[0][0]\n"
        "    return os.abort() if b'crash' in path else time.sleep(60) if b'hang' in path else [None]\n"
        "def works(turnstile):\n"
        "    return {'look': look}\n"
    )
    monkeypatch.setattr(image_worker, "__file__", str(worker))
    monkeypatch.setattr(images, "PATIENCE_S", 5.0)
    names = ["a.png", "crash.png", "b.png", "hang.png", "c.png"]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    made = Images(decode=True, max_pixels=None)
    try:
        assert said(made.look([looked(tmp_path / name) for name in names])) == [
            "", "crash.png does not decode: the decoder crashed on it", "",
            "hang.png does not decode: it takes longer than 5 s", "",
        ]  # fmt: skip
    finally:
        made.close()


def test_a_run_that_is_to_end_ends_between_two_images(look: Images, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(bomb(1, 1))
    look.stopping = lambda: Stop(Reason.SIGINT, "stopped")
    with pytest.raises(Stop):
        look.look([looked(tmp_path / "a.png")])


def test_a_missing_pillow_is_told_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'batcher\[images\]'"):
        Images(decode=True, max_pixels=None)


def test_marks_stay_what_they_are_in_the_files_that_are_there() -> None:
    assert _mark("/in/photos/ä.png", FileStat(7, 1_700_000_000_123_456_789, 4711), "image/png") == 233783099818524343
    assert _mark("/up/a b.glb", FileStat(7, 1_700_000_000_123_456_789, 4711), "image/png") == 623874510163688207


@pytest.mark.parametrize("gone", [False, True])
def test_a_worker_that_died_meanwhile_is_told_and_replaced(look: Images, pil: Any, tmp_path: Path, gone: bool) -> None:
    pil.new("RGB", (5, 5)).save(tmp_path / "a.png")
    pil.new("RGB", (5, 5)).save(tmp_path / "b.png")
    assert look.look([looked(tmp_path / "a.png")]) == [None]
    (worker,) = look._workers
    os.kill(worker.pid, signal.SIGKILL)
    if gone:  # its pipe takes nothing any more
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
    assert said(look.look([looked(tmp_path / "b.png")])) == ["b.png does not decode: the decoder crashed on it"]
    assert look.look([looked(tmp_path / "b.png")]) == [None]
