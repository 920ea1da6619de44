"""Looks into one image after the other, in a process of its own: a decoder holds the interpreter lock, and a hostile image
may crash or exhaust it.

In: a path with its format, whether to decode, and the most pixels. Out: None or `[kind, text]`. Run as a script by `images`
(see `child_main`), with the descriptor of the turnstile as its argument. It imports nothing of batcher.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

with contextlib.suppress(ImportError):  # Windows, where nothing asks for this process
    import fcntl

TEXT_BYTES = 16 << 20  # of one text in a PNG, unpacked: ComfyUI keeps whole workflows there; Pillow refuses more than 1 MiB
TEXTS_BYTES = 64 << 20  # of all texts in one PNG, as Pillow has it
LARGE_PIXELS = 16_000_000  # from here on one worker at a time decodes: at most 4 bytes a pixel are held once, not by each


def look(image_module: Any, turnstile: int, path: bytes, kind: str, decode: bool, max_pixels: int) -> list[str] | None:
    """What is wrong with an image: None, or `["pixels", "W × H"]`, or `["broken", why]`."""
    try:
        with open(path, "rb") as file:
            image = image_module.open(file, formats=[kind])
            width, height = image.size
            if width * height > max_pixels:  # before anything is decoded: a bomb is small until then
                return ["pixels", f"{width:,} × {height:,}"]
            if not decode:
                return None
            large = width * height > LARGE_PIXELS and kind != "JPEG"
            if large:
                fcntl.lockf(turnstile, fcntl.LOCK_EX)
            try:
                if kind == "PNG":  # decoding alone does not look at every checksum
                    image.verify()
                    file.seek(0)
                    image = image_module.open(file, formats=[kind])
                image.draft(None, (1, 1))  # a JPEG at an eighth: all of its data are read, a sixty-fourth is held
                image.load()
            finally:
                if large:
                    image.close()
                    fcntl.lockf(turnstile, fcntl.LOCK_UN)
    except image_module.UnidentifiedImageError:
        return ["broken", f"it is no {kind}"]
    except Exception as error:  # decoders raise whatever they like
        if "MAX_TEXT" in str(error):
            return ["broken", f"a text in it has more than {TEXT_BYTES >> 20} MiB, or all of them {TEXTS_BYTES >> 20} MiB"]
        return ["broken", str(error).partition("\n")[0][:200] or type(error).__name__]
    return None


def works(turnstile: str) -> dict[str, Callable[[list[Any]], list[Any]]]:
    """What the process can be asked for."""
    from PIL import Image, PngImagePlugin

    Image.MAX_IMAGE_PIXELS = None  # the limit is ours
    PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = TEXT_BYTES, TEXTS_BYTES
    return {"look": lambda asked: [look(Image, int(turnstile), *one) for one in asked]}
