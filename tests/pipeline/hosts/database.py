"""A database in memory that several owners share, by the rules of `journal/postgres`: rows, claims, the lead.

In: records, from owners whose claims are checked. Out: rows, as soon as they are committed. The check is the real one
(`journal/postgres/fence.py`), asked of claims that lie here; what the statements of `queries.sql` do to a flow that is claimed
stands in `_settle`. Called by the schedules.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from batcher.core.errors import ClaimLost
from batcher.core.facts import WATCH_S, AddOrphan, PutFlow, PutInput, Record, Watch
from batcher.core.lifecycle import FlowState, InputState
from batcher.journal.memory import MemoryJournal
from batcher.journal.postgres.fence import Fence
from batcher.journal.postgres.folding import fold
from batcher.journal.postgres.writer import LINGER_S

from .disturbances import Host

T = TypeVar("T")


@dataclass
class Rules:
    """What protects the batch from an owner that was frozen; a test switches one off."""

    fenced: bool = True
    settled: bool = True


@dataclass
class Database:
    """`settle_s`: as in the limits."""

    settle_s: float
    rules: Rules
    rows: MemoryJournal = field(default_factory=MemoryJournal)
    claims: dict[str, tuple[int, str | None]] = field(default_factory=dict)
    lead: tuple[int, str | None] | None = None

    def __post_init__(self) -> None:
        self.rows.owner = "owner"

    def answer(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """What the fence asks before it lets a transaction through."""
        if statement in ("share_lead", "lock_lead"):
            return [self.lead] if self.lead is not None else []
        assert statement == "lock_claims"
        return [(name, *self.claims[name]) for name in values[0] if name in self.claims]

    def drop_claims(self, run: str) -> None:
        self.claims = {name: (epoch, None if one == run else one) for name, (epoch, one) in self.claims.items()}

    def settle(self, names: Sequence[str], deadline: float) -> None:
        """What an earlier owner has left open, as `mark_flows_unknown` and `mark_inputs_unknown` do it."""
        for name in names:
            facts = self.rows.flow(name)
            if facts is None:
                continue
            under_way = facts.state in (FlowState.CREATING, FlowState.STARTING)
            if facts.state is FlowState.CREATING and facts.settle_deadline is None:
                self.rows.post(Watch(deadline + WATCH_S))
            until = facts.settle_deadline
            if under_way or until is not None:
                until = deadline if until is None else min(until, deadline)
            start_after = None if facts.start_after is None else min(facts.start_after, deadline)
            self.rows.post(PutFlow(replace(facts, settle_deadline=until, start_after=start_after)))
            for row in self.rows.input_rows(name):
                sending = row.state is InputState.SENDING
                if sending and not self.rules.settled:
                    self.rows.post(PutInput(name, replace(row, state=InputState.PENDING)))
                elif sending or (row.settle_deadline or 0.0) > deadline:
                    state = InputState.UNKNOWN if sending else row.state
                    answered = row.answered and not sending
                    row = replace(row, state=state, settle_deadline=deadline, answered=answered)
                    self.rows.post(PutInput(name, row))


class MemoryFence(Fence):
    """The fence of one run, on claims that lie in memory; the check is inherited."""

    def __init__(self, run: str, database: Database, now: Callable[[], float]) -> None:
        super().__init__(run, now, database.settle_s)
        self._database = database

    def commit(self, records: Sequence[Record]) -> None:
        """One transaction. Raises ClaimLost."""
        if self._database.rules.fenced:
            asked, check = self.locks(fold(records))
            check([self._database.answer(*one) for one in asked])
        self._database.rows.post(*records)

    def claim_all(self, names: Sequence[str]) -> None:
        database = self._database
        for name in names:
            epoch = database.claims.get(name, (0, None))[0] + 1
            database.claims[name] = epoch, self._run
            self._epochs[name] = epoch
        database.settle(names, self._now() + self._settle_s)

    def release_all(self, names: Sequence[str]) -> None:
        for name in names:
            epoch = self._epochs.pop(name, None)
            if epoch is not None and self._database.claims.get(name) == (epoch, self._run):
                self._database.claims[name] = epoch, None

    def lead(self) -> None:
        epoch = self._database.lead[0] + 1 if self._database.lead is not None else 1
        self._database.lead = epoch, self._run
        self._lead = epoch

    def unlead(self) -> None:
        if self._database.lead == (self._lead, self._run):
            self._database.lead = self._database.lead[0], None
        self._lead = None

    def leave_all(self) -> None:
        self._database.drop_claims(self._run)
        if self._database.lead is not None and self._database.lead[1] == self._run:
            self._database.lead = self._database.lead[0], None
        self._epochs.clear()
        self._lead = None


class FencedJournal:
    """A `SharedJournal`. It reads what is committed; its one writer commits what has gathered, as the real one does."""

    stopped = None

    def __init__(self, host: Host, database: Database) -> None:
        self._host = host
        self._database = database
        self._fence = MemoryFence(host.name, database, self.now)
        self._items: list[Record] = []
        self._turn = asyncio.Lock()
        self._lost = False
        self._writing: set[asyncio.Future[None]] = set()
        self.announced: set[tuple[object, ...]] = set()  # by this run, durably, since it joined

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database.rows, name)

    def now(self) -> float:
        return self._host.loop.tick()

    async def look(self, read: Callable[[Any], T]) -> T:
        return await self._host.ask_database("look", lambda: read(self))

    def mark_sent(self, key: bytes) -> None:
        """An input's, or a flow's, which the client looks at itself."""

    def post(self, *records: Record) -> None:
        if not self._items:
            self._host.loop.call_later(LINGER_S, self._begin, None, "record", False)
        self._items += records

    async def record(self, *records: Record) -> None:
        self._items += records
        await self._do(None, "record")

    async def claim(self, names: Sequence[str]) -> None:
        await self._do(lambda: self._fence.claim_all(names), "claim")

    async def release(self, names: Sequence[str]) -> None:
        await self._do(lambda: self._fence.release_all(names), "release", gives_back=True)

    async def take_lead(self) -> None:
        await self._do(self._fence.lead, "lead")

    async def drop_lead(self) -> None:
        await self._do(self._fence.unlead, "lead", gives_back=True)

    async def rejoin(self) -> None:
        self._items.clear()
        self._lost = True
        await self._do(self._fence.leave_all, "rejoin", gives_back=True)
        self._lost = False
        self.announced.clear()

    async def resync(self) -> None: ...
    def halt(self) -> None: ...

    async def _do(self, work: Callable[[], None] | None, kind: str, *, gives_back: bool = False) -> None:
        """After what was handed over before. Whoever waits may be cancelled; what was handed over is written nevertheless."""
        await asyncio.shield(self._begin(work, kind, gives_back))

    def _begin(self, work: Callable[[], None] | None, kind: str, gives_back: bool) -> asyncio.Future[None]:
        writing = asyncio.ensure_future(self._write(work, kind, gives_back))
        self._writing.add(writing)
        writing.add_done_callback(self._written)
        return writing

    def _written(self, writing: asyncio.Future[None]) -> None:
        self._writing.discard(writing)
        if not writing.cancelled():
            writing.exception()  # whoever waited has it

    async def _write(self, work: Callable[[], None] | None, kind: str, gives_back: bool) -> None:
        async with self._turn:
            if self._items and not self._lost:
                records, self._items = self._items, []
                try:
                    await self._host.ask_database("record", lambda: self._fence.commit(records))
                except ClaimLost:
                    self._lost = True
                else:
                    self._note(records)
            if self._lost and not gives_back:
                raise ClaimLost
            if work is not None:
                await self._host.ask_database(kind, work)

    def _note(self, records: Sequence[Record]) -> None:
        for record in records:
            match record:
                case PutFlow(facts):
                    self.announced.add(("create", facts.name, facts.generation))
                    if facts.state is FlowState.STARTING:
                        self.announced.add(("start", facts.flow_id))
                case PutInput(_, row) if row.state is InputState.SENDING:
                    self.announced.add(("upload", row.key))
                case AddOrphan(flow_id):
                    self.announced.add(("delete", flow_id))
