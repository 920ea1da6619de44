"""Images, looked at before they are paid for: do they decode, are they too large?

In: inputs that are to be sent, with their file stats. Out: a Problem for each that is not fit. Called by the planner, in its
thread. What was found fit is not looked at again while its file stat stays the same: in this run (it is planned twice), and in
later ones where a run remembers (a flow that waits for a broken image would otherwise cost all of its others again).
Pillow is an extra (`batcher[images]`). The decoding is done by a few processes: two of them were twice as fast as one, two
threads no faster at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import selectors
import sys
import tempfile
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, cast

from ..core.errors import Reason, Stop, UsageError
from ..core.facts import FileStat
from ..core.model import FileSource, Input, Problem
from ..core.names import Names
from . import image_worker
from .child import Child

FORMATS: Final = {
    "image/png": "PNG", "image/jpeg": "JPEG", "image/jpg": "JPEG", "image/tiff": "TIFF", "image/webp": "WEBP",
}  # fmt: skip
MAX_PIXELS: Final = 100_000_000  # where no limit is given; 400 MB decoded
MAX_WORKERS: Final = 4
PATIENCE_S: Final = 120.0  # for one image

_DEAD: Final = ["broken", "the decoder crashed on it"]

Looked = tuple[Input, FileStat, str]  # with its MIME type


class Images:
    """`decode`: also decode, not only look at the size. `memory`: a file with what earlier runs found fit (None: none).

    Raises UsageError where Pillow is missing. Close it when done.
    """

    def __init__(self, decode: bool, max_pixels: int | None, memory: Path | None = None, *, remember: bool = False) -> None:
        if importlib.util.find_spec("PIL") is None:
            raise UsageError("to look at images (limits) needs Pillow, which is not installed", "pip install 'batcher[images]'")
        self._decode = decode
        self._max_pixels = max_pixels or MAX_PIXELS
        self._memory = memory
        self._remember = remember
        self._before = self._recall()
        self._fit = Names()
        self._workers: list[Child] = []
        self._turnstile = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close
        self.stopping: Callable[[], Stop | None] = lambda: None
        self.whole = False

    def look(self, found: Sequence[Looked]) -> list[Problem | None]:
        """A Problem, or None, for each, in order. Raises Stop between two images when the run is to end."""
        problems: list[Problem | None] = [None] * len(found)
        waiting = [
            (index, mark, item, item.source.path, mime)
            for index, (item, file_stat, mime) in enumerate(found)
            if isinstance(item.source, FileSource) and mime in FORMATS
            and not self._is_fit(mark := _mark(item.source.path, file_stat, mime))
        ]  # fmt: skip
        waiting.reverse()
        busy: dict[Child, tuple[int, int, Input]] = {}
        with selectors.DefaultSelector() as selector:
            while waiting or busy:
                stop = self.stopping()
                if stop is not None:
                    self._end_workers()
                    raise stop
                for worker in self._idle(busy, len(waiting)):
                    index, mark, item, path, mime = waiting.pop()
                    if worker.ask("look", [(os.fsencode(path), FORMATS[mime], self._decode, self._max_pixels)]):
                        selector.register(worker, selectors.EVENT_READ)
                        busy[worker] = (index, mark, item)
                    else:
                        problems[index] = self._judged(worker, item, mark, None)
                if not busy:  # all that were asked are dead
                    continue
                ready = [cast(Child, key.fileobj) for key, _ in selector.select(PATIENCE_S)]
                for worker in ready or list(busy):
                    index, mark, item = busy.pop(worker)
                    selector.unregister(worker)
                    if not ready:
                        worker.close()
                    answer = worker.answer(1) if ready else [["broken", f"it takes longer than {PATIENCE_S:.0f} s"]]
                    problems[index] = self._judged(worker, item, mark, answer)
        return problems

    def _judged(self, worker: Child, item: Input, mark: int, answer: list[list[str] | None] | None) -> Problem | None:
        """What the worker has found; None where it is dead."""
        if worker.closed:
            self._workers.remove(worker)
        kind_and_text = _DEAD if answer is None else answer[0]
        if kind_and_text is None:
            self._fit.add(mark)
            return None
        return self._problem(item, *kind_and_text)

    def _idle(self, busy: dict[Child, tuple[int, int, Input]], wanted: int) -> list[Child]:
        """Workers for as many images as wait, more of them started where that helps."""
        turnstile = self._turnstile.fileno()
        most = min(MAX_WORKERS, os.cpu_count() or 1, len(busy) + wanted)
        while len(self._workers) < most:
            try:
                self._workers.append(Child(image_worker.__file__, str(turnstile), pass_fds=(turnstile,)))
            except OSError as error:
                if not self._workers:
                    message = f"images cannot be looked at: no process can be started: {error.strerror}"
                    raise Stop(Reason.UNAVAILABLE, message, "raise the limits (ulimit -a), or run again later") from error
                break  # fewer do
        return [worker for worker in self._workers if worker not in busy][:wanted]

    def _is_fit(self, mark: int) -> bool:
        if mark in self._fit:
            return True
        if mark in self._before:
            self._fit.add(mark)
            return True
        return False

    def _problem(self, item: Input, kind: str, text: str) -> Problem:
        if kind == "pixels":
            message = f"{item.label} has {text} pixels, and limits.max_pixels allows {self._max_pixels:,}"
            hint = "scale it down, or raise the limit"
        else:
            message, hint = f"{item.label} does not decode: {text}", "save it again, or take it out of the manifest"
        return Problem("source", message, hint, item.place, input=item.label)

    # --- What earlier runs found fit ------------------------------------------------------------------------------------

    def _head(self) -> bytes:
        """What the file holds was found under these limits."""
        return hashlib.blake2b(f"1 {self._decode} {self._max_pixels} {sys.byteorder}".encode(), digest_size=16).digest()

    def _recall(self) -> Names:
        known = Names()
        if self._memory is not None:
            with contextlib.suppress(OSError, ValueError):
                raw = self._memory.read_bytes()
                if raw[:16] == self._head():
                    marks = array("q")
                    marks.frombytes(raw[16:])
                    for mark in filter(None, marks):
                        known.add(mark)
        return known

    def _save(self) -> None:
        """What this run met, where it met everything: what was sent, or is gone, is forgotten. Losing it costs time only."""
        if self._memory is None or not self._remember:
            return
        for mark in self._before if not self.whole else ():  # it ended early, before it saw all
            self._fit.add(mark)
        marks = array("q", self._fit)
        with contextlib.suppress(OSError):
            if not marks:
                self._memory.unlink(missing_ok=True)
                return
            made = self._memory.with_suffix(".images-new")
            with open(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(self._head())
                marks.tofile(file)
            made.replace(self._memory)

    def close(self) -> None:
        self._end_workers()
        self._turnstile.close()
        self._save()

    def _end_workers(self) -> None:
        for worker in self._workers:
            worker.close()
        self._workers.clear()


def _mark(path: str, file_stat: FileStat, mime: str) -> int:
    """64 bits for a file's place and stat."""
    text = f"{path}\0{file_stat.size}\0{file_stat.mtime_ns}\0{file_stat.inode}\0{mime}"
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), signed=True) or 1
