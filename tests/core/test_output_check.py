"""What counts as an output: by its first bytes, its size, and what it is said to be."""

from __future__ import annotations

import pytest

from batcher.core.output_check import Spoiled, bytes_after, content_of, not_made_by


def glb(size: int, declared: int | None = None, version: int = 2) -> tuple[bytes, int]:
    return b"glTF" + version.to_bytes(4, "little") + (declared or size).to_bytes(4, "little") + b"JSON", size


@pytest.mark.parametrize(
    ("head", "size", "declared", "found"),
    [
        (*glb(500), "model/gltf-binary", "model/gltf-binary"),
        (*glb(500), "application/json", "model/gltf-binary"),
        (*glb(500, 501), "", None),
        (*glb(500, version=7), "", None),
        (b"glTF", 4, "", None),
        (b"", 0, "model/gltf-binary", None),
        (b"\x89PNG\r\n\x1a\n", 90, "image/png", "image/png"),
        (b"\xff\xd8\xff\xe0", 90, "image/jpg", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", 90, "image/jpeg", None),
        (b"<html>", 90, "text/html; charset=utf-8", None),
        (b"random", 90, "application/json", None),
        (b"random", 90, "", None),
        (b"random", 90, "model/gltf-binary", None),
        (b"solid x", 90, "model/stl", "model/stl"),
        (b"\x93\x01random", 90, "application/octet-stream", "application/octet-stream"),
        (b"Error: asset is ", 90, "application/octet-stream", None),
        ("Fehler: nicht möglich".encode()[:16], 90, "binary/octet-stream", None),
        (b"Error: asset is ", 90, "video/x-unheard", None),
        (b"Error: asset is ", 90, "text/plain", "text/plain"),
        (b"\0\0\0\x20ftypisom", 90, "", "video/mp4"),
        (b"\0\0\0\x14ftypqt  ", 90, "video/quicktime", "video/quicktime"),
        (b"Error: asset is ", 90, "video/mp4", None),
        (b"\x1aE\xdf\xa3\x01", 90, "video/webm", "video/webm"),
        (b"Kaydara FBX Bina", 90, "application/octet-stream", "model/fbx"),
        (b"; FBX 7.3.0 proj", 90, "application/fbx", "model/fbx"),
        (b"GIF89a", 90, "image/gif", "image/gif"),
        (b"PK\x03\x04", 90, "model/vnd.usdz+zip", "model/vnd.usdz+zip"),
        (b"PK\x03\x04", 90, "application/zip", "application/zip"),
        (b"Error: asset is ", 90, "model/vnd.usdz+zip", None),
        (b"ply\nformat ascii", 90, "model/ply", "model/ply"),
        (*glb(504, 500), "model/gltf-binary", "model/gltf-binary"),
        (*glb(504, 5), "model/gltf-binary", None),
    ],
)
def test_content_is_judged_by_its_first_bytes_its_size_and_what_it_is_said_to_be(
    head: bytes, size: int, declared: str, found: str | None
) -> None:
    result = content_of(head, size, declared)
    assert isinstance(result, Spoiled) if found is None else result == found


def test_bytes_after_a_glb_are_counted() -> None:
    assert (bytes_after(*glb(504, 500)), bytes_after(*glb(500)), bytes_after(b"GIF89a-23456", 90)) == (4, 0, 0)


def test_each_template_of_today_makes_glbs_and_of_another_every_kind_is_taken() -> None:
    for template in ("model_generate_fromprompt", "model_generate_fromimage", "model_optimize"):
        assert not_made_by(template, "model/gltf-binary") is None
        assert "makes model/gltf-binary" in not_made_by(template, "image/png").message  # type: ignore[union-attr]
    assert not_made_by("of_tomorrow", "video/mp4") is not_made_by(None, "text/plain") is None
