"""One table of media types, for what is sent and for what comes back."""

from __future__ import annotations

import pytest

from batcher.core import media

HEADS = {
    "image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff\xe0", "image/webp": b"RIFF\0\0\0\0WEBPVP8 ",
    "image/tiff": b"II*\0", "model/gltf-binary": b"glTF\2\0\0\0", "image/gif": b"GIF89a", "video/mp4": b"\0\0\0\x20ftypisom",
    "video/webm": b"\x1aE\xdf\xa3\x01", "model/fbx": b"Kaydara FBX Bina", "application/zip": b"PK\x03\x04",
}  # fmt: skip


def test_types_are_told_by_first_bytes_and_only_what_can_be_sent_is_an_input() -> None:
    assert {mime: media.detect(head) for mime, head in HEADS.items()} == {mime: mime for mime in HEADS}
    sendable = {mime: media.detect_input(head) for mime, head in HEADS.items()}
    assert sendable == {mime: mime if mime in media.INPUT_TYPES else "" for mime in HEADS}
    assert media.detect(b"MM\0*") == media.detect(b"II+\0") == media.detect(b"MM\0+") == "image/tiff"
    assert media.detect(b"") == media.detect(b"RIFF....WAVE") == media.detect(b"solid x") == ""


def test_names_tell_what_first_bytes_do_not() -> None:
    named = {"a.PNG": "image/png", "x/a.b.jpeg": "image/jpeg", "a.tif": "image/tiff", "a.glb": "model/gltf-binary",
             "p.md": "text/plain", "a.gif": "", "a": "", ".png": "", "a.png/b": ""}  # fmt: skip
    assert {path: media.named(path, None) for path in named} == named
    assert media.named("prompt", ("prompt",)) == "text/plain", "where only texts are taken, any name is one of a text"
    assert media.named("prompt", ("prompt", "image/png")) == ""


def test_every_suffix_belongs_to_one_type_and_outputs_get_the_first() -> None:
    every = [suffix for suffixes in media.SUFFIXES.values() for suffix in suffixes]
    assert len(every) == len(set(every))
    assert [media.output_suffix(mime) for mime in ("image/jpeg", "image/tiff", "text/plain", "x/y")] == [
        ".jpg", ".tiff", ".txt", ".bin",
    ]  # fmt: skip
    assert sorted(media.INPUT_SUFFIXES) == [
        ".glb", ".jpeg", ".jpg", ".md", ".png", ".tif", ".tiff", ".txt", ".webp",
    ]  # fmt: skip


def test_a_type_has_one_spelling_and_an_input_is_sent_as_the_manifest_spells_it() -> None:
    for spelled in ("image/jpg", "IMAGE/JPEG; q=1", " image/jpeg "):
        assert media.plain_type(spelled) == media.plain_output_type(spelled) == "image/jpeg"
    assert media.plain_type("prompt") == media.plain_type("text") == "text/plain"
    assert media.plain_output_type("model/usdz") == "model/vnd.usdz+zip"
    assert media.plain_type("model/usdz") == "model/usdz", "sent as it is: journals hold digests of it"
    assert media.spellings(("image/jpg", "prompt")) == {"image/jpeg": "image/jpg", "text/plain": "prompt"}


@pytest.mark.parametrize(
    ("head", "mime", "belied"),
    [
        (HEADS["image/png"], "image/png", False),
        (HEADS["image/png"], "image/jpeg", True),
        (b"Error: no", "model/vnd.usdz+zip", True),
        (HEADS["application/zip"], "model/vnd.usdz+zip", False),
        (b"\0\0\0\x14ftypqt  ", "video/quicktime", False),
        (b"; FBX 7.3.0 proj", "model/fbx", False),  # some FBX files are plain text
        (b"anything", "text/plain", False),
        (b"anything", "x/y", False),
    ],
)
def test_first_bytes_belie_a_type_only_where_it_has_some(head: bytes, mime: str, belied: bool) -> None:
    assert media.belies(head, mime) is belied
