"""What was downloaded: whether it is whole, and of which type. No I/O.

In: first bytes, sizes, and declared types of downloads. Out: a MIME type, or `Spoiled`, which says what is wrong. Called by the
folder of outputs, the downloads and `pipeline.collect`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .facts import FileStat
from .media import GLB, begins_also, belies, detect, plain_output_type

HEAD_BYTES: Final = 16  # of a download; enough for every type that is told by its first bytes
# What each template makes (flows-api, Templates known today). Of another template every known kind of file is taken.
OUTPUT_TYPES: Final[dict[str, frozenset[str]]] = {
    "model_generate_fromprompt": frozenset({GLB}),
    "model_generate_fromimage": frozenset({GLB}),
    "model_optimize": frozenset({GLB}),
}
# Types that say nothing of an output; a service's error page or a gateway's comes under one of them, too.
_NOTHING: Final = frozenset({"", "application/json", "text/html", "text/json", "application/xhtml+xml", "application/xml"})


@dataclass(frozen=True, slots=True)
class Spoiled:
    """A download that came to its end and is not what it should be; `message` is for people."""

    message: str


@dataclass(frozen=True, slots=True)
class Landed:
    """A download that is whole, checked and on the disk, beside its place. `more`: bytes after a GLB's declared end."""

    mime: str
    sha256: bytes
    stat: FileStat
    more: int = 0


def content_of(head: bytes, size: int, declared: str) -> str | Spoiled:
    """The MIME type of a download of `size` bytes that begins with `head` (16 bytes of it), or what is wrong with it."""
    declared, found = plain_output_type(declared), detect(head)
    if size == 0:
        return Spoiled("it is empty")
    if found == GLB:
        return _glb(head, size) or found
    if begins_also(found, declared):
        return declared
    if belies(head, declared):
        return Spoiled(f"it is said to be {declared}, and its first bytes are {head[:4]!r}")
    stray = _is_text(head) and not declared.startswith(("text/", "model/"))
    if not found and (declared in _NOTHING or stray):
        return Spoiled(f"it is no file of a kind that is known ({declared or 'without a type'}, {size} bytes)")
    return found or declared


def _is_text(head: bytes) -> bool:
    """Whether a file that begins so is most likely a text: an error in words, for example."""
    text = head.decode(errors="replace").rstrip("\ufffd")  # the last character may be cut
    return bool(text) and all((char.isprintable() and char != "\ufffd") or char in "\t\r\n" for char in text)


def not_made_by(template: str | None, mime: str) -> Spoiled | None:
    """That an output of this type is none of the template's; None where it is, or the template is not known."""
    made = OUTPUT_TYPES.get(template or "")
    if made is None or mime in made:
        return None
    return Spoiled(f"it is {mime}, and {template} makes {' or '.join(sorted(made))}")


def bytes_after(head: bytes, size: int) -> int:
    """How many bytes follow the declared end of a GLB of `size` bytes that begins with `head`."""
    return max(0, size - int.from_bytes(head[8:12], "little")) if detect(head) == GLB else 0


def _glb(head: bytes, size: int) -> Spoiled | None:
    """What is wrong with a GLB. Source: the glTF 2.0 specification, GLB File Format, Header."""
    if size < 12:
        return Spoiled(f"it is a GLB of {size} bytes, less than its header")
    version, length = int.from_bytes(head[4:8], "little"), int.from_bytes(head[8:12], "little")
    if version not in (1, 2):
        return Spoiled(f"it is a GLB of version {version}")
    if not 12 <= length <= size:
        return Spoiled(f"it is a GLB that declares {length} bytes, and {size} came")
    return None  # more bytes harm nobody: readers stop at the declared end
