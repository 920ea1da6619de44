"""What type a file has: by its first bytes before its name; and what it is instead where the two do not fit.

In: first bytes, names, the types that a template takes. Out: plain MIME types, and words for people. Called by `sources`, and
by `init` for the names. A small table of our own, for the machine's differs from machine to machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"II+\0", "image/tiff"),  # BigTIFF
    (b"MM\0+", "image/tiff"),
    (b"glTF", "model/gltf-binary"),
)
SUFFIXES: Final = {
    ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".tif": "image/tiff",
    ".tiff": "image/tiff", ".glb": "model/gltf-binary", ".txt": "text/plain", ".md": "text/plain",
}  # fmt: skip
ALIASES: Final = {"image/jpg": "image/jpeg", "image/tif": "image/tiff", "prompt": "text/plain", "text": "text/plain"}
# What is found in place of an image or a model, by the first bytes after white space, in lower case.
OTHERS: Final = (
    (b"version https://", "a Git LFS pointer"), (b"/annex/objects/", "a git-annex pointer"),
    (b"<!doctype html", "an HTML page"), (b"<html", "an HTML page"), (b"<svg", "an SVG"), (b"<?xml", "an XML text"),
    (b"<", "an HTML or XML text"), (b"{", "a JSON text"), (b"[", "a JSON text"),
    (b"gif8", "a GIF"), (b"bm", "a BMP"), (b"8bps", "a Photoshop file"), (b"%pdf", "a PDF"),
    (b"pk\3\4", "a ZIP archive"), (b"\x1f\x8b", "a gzip archive"),
)  # fmt: skip
PHONE_IMAGES: Final = (b"heic", b"heix", b"mif1", b"avif")
NO_SUCH: Final = "not what its name says: its first bytes are"


def plain_type(mime: str) -> str:
    """One spelling for each type: the service advertises image/jpg as well as image/jpeg, `prompt` for text/plain."""
    mime = mime.partition(";")[0].strip().lower()
    return ALIASES.get(mime, mime)


@lru_cache(16)
def spellings(types: tuple[str, ...]) -> Mapping[str, str]:
    """By their plain type."""
    return {plain_type(t): t for t in types}


def detect(head: bytes) -> str:
    """The plain type of a file that begins with `head`, "" where it cannot be told."""
    for magic, mime in MAGIC:
        if head.startswith(magic):
            return mime
    return "image/webp" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else ""


def named(path: str, types: tuple[str, ...] | None) -> str:
    """The plain type that a file's name tells, "" where it tells none."""
    only_text = types is not None and spellings(types).keys() == {"text/plain"}
    return SUFFIXES.get(os.path.splitext(path)[1].lower(), "text/plain" if only_text else "")


_MAGICAL: Final = frozenset({mime for _, mime in MAGIC} | {"image/webp"})


def belies(head: bytes, mime: str) -> bool:
    """Whether a file that begins with `head` is surely none of this plain type."""
    return mime in _MAGICAL and detect(head) != mime


def beginning(head: bytes) -> str:
    """What the first bytes are, as far as that helps to see what went wrong with the file."""
    if not head.strip(b"\0"):
        return "zeros"
    if head[4:8] == b"ftyp":
        return "those of an HEIC or AVIF image" if head[8:12] in PHONE_IMAGES else "those of a video"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    other = next((what for begin, what in OTHERS if text.startswith(begin)), None)
    if other is not None:
        return f"those of {other}"
    is_text = head.isascii() and " ".join(head.decode().split()).isprintable()
    return "those of a text" if is_text else head[:8].hex(" ")
