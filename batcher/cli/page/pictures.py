"""Thumbnails of image inputs, as data URIs that a page can hold.

In: files that batcher sends. Out: data URIs, bounded in number, bytes and time. With Pillow (the extra `images`) each is
made small; without it only what is small already is taken as it is. What cannot be read is left out: a report is no check.
"""

from __future__ import annotations

import base64
import io
import os
import stat
import time
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Final

from ...core.media import detect
from .data import FlowLine

THUMBNAILS: Final = 200
TOTAL_BYTES: Final = 2 << 20  # of all data URIs
EDGE_PIXELS: Final = 160  # the longer edge: sharp at 80 CSS pixels on a dense screen
AS_IT_IS_BYTES: Final = 20 << 10  # so small a picture is taken without Pillow
SOURCE_BYTES: Final = 64 << 20  # a larger one is not opened
TIME_S: Final = 10.0  # for all of them
FORMATS: Final = ("PNG", "JPEG", "WEBP", "TIFF")
_SHOWN: Final = ("image/png", "image/jpeg", "image/webp")  # by every browser


def thumbnails(flows: Sequence[FlowLine]) -> tuple[list[str], dict[int, list[tuple[int, int]]]]:
    """The data URIs, and by a flow's index: (index of its input among its `pictures`, index of the URI).

    Every flow gets its first picture before any gets a second; problems come first."""
    ends = time.monotonic() + TIME_S
    order = sorted(range(len(flows)), key=lambda n: (flows[n].status, n))
    uris: list[str] = []
    of_flow: dict[int, list[tuple[int, int]]] = {}
    room = TOTAL_BYTES
    for turn in range(max((len(flow.pictures) for flow in flows), default=0)):
        for n in order:
            if len(uris) >= THUMBNAILS or time.monotonic() > ends:
                return uris, of_flow
            if turn >= len(flows[n].pictures):
                continue
            uri = thumbnail(flows[n].pictures[turn].path)
            if uri is not None and len(uri) <= room:
                of_flow.setdefault(n, []).append((turn, len(uris)))
                uris.append(uri)
                room -= len(uri)
    return uris, of_flow


def thumbnail(path: str) -> str | None:
    """A data URI of the picture, or None."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size > SOURCE_BYTES:
            return None
        made = _made(path) if find_spec("PIL") is not None else _as_it_is(path)
    except (OSError, ValueError):
        return None
    return None if made is None else f"data:{made[0]};base64,{base64.b64encode(made[1]).decode()}"


def _as_it_is(path: str) -> tuple[str, bytes] | None:
    with open(path, "rb") as file:
        content = file.read(AS_IT_IS_BYTES + 1)
    if len(content) > AS_IT_IS_BYTES:
        return None
    mime = detect(content)
    return (mime, content) if mime in _SHOWN else None


def _made(path: str) -> tuple[str, bytes] | None:
    from PIL import Image, ImageOps, features

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=FORMATS) as source:
                source.draft("RGB", (2 * EDGE_PIXELS, 2 * EDGE_PIXELS))  # a JPEG is decoded smaller at once
                picture: Any = ImageOps.exif_transpose(source)
                picture.thumbnail((EDGE_PIXELS, EDGE_PIXELS))
                picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
                out = io.BytesIO()
                if features.check("webp"):
                    picture.save(out, "WEBP", quality=72)
                    return "image/webp", out.getvalue()
                picture.save(out, "PNG")
                return "image/png", out.getvalue()
        except Exception:  # whatever a decoder makes of a broken file: there is no picture of it
            return None
