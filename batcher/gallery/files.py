"""What lies beside the page: the viewer, models as scripts, and copies of inputs where they are asked for.

In: files of the results and of the manifest. Out: names below gallery_files/BATCH, addresses for links. Called by `making`.
Nothing is written twice: a file carries the time of the one that it was made from, and is kept while time and size agree.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pybase64

from ..core.media import GLB, SUFFIXES, detect
from ..core.output_names import GALLERY

VIEWER: Final = "model-viewer-umd.min.js"
LICENCE: Final = "LICENSE"
BLOCK_BYTES: Final = 3 << 20  # a multiple of 3, so that blocks are encoded one after the other
MODEL_BYTES: Final = 256 << 20  # a larger one is a link only: as text it is near the longest string that a browser holds
PROMPT_BYTES: Final = 4000  # of a text that are shown; the file has the rest
HEAD_BYTES: Final = 16
_OURS: Final = re.compile(r"[0-9a-f]{32}\.[a-z0-9]{1,8}|\.[0-9a-f]{32}\.part")
_SHOWN: Final = ("image/png", "image/jpeg", "image/webp", "image/gif")  # as every browser shows them


@dataclass(frozen=True, slots=True)
class Look:
    """A file as it is now. `kind`: image, model, text, other; gone, where it cannot be opened. `text`: how it begins."""

    kind: str
    stat: os.stat_result | None = None
    suffix: str = ""
    text: str = ""


def look(path: str) -> Look:
    """Look at a file by its first bytes; whatever is no plain file is gone."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a FIFO is not waited for
    except (OSError, ValueError):
        return Look("gone")
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            return Look("gone")
        head = os.read(file, HEAD_BYTES)
        mime = detect(head)
        suffix = SUFFIXES.get(mime, (".bin",))[0].removeprefix(".")
        if mime in _SHOWN:
            return Look("image", found, suffix)
        if mime == GLB:
            return Look("model", found, suffix)
        text = None if mime else _text(head + os.read(file, PROMPT_BYTES - len(head)), found.st_size)
    except OSError:
        return Look("gone")
    finally:
        os.close(file)
    return Look("other", found, suffix) if text is None else Look("text", found, "txt", text)


def _text(start: bytes, size: int) -> str | None:
    """The beginning of a text, None where it is none; its last character may be cut."""
    cut = size > len(start)
    for missing in range(4 if cut else 1):
        with contextlib.suppress(UnicodeDecodeError):
            text = start[: len(start) - missing].decode()
            return None if "\0" in text else text.removeprefix("\ufeff") + ("…" if cut else "")
    return None


def address(path: str, folder: str) -> str:
    """How a page in `folder` links to `path` (both absolute): every byte that is not plain is spelled as %XX."""
    return quote(os.fsencode(os.path.relpath(path, folder)))


def file_address(path: str) -> str:
    """An address that holds on this machine only."""
    return "file://" + quote(os.fsencode(os.path.abspath(path)))


def is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")


def safe_output(path: str) -> bool:
    """Whether a path of the list of results stays in its folder: the list may have been written by anybody."""
    return bool(path) and not path.startswith("/") and "\0" not in path and ".." not in path.split("/")


class GalleryFolder:
    """The folder of a batch's gallery, below the folder of the results. `slug` is the batch's name as a name of a folder."""

    def __init__(self, root: Path, batch: str, endpoint: str) -> None:
        mark = hashlib.blake2b(f"{len(batch)}:{batch}{endpoint}".encode(errors="replace"), digest_size=4).hexdigest()
        plain = re.sub(r"[^A-Za-z0-9]+", "-", batch).strip("-")[:30]
        self.slug = f"{plain}-{mark}" if plain else mark
        self.root = root
        self.place = f"{GALLERY}_files/{self.slug}"
        self.models = self.copies = self.written = self.bytes = 0
        self._kept: set[str] = set()
        self._folders: dict[str, str] = {}

    def folder(self, name: str) -> str:
        """The folder of that name in it, made where it is missing. Paths are texts here: for 10,000 files a second less."""
        if name not in self._folders:
            made = os.path.join(self.root, self.place, name)
            os.makedirs(made, exist_ok=True)
            self._folders[name] = made
        return self._folders[name]

    def viewer(self) -> str:
        """The viewer and its licence, as they were published. The address of the viewer."""
        home = resources.files(__package__).joinpath("viewer")
        for name in (VIEWER, LICENCE):
            content = home.joinpath(name).read_bytes()
            path = self.root / f"{GALLERY}_files" / "viewer" / name
            with contextlib.suppress(OSError):
                if path.read_bytes() == content:
                    continue
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{name}.{os.getpid()}.part")
            part.write_bytes(content)
            part.replace(path)
        return f"{GALLERY}_files/viewer/{VIEWER}"

    def model(self, path: str, found: os.stat_result) -> str:
        """The model as a script that a page opened as a file can load; its id, "" where it is too large. It stands in the
        comment of a function: of a text in quotes a browser makes another copy, which it keeps for long."""
        if found.st_size > MODEL_BYTES:
            return ""
        name = _id(path)
        begin, end = f'batcherModel("{name}",()=>{{/*'.encode(), b"*/});\n"
        size = len(begin) + (found.st_size + 2) // 3 * 4 + len(end)

        def write(part: str) -> None:
            with open(path, "rb") as source, open(part, "wb") as target:
                target.write(begin)
                while block := source.read(BLOCK_BYTES):
                    target.write(pybase64.b64encode(block))
                target.write(end)

        self._keep("models", f"{name}.js", found, size, write)
        self.models += 1
        return name

    def copy(self, path: str, found: Look) -> str:
        """A copy of an input; its address from the page."""
        assert found.stat is not None
        name = f"{_id(path)}.{found.suffix}"
        self._keep("inputs", name, found.stat, found.stat.st_size, lambda part: shutil.copyfile(path, part))
        self.copies += 1
        return f"{self.place}/inputs/{name}"

    def _keep(self, folder: str, name: str, source: os.stat_result, size: int, write: Callable[[str], object]) -> None:
        """Have the file as it is made from a source with this stat. Not flushed to the disk: what a power cut leaves short is
        told by its size, and made again."""
        self._kept.add(f"{folder}/{name}")
        path = f"{self.folder(folder)}/{name}"
        with contextlib.suppress(FileNotFoundError):
            there = os.lstat(path)
            if (there.st_size, there.st_mtime_ns) == (size, source.st_mtime_ns) and stat.S_ISREG(there.st_mode):
                return
        part = f"{self.folder(folder)}/.{name[:32]}.part"
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)  # a kill left it
            write(part)
            os.utime(part, ns=(source.st_mtime_ns, source.st_mtime_ns))
            os.replace(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise
        self.written += 1
        self.bytes += size

    def sweep(self) -> None:
        """Take away what an earlier page had and this one has no more; nothing but what has a name of ours."""
        for folder in ("models", "inputs"):
            with contextlib.suppress(FileNotFoundError), os.scandir(self.root / self.place / folder) as entries:
                for entry in entries:
                    if f"{folder}/{entry.name}" not in self._kept and _OURS.fullmatch(entry.name):
                        os.unlink(entry.path)


def _id(path: str) -> str:
    """32 hex digits for a path."""
    return hashlib.blake2b(os.fsencode(path), digest_size=16).hexdigest()
