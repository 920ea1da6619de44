"""What lies beside the page: looked at, linked, made once, and taken away when it is no longer wanted."""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.gallery.files import PROMPT_BYTES, GalleryFolder, address, file_address, is_below, look, safe_output

PNG = b"\x89PNG\r\n\x1a\n"
names = st.binary(min_size=1, max_size=20).filter(lambda raw: b"/" not in raw and b"\0" not in raw and raw not in (b".", b".."))


@given(st.lists(names, min_size=1, max_size=3))
def test_an_address_is_plain_and_leads_to_the_very_path(parts: list[bytes]) -> None:
    path = os.fsdecode(b"/a/b/" + b"/".join(parts))
    found = address(path, "/a/c")
    assert re.fullmatch(r"[A-Za-z0-9_.~/%-]+", found)
    whole = urlsplit(f"file:///a/c/{found}")
    assert (whole.query, whole.fragment) == ("", "")
    assert os.path.normpath(unquote_to_bytes(whole.path)) == os.path.normpath(os.fsencode(path))
    assert unquote_to_bytes(urlsplit(file_address(path)).path) == os.fsencode(os.path.abspath(path))


def test_files_are_known_by_their_first_bytes(tmp_path: Path) -> None:
    contents = {"a.png": PNG, "b": b"\xff\xd8\xff\xe0", "c.txt": b"Ein Hocker\n", "d.bin": b"\0\1\2", "e.glb": b"glTF....",
                "f.tiff": b"II*\0", "g.webp": b"RIFF....WEBP", "h.txt": b"\xff\xfe\xfd"}  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    kinds = {name: look(str(tmp_path / name)).kind for name in contents}
    assert kinds == {"a.png": "image", "b": "image", "c.txt": "text", "d.bin": "other", "e.glb": "model", "f.tiff": "other",
                     "g.webp": "image", "h.txt": "other"}  # fmt: skip
    assert look(str(tmp_path / "c.txt")).text == "Ein Hocker\n"


def test_a_long_text_is_cut_between_characters(tmp_path: Path) -> None:
    for shift in range(4):
        (tmp_path / "long.txt").write_text("x" * shift + "椅" * 3000, "utf-8")
        text = look(str(tmp_path / "long.txt")).text
        assert text.endswith("椅…")
        assert PROMPT_BYTES - 5 < len(text[:-1].encode()) <= PROMPT_BYTES


def test_what_is_no_plain_file_has_gone_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("fifo", "dangling", "nothing", ".", "a\0b"):
        assert look(str(tmp_path / name)).kind == "gone"


def test_a_model_is_a_script_that_calls_the_page_with_its_bytes(tmp_path: Path) -> None:
    beside = GalleryFolder(tmp_path, "a batch", "sandbox")
    for size in (0, 1, 2, 3, 4_000_001):
        path = tmp_path / f"{size}.glb"
        path.write_bytes(os.urandom(size))
        name = beside.model(str(path), path.stat())
        text = (tmp_path / beside.place / "models" / f"{name}.js").read_text("ascii")
        match = re.fullmatch(r'batcherModel\("([0-9a-f]{32})",\(\)=>\{/\*([A-Za-z0-9+/=]*)\*/\}\);\n', text)
        assert match is not None
        assert match[1] == name
        assert base64.b64decode(match[2]) == path.read_bytes()


def test_a_second_time_nothing_is_written_and_what_has_changed_is(tmp_path: Path) -> None:
    path = tmp_path / "a.glb"
    path.write_bytes(b"glTF one")

    def again() -> tuple[int, bytes]:
        beside = GalleryFolder(tmp_path, "b", "sandbox")
        name = beside.model(str(path), path.stat())
        copied = beside.copy(str(path), look(str(path)))
        script = tmp_path / beside.place / "models" / f"{name}.js"
        return beside.written, script.read_bytes() + (tmp_path / copied).read_bytes()

    assert again()[0] == 2
    assert again()[0] == 0
    path.write_bytes(b"glTF two")
    os.utime(path, ns=(1, 1))
    written, content = again()
    assert written == 2
    assert content.endswith(b"glTF two")
    script = next((tmp_path / GalleryFolder(tmp_path, "b", "sandbox").place / "models").iterdir())
    script.write_bytes(script.read_bytes()[:-3])  # as a power cut may leave it
    os.utime(script, ns=(1, 1))
    assert again()[0] == 1


def test_only_what_is_ours_is_taken_away(tmp_path: Path) -> None:
    beside = GalleryFolder(tmp_path, "b", "sandbox")
    path = tmp_path / "a.glb"
    path.write_bytes(b"glTF")
    name = beside.model(str(path), path.stat())
    folder = tmp_path / beside.place / "models"
    for other in ("0" * 32 + ".js", "." + "0" * 32 + ".part", "mine.js", "0" * 31 + ".js"):
        (folder / other).write_text("")
    beside.sweep()
    assert {entry.name for entry in folder.iterdir()} == {f"{name}.js", "mine.js", "0" * 31 + ".js"}


def test_batches_have_folders_of_their_own_with_plain_names(tmp_path: Path) -> None:
    batches = (("a", "x"), ("a", "y"), ("../..", "x"), ("椅子", "x"), ("a b", "x"), ("a-b", "x"))
    places = {GalleryFolder(tmp_path, *of).place for of in batches}
    assert len(places) == 6
    assert all(re.fullmatch(r"gallery_files/[A-Za-z0-9-]+", place) for place in places)


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a\0b", ".."])
def test_outputs_stay_in_their_folder(path: str) -> None:
    assert not safe_output(path)


def test_below_means_below() -> None:
    assert is_below("/a/b/c", "/a/b")
    assert not is_below("/a/bc", "/a/b")
    assert safe_output("a/b..c.glb")
