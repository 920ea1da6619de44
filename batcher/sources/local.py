"""Files and texts: their file stats, what type they have, and the bodies that are posted for them.

In: `Input`s. Out: file stats, MIME types, digests, and `Body`s of exactly known length:
`{"data":"data:<MIME>;base64,<…>","additional":<…>}`. Called by the planner and the producer (in a thread of their own)
and by the client, which writes a body's chunks.
A chunk is read, hashed and encoded in one call through aiofiles, on two reader threads: the hashing, half of the work, is done
outside of the interpreter's lock; a third thread gained nothing. Many small files are encoded by a process (see `encoding`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, Final

import pybase64
from aiofiles.threadpool import wrap

from ..core.errors import BatcherError, UsageError
from ..core.facts import FileStat
from ..core.model import ABSENT, JSON, TAG, FileSource, Input, Problem, ProblemKind, TextSource
from ..core.planning import InputPlan
from ..core.tags import can_carry_tag
from ..host.process import TOO_MANY, patiently
from ..host.system import readable
from . import content
from . import encoder as encoding
from .encoder import Asked, Seen, ToLookAt, body, encode, member
from .nearby import meant

CHUNK_BYTES: Final = 384 << 10  # a multiple of 3, so that each chunk encodes alone: 512 KiB of base64
DIGEST_BYTES: Final = 1 << 20  # hashed between two looks whether the run is to end
SMALL_BYTES: Final = 192 << 10  # up to here a file is encoded once and kept; above, read anew for each attempt
WHOLE_BYTES: Final = 3 * CHUNK_BYTES  # up to here it is then read in one go: two calls to a thread fewer, no session
READERS: Final = 2  # threads; hashing, which is half of the work, is done outside of the interpreter's lock
ENCODER_FROM: Final = 512  # small files before a process of their own pays
LOOKS_FROM: Final = 1000  # or files to look at
PROMPT_BYTES: Final = 16 << 20  # a prompt larger than this is a mistake
FILE_BYTES: Final = 1 << 40  # so is a file: a sparse one can claim so much that the sum of two is no 64-bit integer

SHOWN_CHARS: Final = 600  # of a message: a path can be a scalar of megabytes


def _problem(source: Input, message: str, hint: str = "") -> Problem:
    return Problem("source", _short(message), hint, source.place, input=_short(source.label))


def _quoted(path: str) -> str:
    """In quotes, so that blanks at its ends are seen."""
    return f"'{path}'"


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else f"{text[: SHOWN_CHARS // 2]}…{text[-SHOWN_CHARS // 2 :]}"


def _unreadable(source: Input, error: OSError) -> Problem:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            near = meant(source.label, _path(source))
            hint = "check the path; it counts from the manifest's folder"
            if near is not None:
                hint = f"did you mean {_quoted(near[0])}? {near[1]}"
            return _problem(source, f"no such file: {_quoted(source.label)}", hint)
        case errno.EACCES | errno.EPERM:
            return _problem(source, f"{source.label} may not be read", "check its permissions")
        case errno.ELOOP:
            return _problem(source, f"{source.label} is a link to itself", "mend the link")
        case number if number in TOO_MANY:  # not the file's fault
            what = f"{source.label} cannot be opened: too many files are open"
            return replace(_problem(source, what, "raise ulimit -n, or run again later"), kind="unavailable")
    return _problem(source, f"{source.label} cannot be read: {error.strerror}", "check the disk or the network that it lies on")


def stat_of(found: os.stat_result) -> FileStat:
    return FileStat(*encoding.stat_fields(found))


class LocalSources:
    """Sources on local disks. `min_age_s` as in the limits; `now` tells wall-clock seconds."""

    def __init__(self, min_age_s: float, now: Callable[[], float]) -> None:
        self._min_age_s = min_age_s
        self._now = now
        self._interrupted: BatcherError | None = None
        self.reader = ThreadPoolExecutor(READERS, "reader")
        self._encoder: Encoder | None = None
        self._encoder_tried = False
        self._asked_for = self._looked_at = 0

    def close(self) -> None:
        self.interrupt(UsageError("the sources are closed", "run again"))  # a walk whose command was interrupted ends
        self.reader.shutdown(wait=False, cancel_futures=True)
        if self._encoder is not None:
            self._encoder.close()

    def interrupt(self, error: BatcherError) -> None:
        self._interrupted = self._interrupted or error
        if self._encoder is not None:
            self._encoder.kill()  # it may stand still, as the disk that it reads

    def _go_on(self) -> None:
        if self._interrupted is not None:
            raise self._interrupted

    def ahead(self, sources: Sequence[tuple[Input, bool]]) -> Callable[[], Sequence[Seen | None]]:
        """Another process looks at these meanwhile, once so many have come that it pays."""
        self._looked_at += len(sources)
        encoder = self._ready_encoder(self._looked_at >= LOOKS_FROM) if sources else None
        if encoder is None:
            return lambda: [None] * len(sources)
        return encoder.looks([(_name(_path(source)), inside) for source, inside in sources])

    def _ready_encoder(self, pays: bool) -> Encoder | None:
        if pays and not self._encoder_tried and (os.cpu_count() or 1) > 1:
            self._encoder_tried = True
            with contextlib.suppress(OSError):  # no process to be had: it is done without
                self._encoder = Encoder()
        return self._encoder if self._encoder is not None and self._encoder.ready else None

    def look(self, source: Input, seen: Seen | None = None) -> FileStat | Problem:
        self._go_on()
        if isinstance(source.source, TextSource):
            return FileStat(len(source.source.text.encode()))
        if seen is None:
            try:
                found = os.stat(source.source.path)
            except OSError as error:
                return _unreadable(source, error)
            except ValueError:
                return _problem(source, f"{source.label!r} is no path", "remove the NUL character")
            if not stat.S_ISREG(found.st_mode):
                what = "a folder" if stat.S_ISDIR(found.st_mode) else "not a regular file"
                return _problem(source, f"{source.label} is {what}", "name a file, or use glob:")
            file_stat = stat_of(found)
        else:
            file_stat = FileStat(*seen[:3])
        if file_stat.size > FILE_BYTES:
            what = f"{source.label} claims {file_stat.size:,} bytes"
            return _problem(source, what, "1 TiB at most can be sent; is it sparse?")
        if file_stat.size == 0:
            return _problem(source, f"{source.label} is empty", "fill it, or take it out of the manifest")
        # A time far ahead tells no age: a clock has jumped, and waiting for it could take years.
        if self._min_age_s and abs(self._now() - file_stat.mtime_ns / 1e9) < self._min_age_s:
            return Problem("waiting", f"{source.label} changed just now", "min_age leaves it for a later run",
                           source.place, input=source.label)  # fmt: skip
        return file_stat

    def mime(self, source: Input, types: tuple[str, ...] | None, seen: Seen | None = None) -> str | Problem:
        if isinstance(source.source, TextSource):
            mime = "text/plain"
        else:
            try:
                head = seen[3] if seen is not None else patiently(partial(encoding.head, source.source.path), self._go_on)
            except OSError as error:
                return _unreadable(source, error)
            mime = content.plain_type(source.mime) if source.mime else content.detect(head)
            mime = mime or content.named(source.source.path, types)
            if not source.mime and content.belies(head, mime):
                message = f"{source.label} is {content.NO_SUCH} {content.beginning(head)}"
                return _problem(source, message, f"mend it, or take it out of the manifest; mime: {mime} sends it as it is")
            if not mime:
                return _problem(source, f"the type of {source.label} cannot be told", "say it with mime:")
        spellings = content.spellings(types) if types is not None else {}
        if types is not None and mime not in spellings:
            # What the manifest says itself is not the file's fault.
            kind: ProblemKind = "source" if isinstance(source.source, FileSource) and not source.mime else "manifest"
            return Problem(kind, f"{source.label} is {mime}, which the template does not take",
                           f"it takes {', '.join(types)}", source.place, input=source.label)  # fmt: skip
        if mime == "text/plain":
            text = self._text(source)
            return text if isinstance(text, Problem) else mime
        spelling = spellings.get(mime, mime)
        return spelling if "/" in spelling else mime

    def _text(self, source: Input) -> str | Problem:
        """A prompt, checked: not empty, UTF-8, and not what the service would take for a file."""
        if isinstance(source.source, TextSource):
            text = source.source.text
        else:
            try:
                with io.BufferedReader(patiently(partial(io.FileIO, source.source.path), self._go_on)) as file:
                    data = file.read(PROMPT_BYTES + 1)
                text = data.decode()
            except OSError as error:
                return _unreadable(source, error)
            except UnicodeDecodeError as error:
                return _problem(source, f"{source.label} is not UTF-8 (byte {error.start})", "a prompt is UTF-8 text")
            if len(data) > PROMPT_BYTES:
                return _problem(source, f"{source.label} is too large for a prompt", "16 MiB at most")
        if not text.strip():
            return _problem(source, f"the prompt {source.label} is empty", "write it, or take it out of the manifest")
        if text.startswith("data:"):
            return _problem(source, f"the prompt {source.label} starts with data:", "the service would take it for a file")
        return text

    def digest(self, source: Input) -> bytes | Problem:
        if isinstance(source.source, TextSource):
            return hashlib.sha256(source.source.text.encode()).digest()
        try:
            hashed = hashlib.sha256()
            with patiently(partial(io.FileIO, source.source.path), self._go_on) as file:
                while chunk := file.read(DIGEST_BYTES):
                    hashed.update(chunk)
                    self._go_on()
            return hashed.digest()
        except OSError as error:
            return _unreadable(source, error)

    def small(self, plan: InputPlan) -> bool:
        return plan.stat.size <= SMALL_BYTES or plan.mime == "text/plain"

    def body(self, plan: InputPlan) -> SmallBody | StreamBody | Problem:
        if not self.small(plan):
            return StreamBody(plan, self.reader)
        if plan.mime == "text/plain":
            text = self._text(plan.input)
            if isinstance(text, Problem):
                return text
            sha256 = hashlib.sha256(text.encode())
            return SmallBody(body(json.dumps(text).encode(), *_beside(plan), sha256.hexdigest()), sha256.digest())
        try:
            found = patiently(partial(encode, _asked(plan)), self._go_on)
        except OSError as error:
            return _unreadable(plan.input, error)
        return changed(plan.input) if found is None else SmallBody(*found)

    def bodies(self, plans: Sequence[InputPlan]) -> list[SmallBody | Problem]:
        """The bodies of small inputs. Many are encoded by a process of its own, once that is up."""
        self._asked_for += len(plans)
        encoder = self._ready_encoder(self._asked_for >= ENCODER_FROM)
        encoded: Iterator[tuple[bytes, bytes] | None] = iter(())
        if encoder is not None:
            encoded = iter(encoder.encode([_asked(plan) for plan in plans if plan.mime != "text/plain"]) or ())
        bodies: list[SmallBody | Problem] = []
        for plan in plans:
            one = next(encoded, None) if plan.mime != "text/plain" else None
            one_body = SmallBody(*one) if one is not None else self.body(plan)
            assert not isinstance(one_body, StreamBody)  # they are small
            bodies.append(one_body)
        return bodies


def _beside(plan: InputPlan) -> tuple[JSON, tuple[str, str] | None]:
    """`additional`, and the tag's member and key, as `encoding` takes them."""
    meant = plan.input.additional
    tag = (TAG, plan.key.hex()) if can_carry_tag(meant) else None
    return None if meant is ABSENT else meant, tag


