"""Files on local disks: their stats, types, digests and contents.

In: inputs whose source is a file. Out: file stats, MIME types, digests, and bodies. Called by `dispatch`. Many small files are
looked at and encoded by a process (see `encoder`); large ones are read while they are sent (see `file_body`).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final

from ..core.bodies import SmallBody
from ..core.facts import FileStat
from ..core.media import beginning, belies, detect_input, named, plain_type
from ..core.model import FileSource, Input, Problem
from ..core.planning import InputPlan
from ..host.process import patiently
from ..host.system import stat_of
from . import encode_worker
from .bodies import beside
from .encode_worker import Asked, Seen, encode
from .encoder import Encoder
from .problems import changed, source_problem, unreadable, young

if TYPE_CHECKING:
    from .file_body import FileBody

DIGEST_BYTES: Final = 1 << 20  # hashed between two looks whether the run is to end
READERS: Final = 2  # threads; hashing, which is half of the work, is done outside of the interpreter's lock
ENCODER_FROM: Final = 512  # small files before a process of their own pays
LOOKS_FROM: Final = 1000  # or files to look at
PROMPT_BYTES: Final = 16 << 20  # a prompt larger than this is a mistake
FILE_BYTES: Final = 1 << 40  # so is a file: a sparse one can claim so much that the sum of two is no 64-bit integer
NO_SUCH: Final = "not what its name says: its first bytes are"


class Files:
    """The engine of files. `go_on` raises where the run is to end."""

    def __init__(self, min_age_s: float, now: Callable[[], float], go_on: Callable[[], None]) -> None:
        self._min_age_s = min_age_s
        self._now = now
        self._go_on = go_on
        self.reader = ThreadPoolExecutor(READERS, "reader")
        self._encoder: Encoder | None = None
        self._encoder_tried = False
        self._asked_for = self._looked_at = 0

    def close(self) -> None:
        self.reader.shutdown(wait=False, cancel_futures=True)
        if self._encoder is not None:
            self._encoder.close()

    def interrupt(self) -> None:
        if self._encoder is not None:
            self._encoder.kill()  # it may stand still, as the disk that it reads

    def ahead(self, asked: Sequence[tuple[Input, bool]]) -> Callable[[], Sequence[Seen | None]]:
        """Another process looks at these meanwhile, once so many have come that it pays."""
        self._looked_at += len(asked)
        encoder = self._ready_encoder(self._looked_at >= LOOKS_FROM)
        if encoder is None:
            return lambda: [None] * len(asked)
        return encoder.looks([(_name(item), inside) for item, inside in asked])

    def _ready_encoder(self, pays: bool) -> Encoder | None:
        if pays and not self._encoder_tried and (os.cpu_count() or 1) > 1:
            self._encoder_tried = True
            with contextlib.suppress(OSError):  # no process to be had: it is done without
                self._encoder = Encoder()
        return self._encoder if self._encoder is not None and self._encoder.ready else None

    def look(self, item: Input, seen: Seen | None) -> FileStat | Problem:
        if seen is None:
            try:
                found = os.stat(_path(item))
            except OSError as error:
                return unreadable(item, _path(item), error)
            except ValueError:
                return source_problem(item, f"{item.label!r} is no path", "remove the NUL character")
            if not stat.S_ISREG(found.st_mode):
                what = "a folder" if stat.S_ISDIR(found.st_mode) else "not a regular file"
                return source_problem(item, f"{item.label} is {what}", "name a file, or use glob:")
            file_stat = stat_of(found)
        else:
            file_stat = FileStat(*seen[:3])
        if file_stat.size > FILE_BYTES:
            what = f"{item.label} claims {file_stat.size:,} bytes"
            return source_problem(item, what, "1 TiB at most can be sent; is it sparse?")
        if file_stat.size == 0:
            return source_problem(item, f"{item.label} is empty", "fill it, or take it out of the manifest")
        return young(item, file_stat.mtime_ns, self._min_age_s, self._now) or file_stat

    def type_of(self, item: Input, types: tuple[str, ...] | None, seen: Seen | None) -> str | Problem:
        path = _path(item)
        try:
            head = seen[3] if seen is not None else patiently(partial(encode_worker.head, path), self._go_on)
        except OSError as error:
            return unreadable(item, path, error)
        if item.mime:
            mime = plain_type(item.mime)
        else:
            mime = detect_input(head) or named(path, types)
            if belies(head, mime):
                message = f"{item.label} is {NO_SUCH} {beginning(head)}"
                return source_problem(item, message, f"mend it, or take it out of the manifest; mime: {mime} sends it as it is")
        return mime or source_problem(item, f"the type of {item.label} cannot be told", "say it with mime:")

    def text(self, item: Input) -> str | Problem:
        try:
            with io.BufferedReader(patiently(partial(io.FileIO, _path(item)), self._go_on)) as file:
                data = file.read(PROMPT_BYTES + 1)
            text = data.decode()
        except OSError as error:
            return unreadable(item, _path(item), error)
        except UnicodeDecodeError as error:
            return source_problem(item, f"{item.label} is not UTF-8 (byte {error.start})", "a prompt is UTF-8 text")
        if len(data) > PROMPT_BYTES:
            return source_problem(item, f"{item.label} is too large for a prompt", "16 MiB at most")
        return text

    def digest(self, item: Input) -> bytes | Problem:
        try:
            hashed = hashlib.sha256()
            with patiently(partial(io.FileIO, _path(item)), self._go_on) as file:
                while chunk := file.read(DIGEST_BYTES):
                    hashed.update(chunk)
                    self._go_on()
            return hashed.digest()
        except OSError as error:
            return unreadable(item, _path(item), error)

    def encode(self, plan: InputPlan) -> SmallBody | Problem:
        try:
            found = patiently(partial(encode, _asked(plan)), self._go_on)
        except OSError as error:
            return unreadable(plan.input, _path(plan.input), error)
        return changed(plan.input) if found is None else SmallBody(*found)

    def encode_many(self, plans: Sequence[InputPlan]) -> list[SmallBody | Problem]:
        """Many are encoded by a process of its own, once that is up; what it cannot encode is looked at here."""
        self._asked_for += len(plans)
        encoder = self._ready_encoder(self._asked_for >= ENCODER_FROM)
        encoded: Iterator[tuple[bytes, bytes] | None] = iter(())
        if encoder is not None:
            encoded = iter(encoder.encode([_asked(plan) for plan in plans]) or ())
        return [SmallBody(*one) if (one := next(encoded, None)) is not None else self.encode(plan) for plan in plans]

    def stream(self, plan: InputPlan) -> FileBody:
        from .file_body import FileBody  # aiofiles, where something is sent

        return FileBody(plan, _path(plan.input), self.reader)


def _path(item: Input) -> str:
    assert isinstance(item.source, FileSource)
    return item.source.path


def _name(item: Input) -> bytes:
    """The path as the disk has it; of what is no path, one of no file."""
    try:
        return os.fsencode(_path(item))
    except UnicodeEncodeError:
        return b""


def _asked(plan: InputPlan) -> Asked:
    file_stat = plan.stat
    return _name(plan.input), plan.mime, (file_stat.size, file_stat.mtime_ns, file_stat.inode), *beside(plan)
