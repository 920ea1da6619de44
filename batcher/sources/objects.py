"""Objects in stores and on web servers: their stats, types, digests and contents.

In: inputs whose source is an object. Out: stats, MIME types, digests, and bodies. Called by `dispatch`. Many are asked for at a
time; small ones are read and encoded, large ones are read while they are sent (see `object_body`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeVar

import pybase64

from ..core.bodies import SmallBody
from ..core.errors import ManifestError
from ..core.facts import FileStat
from ..core.media import beginning, belies, detect_input, named, plain_type
from ..core.model import Input, ObjectSource, Problem, ProblemKind
from ..core.objects import shown, split
from ..core.planning import InputPlan
from ..objects.client import objects
from ..objects.faults import StoreFault, What
from ..objects.reading import digest_of, reader_of, stat_of
from .bodies import beside
from .encode_worker import Seen, body
from .local import FILE_BYTES, NO_SUCH, PROMPT_BYTES
from .object_body import ObjectBody, same_at_end, same_at_start
from .problems import changed, source_problem, young

PIECE_BYTES: Final = 384 << 10
FAULTS_KEPT: Final = 10_000  # of looks ahead, until whoever plans asks for them

T = TypeVar("T")


class StoredObjects:
    """The engine of objects. `go_on` raises where the run is to end."""

    def __init__(self, min_age_s: float, now: Callable[[], float], go_on: Callable[[], None]) -> None:
        self._min_age_s = min_age_s
        self._now = now
        self._go_on = go_on
        self._faults: dict[str, StoreFault] = {}

    def close(self) -> None: ...
    def interrupt(self) -> None: ...  # whoever waits asks `go_on`

    def ahead(self, asked: Sequence[tuple[Input, bool]]) -> Callable[[], Sequence[Seen | None]]:
        """All of these at once, but for those of which a listing has said enough."""
        looks: list[Future[Seen | None] | Seen] = []
        for item, inside in asked:
            listed = _source(item).listed
            if listed is not None and (not inside or not listed.size):
                looks.append((listed.size, listed.mtime_ns, listed.inode, b""))
            else:
                looks.append(objects().begin(self._seen_ahead(item, inside)))

        def taken() -> list[Seen | None]:
            return [objects().result(one, self._go_on) if isinstance(one, Future) else one for one in looks]

        return taken

    async def _seen_ahead(self, item: Input, inside: bool) -> Seen | None:
        try:
            return await self._seen(item, inside)
        except StoreFault as fault:
            if len(self._faults) < FAULTS_KEPT:
                self._faults[_source(item).url] = fault
            return None

    async def _seen(self, item: Input, inside: bool) -> Seen:
        url = _source(item).url
        return await _asked(url, lambda: reader_of(url).look(inside=inside))

    def look(self, item: Input, seen: Seen | None) -> FileStat | Problem:
        source = _source(item)
        if seen is None and (fault := self._faults.pop(source.url, None)) is not None:
            return problem_of(item, fault)
        listed = source.listed
        if seen is None and listed is not None:
            seen = listed.size, listed.mtime_ns, listed.inode, b""
        if seen is None:
            try:
                seen = objects().wait(self._seen(item, False), self._go_on)
            except StoreFault as fault:
                return problem_of(item, fault)
        size, mtime_ns, mark, _ = seen
        if size > FILE_BYTES:
            return source_problem(item, f"{item.label} has {size:,} bytes", "1 TiB at most can be sent")
        if size == 0:
            return source_problem(item, f"{item.label} is empty", "fill it, or take it out of the manifest")
        waiting = young(item, mtime_ns, self._min_age_s, self._now) if mtime_ns else None
        return waiting or stat_of(size, mtime_ns, mark)

    def type_of(self, item: Input, types: tuple[str, ...] | None, seen: Seen | None) -> str | Problem:
        if item.mime:
            return plain_type(item.mime)
        try:
            head = seen[3] if seen is not None and seen[3] else objects().wait(self._seen(item, True), self._go_on)[3]
        except StoreFault as fault:
            return problem_of(item, fault)
        mime = detect_input(head) or named(item.label, types)
        if belies(head, mime):
            message = f"{item.label} is {NO_SUCH} {beginning(head)}"
            return source_problem(item, message, f"mend it, or take it out of the manifest; mime: {mime} sends it as it is")
        return mime or source_problem(item, f"the type of {item.label} cannot be told", "say it with mime:")

    def text(self, item: Input) -> str | Problem:
        try:
            data = objects().wait(_whole(_source(item).url, PROMPT_BYTES + 1), self._go_on)
            if len(data) > PROMPT_BYTES:
                return source_problem(item, f"{item.label} is too large for a prompt", "16 MiB at most")
            return data.decode()
        except StoreFault as fault:
            return problem_of(item, fault)
        except UnicodeDecodeError as error:
            return source_problem(item, f"{item.label} is not UTF-8 (byte {error.start})", "a prompt is UTF-8 text")

    def digest(self, item: Input) -> bytes | Problem:
        url = _source(item).url
        try:
            return objects().wait(_asked(url, lambda: digest_of(url)), self._go_on)
        except StoreFault as fault:
            return problem_of(item, fault)

    def encode(self, plan: InputPlan) -> SmallBody | Problem:
        return self.encode_many([plan])[0]

    def encode_many(self, plans: Sequence[InputPlan]) -> list[SmallBody | Problem]:
        begun = [objects().begin(_encoded(plan)) for plan in plans]
        try:
            return [objects().result(one, self._go_on) for one in begun]
        finally:
            for one in begun:
                one.cancel()

    def stream(self, plan: InputPlan) -> ObjectBody:
        return ObjectBody(plan, _source(plan.input).url, lambda fault: problem_of(plan.input, fault))


def _source(item: Input) -> ObjectSource:
    assert isinstance(item.source, ObjectSource)
    return item.source


async def _asked(url: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """One request's result, in its turn."""
    return await objects().asked(split(url).root, work)


