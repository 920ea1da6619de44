"""The log: events as lines, of JSON or of text, in a file that is bounded and its owner's only, or on stderr.

In: events and their fields. Out: lines. Called by the pipeline through `core.events.Events`; opened by the command line.
Each line goes through `clean` last, which takes keys out and makes names harmless. A line that cannot be written is said
once, and the run goes on.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Callable, Mapping
from logging.handlers import RotatingFileHandler
from typing import Any, Final, Literal

from ..core.events import Level
from ..core.model import JSON

FILE_BYTES: Final = 10_000_000  # of one log file; then it is put aside
FILES_KEPT: Final = 5  # put aside, the oldest goes: 60 MB in all
LEVELS: Final[dict[Level, int]] = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

Format = Literal["text", "json"]
Clean = Callable[[str], str]


class Log:
    """Events to one handler. Not thread-bound: the handler has its lock."""

    enabled = True

    def __init__(self, handler: logging.Handler) -> None:
        self._handler = handler

    def close(self) -> None:
        """No more lines will come. (A process that ends has no need of it: each line is written out at once.)"""
        self._handler.close()

    def emit(self, event: str, level: Level, fields: Mapping[str, JSON]) -> None:
        # Made here, for a logger would look up its caller each time: a third of what a line costs.
        record = logging.LogRecord("batcher", LEVELS[level], "", 0, {"event": event, **fields}, None, None)
        self._handler.handle(record)


def open_log(path: str | None, form: Format, clean: Clean, complain: Callable[[str], None]) -> Log:
    """A log in the file at `path`, or on stderr (None). `complain` is called once if it cannot be written. Raises OSError
    where the file cannot be opened."""
    handler = _Stderr(sys.stderr) if path is None else _File(path, complain)
    handler.setFormatter(_json(clean) if form == "json" else _Text(clean))
    return Log(handler)


class _Stderr(logging.StreamHandler[Any]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """There is nowhere to say it."""


class _File(RotatingFileHandler):
    """Appends; beyond `FILE_BYTES` the file is put aside as `.1`. What it makes is readable by its owner only."""

    def __init__(self, path: str, complain: Callable[[str], None]) -> None:
        self._complain: Callable[[str], None] | None = complain
        super().__init__(path, maxBytes=FILE_BYTES, backupCount=FILES_KEPT, encoding="utf-8", errors="backslashreplace")

    def _open(self) -> io.TextIOWrapper:
        return open(self.baseFilename, "a", encoding=self.encoding, errors=self.errors, opener=_owner_only)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._put_aside_by_another():
                self.close()  # the next line opens the file that is there now
        except OSError:
            self.handleError(record)
            return
        super().emit(record)

    def _put_aside_by_another(self) -> bool:
        """Another run with the same log has renamed the file that this one holds."""
        if self.stream is None:
            return False
        held = os.fstat(self.stream.fileno())
        if not held.st_size > FILE_BYTES - (FILE_BYTES >> 3):
            return False  # only one that is nearly full is put aside
        try:
            there = os.stat(self.baseFilename)
        except FileNotFoundError:
            return True
        return (there.st_dev, there.st_ino) != (held.st_dev, held.st_ino)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        error = sys.exc_info()[1]
        if self._complain is not None:
            why = (error.strerror if isinstance(error, OSError) else None) or str(error)
            self._complain(f"the log {self.baseFilename} cannot be written: {why}; the run goes on without")
            self._complain = None
        stream, self.stream = self.stream, None  # the next line opens it again
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):  # what it holds is lost, and not said again when Python ends
                stream.close()


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class _Text(logging.Formatter):
    """`2025-01-31 02:30:00,123 INFO    input accepted flow=chairs input=photos/a.png bytes=1000`."""

    def __init__(self, clean: Clean) -> None:
        super().__init__("{asctime} {levelname:7} {message}", style="{")
        self._clean = clean

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        if isinstance(record.msg, dict):
            words = [record.msg["event"].replace("_", " ")]
            words += [f"{name}={_word(value)}" for name, value in record.msg.items() if name != "event" and value is not None]
            record.message = " ".join(words)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return self._clean(super().format(record)).replace("\n", "\\n")


def _word(value: object) -> str:
    if isinstance(value, dict):
        return ",".join(f"{name}:{count}" for name, count in value.items())
    text = str(value)
    return f'"{text}"' if " " in text or not text else text


def _json(clean: Clean) -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter  # only where it is asked for

    class Json(JsonFormatter):
        """`{"time": …, "level": …, "event": …, …}` in ASCII, so that a terminal obeys nothing in it."""

        def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
            first = {name: log_data[name] for name in ("time", "level", "event") if name in log_data}
            return first | {name: value for name, value in log_data.items() if value != ""}

        def format(self, record: logging.LogRecord) -> str:
            return clean(super().format(record))

    return Json("{levelname}{message}", style="{", rename_fields={"levelname": "level"}, timestamp="time")
