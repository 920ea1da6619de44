"""What the stages ask of the world, as Protocols: a client, sources, a folder, a clock.

The stages know nothing else of it. What they ask of a journal stands beside the journals: `journal/ports.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias

from ..core.bodies import Body
from ..core.errors import BatcherError, Stop
from ..core.facts import FileStat
from ..core.model import JSON, Input, Problem
from ..core.output_check import Landed, Spoiled
from ..core.planning import InputPlan
from ..core.remote import Arrived, Listing, RemoteFlow, RemoteInput, RemoteOutput, StartReply, Template
from ..core.retry import Call, Fault, Reply, Verdict


class Client(Protocol):
    """One request in, one reply or fault out; it retries nothing but a later page of a list. Listings stream, page after
    page, and each says in its
    `Listing` whether it may prove that something is absent; every other reply is bounded."""

    @property
    def has_key(self) -> bool: ...
    def read_key_again(self) -> bool:
        """Whether the key is another one now."""

    async def templates(self, take: Callable[[Template], None]) -> Listing | Reply | Fault:
        """Hand every template that the service offers to `take`."""

    async def create(self, template: str, parameters: Mapping[str, JSON], additional: JSON,
                     mark_sent: Callable[[], None]) -> str | Reply | Fault:  # fmt: skip
        """The new flow's id."""

    async def upload(self, flow_id: str, body: Body, mark_sent: Callable[[], None]) -> Reply | Fault: ...
    async def start(self, flow_id: str, mark_sent: Callable[[], None]) -> StartReply | Reply | Fault: ...
    async def abort(self, flow_id: str) -> Reply | Fault: ...
    async def delete(self, flow_id: str) -> Reply | Fault: ...
    async def flow(self, flow_id: str) -> RemoteFlow | Reply | Fault: ...
    async def flows(self, take: Callable[[RemoteFlow], None]) -> Listing | Reply | Fault:
        """Hand every flow that the service lists to `take`."""

    async def inputs(self, flow_id: str, take: Callable[[RemoteInput], None]) -> Listing | Reply | Fault:
        """Hand every asset of the flow to `take`."""

    async def input_digest(self, flow_id: str, asset_id: str) -> bytes | Reply | Fault:
        """SHA-256 of an asset's data: of the decoded bytes of a data URI, of a text's UTF-8."""

    async def outputs(self, flow_id: str, take: Callable[[RemoteOutput], None]) -> Listing | Reply | Fault:
        """Hand every output that the flow lists to `take`."""

    async def output(self, flow_id: str, asset_id: str, sink: Sink) -> Arrived | Spoiled | Reply | Fault:
        """Write an output to `sink` while it streams, decoded. Spoiled: the reply is whole, and no output."""


class Sink(Protocol):
    """One download on its way to the disk. Raises Stop where the disk takes no more, Unplaceable where this path cannot
    be."""

    async def write(self, data: bytes) -> None: ...
    async def close(self, declared: str) -> Landed | Spoiled:
        """All has come: flush it to the disk and check it. `declared`: the type it was said to have."""

    def drop(self) -> None:
        """Take away what was written."""


class Folder(Protocol):
    """The folder that outputs are collected into, or a prefix in an object store. Paths are relative to it. Synchronous where
    not said otherwise, for threads; raises OSError, and Stop where nothing more can be written."""

    def open(self, part: str) -> Sink:
        """A new file at this path, in place of what an attempt before left there, made with its first bytes."""

    def look(self, path: str) -> FileStat | None:
        """The file stat of the regular file there; None: there is none."""

    def taken(self, path: str) -> bool:
        """Whether anything at all is there."""

    def digest(self, path: str, *, read: bool = False) -> bytes:
        """SHA-256 of what is there. `read`: of its bytes, though the same was kept beside them."""

    def head(self, path: str) -> bytes:
        """Its first bytes, as many as tell its type."""

    def rename(self, part: str, path: str) -> FileStat | None:
        """The part has this path from now on. Its file stat there, where that is another one."""

    def sync(self, paths: Sequence[str]) -> None:
        """Renames to these paths outlive a power cut from now on."""

    def write_results(self, rows: Iterator[Mapping[str, JSON]], ours: Callable[[Mapping[str, JSON]], bool]) -> None:
        """results.csv and results.jsonl, each replaced as a whole; of those that are there, what is not `ours` stays."""


Seen: TypeAlias = tuple[int, int, int, bytes]  # of a file: size, mtime_ns, inode, the first bytes


class Sources(Protocol):
    """The files and texts. All but `Body`'s own reading is synchronous, for a thread of its own."""

    def interrupt(self, error: BatcherError) -> None:
        """The run is to end: from now on `look` and `digest` raise this, so that a walk ends within one file. Any thread."""

    def ahead(self, sources: Sequence[tuple[Input, bool]]) -> Callable[[], Sequence[Seen | None]]:
        """Begin to look at these, beside what else is done: at their stats, and at their first bytes where that is True. The
        function waits for what has been seen of each, to be handed to `look` and `mime`; None: they look themselves."""

    def look(self, source: Input, seen: Seen | None = None) -> FileStat | Problem:
        """Its file stat; a Problem where it is missing, empty, irregular, or too young."""

    def mime(self, source: Input, types: tuple[str, ...] | None, seen: Seen | None = None) -> str | Problem:
        """Its type as it is to be sent, given the types that the template takes (None: not known)."""

    def digest(self, source: Input) -> bytes | Problem:
        """SHA-256 of its content."""

    def small(self, plan: InputPlan) -> bool:
        """Whether it is encoded once and kept, rather than streamed for each attempt."""

    def body(self, plan: InputPlan) -> Body | Problem:
        """A body for one attempt; a small one is read and encoded at once, and can be written again."""

    def bodies(self, plans: Sequence[InputPlan]) -> Sequence[Body | Problem]:
        """The bodies of small inputs, in their order."""


class ImageLook(Protocol):
    """The look at images before they are paid for."""

    stopping: Callable[[], Stop | None]
    whole: bool  # every new image of the manifest was looked at: what was known of others can be forgotten

    def look(self, found: Sequence[tuple[Input, FileStat, str]]) -> list[Problem | None]:
        """A Problem, or None, for each of these files with their MIME types. Raises Stop when `stopping` gives one."""


class Clock(Protocol):
    """Time, passed in."""

    def wall(self) -> float:
        """Seconds since 1970."""

    def steady(self) -> float:
        """Seconds of a clock that never jumps."""

    async def sleep(self, seconds: float) -> None: ...


class LimiterPort(Protocol):
    """Leave to send: see `service.limiter.Limiter`."""

    @property
    def outage(self) -> bool:
        """Whether one request at a time asks if the service is back."""

    def acquire_now(self) -> float | None: ...
    async def acquire(self, call: Call) -> float: ...
    def release(self, verdict: Verdict | None, entered: float, *, timed: bool = False) -> float: ...
    def close(self, stop: Stop) -> None: ...


class BudgetPort(Protocol):
    """Bytes of encoded payload held at once: see `service.byte_budget`."""

    async def take(self, count: int) -> None: ...
    def take_now(self, count: int) -> bool: ...
    def forget(self) -> None: ...
    def give(self, count: int) -> None: ...
