"""Media types: what a file is, by its first bytes and by its name. No I/O.

In: first bytes, names of files, types as people and services spell them. Out: plain MIME types, name endings, words for people.
Called by the sources, by the check of what was downloaded, by `init` and by the report's page. A small table of our own, for
the machine's differs from machine to machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

GLB: Final = "model/gltf-binary"
TEXT: Final = "text/plain"
IMAGES: Final = ("image/png", "image/jpeg", "image/tiff", "image/webp")  # that a template may take

# Each type's name endings; the first is the one that an output gets.
SUFFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "image/png": (".png",), "image/jpeg": (".jpg", ".jpeg"), "image/webp": (".webp",), "image/tiff": (".tiff", ".tif"),
    GLB: (".glb",), TEXT: (".txt", ".md"), "model/gltf+json": (".gltf",), "model/obj": (".obj",), "model/stl": (".stl",),
    "model/ply": (".ply",), "model/fbx": (".fbx",), "model/vnd.usdz+zip": (".usdz",), "image/gif": (".gif",),
    "video/mp4": (".mp4",), "video/webm": (".webm",), "video/quicktime": (".mov",), "application/zip": (".zip",),
}  # fmt: skip
MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"II+\0", "image/tiff"),  # BigTIFF
    (b"MM\0+", "image/tiff"),
    (b"glTF", GLB),
    (b"GIF8", "image/gif"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"Kaydara FBX", "model/fbx"),
    (b"PK\x03\x04", "application/zip"),
)
_INSIDE: Final = ((b"RIFF", b"WEBP", 8, "image/webp"), (b"", b"ftyp", 4, "video/mp4"))  # (start, magic, where, type)
# Files of several kinds begin alike: which it is tells the type that it is said to have.
_ALSO: Final = {"application/zip": ("model/vnd.usdz+zip",), "video/mp4": ("video/quicktime",)}
# What is said to be one of these begins as one. (FBX is not among them: some of its files are plain text.)
_MAGICAL: Final = {*(mime for _, mime in MAGIC), *(mime for *_, mime in _INSIDE), "model/vnd.usdz+zip"} - {"model/fbx"}

# What can be sent. The service advertises image/jpg as well as image/jpeg, and `prompt` for text/plain.
INPUT_TYPES: Final = frozenset({*IMAGES, GLB, TEXT})
INPUT_SUFFIXES: Final = {suffix: mime for mime in (*IMAGES, GLB, TEXT) for suffix in SUFFIXES[mime]}
_SPELLINGS: Final = {"image/jpg": "image/jpeg", "image/tif": "image/tiff"}
_INPUT_SPELLINGS: Final = {**_SPELLINGS, "prompt": TEXT, "text": TEXT}
# Of outputs only: digests of what was sent take an input's plain type in.
_OUTPUT_SPELLINGS: Final = {
    **_SPELLINGS, "model/x-stl": "model/stl", "application/sla": "model/stl", "model/x-ply": "model/ply",
    "application/ply": "model/ply", "application/fbx": "model/fbx", "application/x-fbx": "model/fbx",
    "model/vnd.fbx": "model/fbx", "model/usdz": "model/vnd.usdz+zip", "video/x-m4v": "video/mp4",
    "application/x-zip-compressed": "application/zip",
}  # fmt: skip

# What is found in place of an image or a model: by its type, or by the first bytes after white space, in lower case.
_OTHER_TYPES: Final = {"image/gif": "a GIF", "application/zip": "a ZIP archive"}
_OTHERS: Final = (
    (b"version https://", "a Git LFS pointer"), (b"/annex/objects/", "a git-annex pointer"),
    (b"<!doctype html", "an HTML page"), (b"<html", "an HTML page"), (b"<svg", "an SVG"), (b"<?xml", "an XML text"),
    (b"<", "an HTML or XML text"), (b"{", "a JSON text"), (b"[", "a JSON text"),
    (b"bm", "a BMP"), (b"8bps", "a Photoshop file"), (b"%pdf", "a PDF"), (b"\x1f\x8b", "a gzip archive"),
)  # fmt: skip
_PHONE_IMAGES: Final = (b"heic", b"heix", b"mif1", b"avif")


def plain_type(mime: str) -> str:
    """One spelling for each type of an input, without parameters, in lower case."""
    mime = _bare(mime)
    return _INPUT_SPELLINGS.get(mime, mime)


def plain_output_type(declared: str) -> str:
    """The same for the type that an output is declared to have."""
    mime = _bare(declared)
    return _OUTPUT_SPELLINGS.get(mime, mime)


def _bare(mime: str) -> str:
    return mime.partition(";")[0].strip().lower()


@lru_cache(64)
def other_spellings(plain: str) -> tuple[str, ...]:
    """The other media types that a plain type of an input may be sent as."""
    return tuple(other for other, mime in _SPELLINGS.items() if mime == plain)


@lru_cache(16)
def spellings(types: tuple[str, ...]) -> Mapping[str, str]:
    """The types that a template takes, as it spells them, by their plain spelling."""
    return {plain_type(mime): mime for mime in types}


def detect(head: bytes) -> str:
    """The plain type of a file that begins with `head`, "" where it cannot be told."""
    for magic, mime in MAGIC:
        if head.startswith(magic):
            return mime
    for start, magic, at, mime in _INSIDE:
        if head.startswith(start) and head[at : at + len(magic)] == magic:
            return mime
    return ""


def detect_input(head: bytes) -> str:
    """The same for what can be sent; of all else the name decides, and `beginning` says what it is."""
    found = detect(head)
    return found if found in INPUT_TYPES else ""


def begins_also(found: str, declared: str) -> bool:
    """Whether a file of the `declared` type begins as one of the type that was `found` by its first bytes."""
    return declared in _ALSO.get(found, ())


def belies(head: bytes, mime: str) -> bool:
    """Whether a file that begins with `head` is surely none of this plain type."""
    found = detect(head)
    return mime in _MAGICAL and found != mime and not begins_also(found, mime)


def named(path: str, types: tuple[str, ...] | None) -> str:
    """The plain type that an input's name tells, "" where it tells none. `types`: those that the template takes."""
    name = path.rpartition("/")[2].lstrip(".")
    _, dot, suffix = name.rpartition(".")
    only_text = types is not None and spellings(types).keys() == {TEXT}
    return INPUT_SUFFIXES.get(f".{suffix.lower()}" if dot else "", TEXT if only_text else "")


def output_suffix(mime: str) -> str:
    """The ending of an output's name."""
    return SUFFIXES.get(mime, (".bin",))[0]


def beginning(head: bytes) -> str:
    """What the first bytes are, as far as that helps to see what went wrong with the file."""
    if not head.strip(b"\0"):
        return "zeros"
    if head[4:8] == b"ftyp":
        return "those of an HEIC or AVIF image" if head[8:12] in _PHONE_IMAGES else "those of a video"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    other = _OTHER_TYPES.get(detect(head)) or next((what for begin, what in _OTHERS if text.startswith(begin)), None)
    if other is not None:
        return f"those of {other}"
    is_text = head.isascii() and " ".join(head.decode().split()).isprintable()
    return "those of a text" if is_text else head[:8].hex(" ")
