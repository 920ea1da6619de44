"""What is asked of a journal, as Protocols: all that the stages, `status`, `report` and completion read and write.

Nothing else of this room is known to the stages: the same ones run with SQLite, with PostgreSQL, or with a journal in memory.
A journal that does all of this as `tests/journal/test_conformance.py` asks is one for every command; `open.py` picks the
engine.

Threads: every read may be called from any thread, by many at once. Reads return values and do not await: the planner, the
survey and the lists of results ask in threads of their own; what is asked on the loop goes through `look`. Who walks all
flows asks for what goes with them in one of the bulk forms (`flows_named`, `flows_and_ends`, `ends`, `counts`, `tallies`,
`output_tallies`, `flow_times`, `attempts`), some hundred flows at a time, and never one by one. `record`, `post`, `mark_sent`
and `close` belong to the thread of the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from ..core.facts import AttemptFacts, EndFacts, FileStat, FlowFacts, InputFacts, OutputFacts, OutputState, Record
from ..core.lifecycle import InputState
from ..core.measuring import FlowTimes
from ..core.model import JSON

T = TypeVar("T")


class JournalView(Protocol):
    """The journal as it is read; it sees all that `record` has returned for. Raises JournalError.

    What is iterated may be iterated in another thread than it was asked for in; rows that are written meanwhile may or may
    not be in it. It is fetched in pages, so that a journal of any size is walked in bounded memory."""

    # ---- of itself

    @property
    def owner(self) -> str:
        """The journal's own random name: it stands in the tags of the flows that it creates."""

    @property
    def about(self) -> Mapping[str, str]:
        """The `manifest`'s path, `endpoint` and `batch`. Empty in a journal that an older batcher wrote."""

    @property
    def held(self) -> bool | None:
        """Whether a process holds it for a run. None: it cannot be told."""

    @property
    def watch_until(self) -> float:
        """Until then (wall-clock seconds) twins of lost creates are looked for."""

    @property
    def unknown_flows_checked(self) -> bool:
        """Whether the service has been asked, once, for flows of this batch that the journal does not know."""

    def close(self) -> None: ...
    async def look(self, read: Callable[[JournalView], T]) -> T:
        """What `read` finds, without holding up the loop: at once where a read is quick, in a thread where it asks another
        machine."""

    # ---- flows

    def flow(self, name: str) -> FlowFacts | None: ...
    def flows_named(self, names: Sequence[str]) -> Mapping[str, FlowFacts]:
        """Those of these flows that have a row, by name."""

    def flows(self) -> Iterator[FlowFacts]:
        """All, in the order in which they were first recorded."""

    def flows_and_ends(self) -> Iterator[tuple[FlowFacts, EndFacts | None]]:
        """All in the same order, each with its end: that of the flow which has its id on the service."""

    def starting(self) -> Sequence[FlowFacts]:
        """Those with a start that was announced, and whose outcome is not known, in the order of their names."""

    def count_flows(self) -> int: ...
    def name_of(self, flow_id: str) -> str | None:
        """The name of the flow that has this id on the service."""

    def some_flow_ids(self, count: int) -> Sequence[str]:
        """Ids of flows that are on the service, as far as is known: so many of the first ones, and of the last."""

    def was_released(self, flow_id: str) -> bool:
        """Whether it was given by this id, inputs were sent into it, and the manifest then named another."""

    def orphans(self, flow: str | None = None) -> Sequence[tuple[str, str]]:
        """(flow_id, flow's name) of what is to be deleted; of one flow, or of all."""

    # ---- inputs

    def inputs(self, flow: str, keys: Sequence[bytes]) -> Mapping[bytes, InputFacts]:
        """Those of these inputs that have a row, by key."""

    def input_rows(self, flow: str) -> Iterator[InputFacts]:
        """All of one flow, in the order of their keys."""

    def count_inputs(self, flow: str) -> int:
        """Rows of inputs that are, or may be, on the service."""

    def counts(self, flows: Sequence[str]) -> Mapping[str, int]:
        """`count_inputs` of each of these flows that has such a row, by name."""

    def tallies(self, flows: Sequence[str]) -> Mapping[str, Mapping[InputState, tuple[int, int]]]:
        """Of those of these flows that have inputs, by name, and by the state of the inputs: how many, and how many bytes."""

    # ---- ends and outputs

    def end(self, flow_id: str) -> EndFacts | None: ...
    def ends(self, flow_ids: Sequence[str]) -> Mapping[str, EndFacts]:
        """Those of these flows on the service of which it has shown something, by id."""

    def bad_ends(self) -> Mapping[str, EndFacts]:
        """By its id on the service: each flow that failed or was aborted, earlier attempts among them."""

    def attempts(self, flows: Sequence[str]) -> Mapping[str, Sequence[AttemptFacts]]:
        """By name: what those of these flows that were paid for again had been before, the earliest first."""

    def count_starts(self) -> int:
        """All starts that were paid for: flows that are started, and attempts."""

    def outputs(self, flow_id: str, after: str = "", limit: int = 500) -> Sequence[OutputFacts]:
        """The next outputs of the flow on the service whose asset id comes after this one, in the order of the ids."""

    def outputs_of(self, flow_id: str, keys: Sequence[bytes]) -> Sequence[OutputFacts]:
        """Those made from these inputs; each input's own in the order of their ids."""

    def output_tallies(self, flow_ids: Sequence[str]) -> Mapping[str, Mapping[OutputState, tuple[int, int]]]:
        """Of those of these flows on the service that have outputs, by id, and by the state of the outputs: how many, and how
        many bytes."""

    def output_at(self, path: str) -> OutputFacts | None:
        """Whose file this is, or one that differs by case only."""

    def collected(self) -> Iterator[FileStat]:
        """The file stats of what was collected."""

    # ---- runs

    def at_work(self) -> Mapping[str, str]:
        """Of several runs that share it: which flows they work on now, each with the host and process of its run."""

    def flow_times(self, flows: Sequence[str]) -> Mapping[str, FlowTimes]:
        """By name: when these flows passed their stations."""

    def runs(self) -> Sequence[tuple[float, Mapping[str, JSON]]]:
        """The last runs, the latest first: when it began (wall-clock seconds), and its document as `run_document` makes it."""


class Journal(JournalView, Protocol):
    """The durable record of one manifest's progress at one endpoint, held by this process."""

    def now(self) -> float:
        """Seconds since 1970 by the journal's own time, in which every `settle_deadline` is given. It goes on with a steady
        clock, from one process to the next, however the wall clock is set meanwhile. Any thread."""

    async def take_turn(self, what: str) -> bool:
        """Whether this process is to do it, now; of several at a time only one is. It is given back by `give_turn`, or with the
        process. Only for what may be done twice: what must not is held by a claim."""

    async def give_turn(self, what: str) -> None: ...
    async def record(self, *records: Record) -> None:
        """Returns when these, and all that were posted before, are durable. Raises JournalError."""

    def post(self, *records: Record) -> None:
        """Hand over in order; durable at the latest when a later `record` returns. Raises nothing: that `record` does."""

    def mark_sent(self, key: bytes) -> None:
        """Synchronous and cheap: the last byte of this announced request is about to leave. Survives kill -9 (not the
        machine), so that what was announced and never left is not taken for unknown."""