def _planned(plan: InputPlan) -> tuple[int, int, int]:
    file_stat = plan.stat
    return file_stat.size, file_stat.mtime_ns, file_stat.inode


def _path(item: Input) -> str:
    return item.source.path if isinstance(item.source, FileSource) else ""


def _name(path: str) -> bytes:
    """The path as the disk has it; of what is no path, one of no file."""
    try:
        return os.fsencode(path)
    except UnicodeEncodeError:
        return b""


def _asked(plan: InputPlan) -> Asked:
    return _name(_path(plan.input)), plan.mime, _planned(plan), *_beside(plan)


def changed(source: Input) -> Problem:
    """The source is not what it was when it was looked at."""
    return _problem(source, f"{source.label} changed while it was read", "run again once nobody writes to it")


class Encoder:
    """The process that looks and encodes; it is not told the key."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-X", "utf8", encoding.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, env={k: v for k, v in os.environ.items() if k.startswith(("PYTHON", "LD_", "DYLD_"))},
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self._up = False
        self._turn = threading.RLock()  # an answer is for the thread that asked
        self._pending: Callable[[], object] = lambda: None  # takes the answer that is still to come

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ready(self) -> bool:
        """Whether it has started, and lives."""
        if not self._up and self._process.returncode is None and readable(self._out):
            self._up = encoding.read_frame(self._out) is not None
            if not self._up:
                self.close()
        return self._up

    def looks(self, asked: list[ToLookAt]) -> Callable[[], Sequence[Seen | None]]:
        """As `encoding.look_all`, while the caller goes on; the function waits for it. None for all: it is dead."""
        found: list[Seen | None] = [None] * len(asked)

        def take() -> None:
            self._pending = lambda: None
            found[:] = self._answer(len(asked)) or found

        def taken() -> Sequence[Seen | None]:
            with self._turn:
                if self._pending is take:
                    take()
            return found

        with self._turn:
            if self._ask("look", asked):
                self._pending = take
        return taken

    def encode(self, asked: list[Asked]) -> list[tuple[bytes, bytes] | None] | None:
        """As `encoding.encode_all`; None: it is dead."""
        with self._turn:
            return self._answer(len(asked)) if self._ask("encode", asked) else None

    def _ask(self, work: str, asked: Sequence[ToLookAt | Asked]) -> bool:
        """One thing at a time: what was asked before is answered first, or the two pipes could fill up."""
        self._pending()
        with contextlib.suppress(OSError, ValueError):
            encoding.write_frame(self._in, [work, asked])
            return True
        self._die()
        return False

    def _answer(self, length: int) -> list[Any] | None:
        found = None
        with contextlib.suppress(OSError, ValueError, EOFError, TypeError):
            found = encoding.read_frame(self._out)
        if found is None or len(found) != length:
            self._die()
            return None
        return found

    def kill(self) -> None:
        """Whoever waits for its answer gets none. From any thread."""
        self._process.kill()

    def _die(self) -> None:
        self._up = False
        self.close()

    def close(self) -> None:
        """Whatever it does is of no use any more."""
        self._process.kill()
        with contextlib.suppress(OSError, ValueError):
            self._process.communicate()


class SmallBody:
    """Encoded once and kept; the same bytes for each attempt."""

    fault: Problem | None = None

    def __init__(self, content: bytes, sha256: bytes) -> None:
        self.content = content
        self.sha256: bytes | None = sha256
        self.length = len(content)


class _EncodingReader(io.BufferedReader):
    """Reads a chunk, hashes it and encodes it: one call to a thread instead of three. The last chunk's call also
    finds out whether the file is still what it was when it was planned."""

    def __init__(self, raw: io.RawIOBase, planned: FileStat) -> None:
        super().__init__(raw, 1)
        self._planned = planned
        self._hashed = hashlib.sha256()
        # One room for all chunks: fresh pages for each cost as much as the hash.
        self._room = memoryview(bytearray(min(CHUNK_BYTES, planned.size)))
        self._raw_bytes = 0
        self.sha256: bytes | None = None  # once all of it has been read, and it was what was planned

    def same(self) -> bool:
        found = os.fstat(self.fileno())
        return stat_of(found) == self._planned

    def read(self, size: int | None = -1, /) -> bytes:
        """The next chunk, encoded; empty where the file is another one now."""
        if not self._raw_bytes and not self.same():
            return b""
        wanted = min(size or 0, self._planned.size - self._raw_bytes)
        got = 0
        while got < wanted:  # a short read in the middle would break the 3-byte groups
            count = self.raw.readinto(self._room[got:wanted])
            if not count:
                return b""
            got += count
        data = self._room[:got]
        self._hashed.update(data)
        self._raw_bytes += got
        if self._raw_bytes == self._planned.size:
            if self.raw.read(1) or not self.same():
                return b""
            self.sha256 = self._hashed.digest()
        return pybase64.b64encode(data)


class StreamBody:
    """Read anew for each attempt, chunk by chunk, while it is sent. One attempt, one StreamBody."""

    def __init__(self, plan: InputPlan, reader: ThreadPoolExecutor) -> None:
        self._plan = plan
        self._reader = reader
        self._head = b'{"data":"data:' + plan.mime.encode() + b";base64,"
        self._tail_bytes = len(self._tail(bytes(32)))
        self.length = len(self._head) + 4 * ((plan.stat.size + 2) // 3) + self._tail_bytes
        self.sha256: bytes | None = None
        self.fault: Problem | None = None

    @property
    def short(self) -> bool:
        """Whether `whole` may be taken in place of `chunks`."""
        return self._plan.stat.size <= WHOLE_BYTES

    async def whole(self) -> list[bytes] | None:
        """All of the body, in pieces; None where `fault` says why not."""
        plan = self._plan
        path = _path(plan.input)
        loop = asyncio.get_running_loop()
        try:
            read = partial(encoding.read, path, _planned(plan))
            found = await loop.run_in_executor(self._reader, patiently, read)
        except OSError as error:
            self.fault = _unreadable(plan.input, error)
            return None
        if found is None:
            self.fault = changed(plan.input)
            return None
        data, self.sha256 = found
        return [self._head, data, self._tail(self.sha256)]

    def _tail(self, sha256: bytes) -> bytes:
        return b'",' + member(*_beside(self._plan), sha256.hex()) + b"}"

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in order; the last chunk closes the JSON object. Ends early where `fault` says why.

        While a chunk is being written, the next one is read."""
        source = self._plan.input
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(self._reader, self._open, _path(source))
        try:
            file, chunk = await asyncio.shield(opening)
        except OSError as error:
            self.fault = _unreadable(source, error)
            return
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unused)
            raise
        ahead: asyncio.Future[bytes] | None = None
        try:
            reader: Any = wrap(file, loop=loop, executor=self._reader)
            yield self._head
            while chunk:
                ahead = None if file.sha256 is not None else asyncio.ensure_future(reader.read(CHUNK_BYTES))
                yield chunk
                chunk = await ahead if ahead is not None else b""
        except OSError as error:
            self.fault = _unreadable(source, error)
            return
        finally:
            if ahead is not None and not ahead.done():
                await asyncio.wait([ahead])  # the thread has the file
            file.close()
        self.sha256 = file.sha256
        if self.sha256 is None:
            self.fault = changed(source)
            return
        tail = self._tail(self.sha256)
        assert len(tail) == self._tail_bytes
        yield tail

    def _open(self, path: str) -> tuple[_EncodingReader, bytes]:
        """In the thread: the file, and its first chunk."""
        file = _EncodingReader(patiently(partial(io.FileIO, path)), self._plan.stat)
        try:
            return file, file.read(CHUNK_BYTES)
        except OSError:
            file.close()
            raise


def _close_unused(opening: asyncio.Future[tuple[_EncodingReader, bytes]]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[0].close()