async def _whole(url: str, most: int) -> bytes:
    """All of it, or its first `most` bytes."""

    async def read() -> bytes:
        opened = await reader_of(url).open(PIECE_BYTES)
        data = bytearray()
        async for piece in opened.pieces:
            data += piece
            if len(data) >= most:
                break
        return bytes(data[:most])

    return await _asked(url, read)


async def _encoded(plan: InputPlan) -> SmallBody | Problem:
    """A small one, read, held against its plan, hashed and encoded."""
    item = plan.input

    async def read() -> tuple[bytes, Seen]:
        opened = await reader_of(_source(item).url).open(plan.stat.size + 1)
        if not same_at_start(plan.stat, opened.seen):
            return b"", opened.seen
        return b"".join([piece async for piece in opened.pieces]), opened.seen

    try:
        data, seen = await _asked(_source(item).url, read)
    except StoreFault as fault:
        return problem_of(item, fault)
    sha256 = hashlib.sha256(data).digest()
    if len(data) != plan.stat.size or not same_at_end(plan.stat, seen, sha256):
        return changed(item)
    encoded = b'"data:' + plan.mime.encode() + b";base64," + pybase64.b64encode(data) + b'"'
    return SmallBody(body(encoded, *beside(plan), sha256.hex()), sha256)


def problem_of(item: Input, fault: StoreFault) -> Problem:
    """What is wrong with an object. Raises ManifestError where it is wrong with all of them: one line says so."""
    kind: ProblemKind = "unavailable" if fault.what is What.UNAVAILABLE else "source"
    if fault.what is What.SETUP:
        raise ManifestError([Problem("manifest", fault.message, fault.hint, item.place)])
    problem = source_problem(item, fault.about(shown(item.label)), fault.hint)
    return Problem(kind, problem.message, problem.hint, problem.place, input=problem.input)
