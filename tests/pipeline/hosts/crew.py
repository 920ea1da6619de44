"""The runs of one batch, in memory, by the rules of `journal/postgres/crew.py` and `queue.py`.

In: what a run tells and asks, each a transaction of its own. Out: what it hears, whether it leads; jobs. Made once for each
owner, on a session that all of them share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from batcher.core.crew import Done, Heard, Heartbeat, Job, Member, Totals, share_of
from batcher.core.errors import ClaimLost

from .database import Database
from .disturbances import Host

T = TypeVar("T")

MOST = 4  # requests in flight of all runs together


@dataclass
class Run:
    id: str
    host: Host
    session: int
    beat: float
    left: bool = False
    allotted: int = 0
    done: Done = field(default_factory=Done)


@dataclass
class Waiting:
    """A job in the queue. `holder`: who works on it, by its name and how often it has joined."""

    job: Job
    holder: str | None = None
    beat: float = 0.0


@dataclass
class Session:
    """What the database knows of the runs. `leader`: who has the lock, and on which of its connections."""

    database: Database
    number: int = 0
    planned: bool = False
    swept: bool = False
    totals: Totals = field(default_factory=Totals)
    runs: dict[str, Run] = field(default_factory=dict)
    jobs: dict[str, Waiting] = field(default_factory=dict)
    leader: tuple[Host, int] | None = None

    def expel(self, now: float, lease_s: float) -> None:
        for run in self.runs.values():
            if not run.left and run.beat <= now - lease_s:
                run.left, run.allotted = True, 0
                self.database.drop_claims(run.id)

    def begin(self) -> None:
        self.number += 1
        self.planned = self.swept = False
        self.totals = Totals()
        self.jobs.clear()
        self.runs = {name: run for name, run in self.runs.items() if not run.left}
        for name in [run for _, run in self.database.claims.values() if run is not None]:
            self.database.drop_claims(name)

    def lock(self, host: Host) -> bool:
        """The advisory lock, which goes with its connection; that of a run that is none of us any more is ended."""
        if self.leader is not None and self.leader[0].connection != self.leader[1]:
            self.leader = None
        if self.leader is None:
            self.leader = host, host.connection
        elif self.leader[0] is not host and ((run := self.runs.get(self.leader[0].name)) is None or run.left):
            self.leader[0].connection += 1
        return self.leader[0] is host


class MemoryCrew:
    bounded = False

    def __init__(self, host: Host, session: Session, lease_s: float) -> None:
        self._host = host
        self._session = session
        self._connection = host.connection
        self._joined = 0
        self._held: set[str] = set()
        self.lease_s = lease_s
        self.leads = False
        self.may_redo = True

    def halt(self) -> None: ...
    async def close(self) -> None:
        self._host.connection += 1

    @property
    def _holder(self) -> str:
        return f"{self._host.name}/{self._joined}"

    def _own(self, names: Sequence[str]) -> list[Waiting]:
        jobs = self._session.jobs
        return [jobs[name] for name in names if name in jobs and jobs[name].holder == self._holder]

    def _now(self) -> float:
        return self._host.loop.tick()

    async def _do(self, work: Callable[[], T], *, member: bool = True) -> T:
        def transaction() -> T:
            if self._connection != self._host.connection:
                self._connection, self.leads = self._host.connection, False
            run = self._session.runs.get(self._host.name)
            if member and (run is None or run.left):
                raise ClaimLost
            return work()

        return await self._host.ask_database("crew", transaction)

    # ---- belonging

    async def join(self, digest: str) -> None:
        self._joined += 1
        self._held.clear()
        self.leads = False
        session, name = self._session, self._host.name

        def work() -> None:
            session.expel(self._now(), self.lease_s)
            if session.swept or all(run.left for run in session.runs.values()):
                session.begin()
            session.runs[name] = Run(name, self._host, session.number, self._now())

        await self._do(work, member=False)

    async def beat(self, told: Heartbeat) -> Heard:
        session = self._session

        def work() -> Heard:
            now = self._now()
            session.expel(now, self.lease_s)
            run = session.runs.get(self._host.name)
            if run is None or run.left:
                raise ClaimLost
            run.beat, run.done, run.allotted = now, told.done, min(run.allotted, told.in_flight)
            for one in self._own(list(session.jobs)):
                one.beat = now
            alive = [one for one in session.runs.values() if not one.left]
            share = share_of(MOST, len(alive), alive.index(run))
            allotted = min(share, run.allotted + max(0, MOST - sum(one.allotted for one in alive)))
            run.allotted = max(run.allotted, allotted)
            return Heard([Member(one.id, one.id) for one in alive], allotted, None, session.number, session.planned,
                         session.swept, session.totals, Done())  # fmt: skip

        return await self._do(work, member=False)

    async def leave(self) -> None:
        def work() -> None:
            for one in self._own(list(self._session.jobs)):
                one.holder = None
            run = self._session.runs[self._host.name]
            run.left, run.allotted = True, 0
            self._session.database.drop_claims(self._host.name)

        await self._do(work)

    # ---- planning

    async def try_lead(self) -> bool:
        if not self.leads:
            self.leads = await self._do(lambda: self._session.lock(self._host))
        return self.leads

    async def resign(self, *, lacking: bool = False) -> None:
        raise AssertionError("every owner has the sources")

    async def put(self, jobs: Sequence[Job]) -> None:
        def work() -> None:
            for job in jobs:
                self._session.jobs.setdefault(job.name, Waiting(job))

        await self._lead(work)

    async def planned(self, totals: Totals) -> None:
        def work() -> None:
            self._session.planned, self._session.totals = True, totals

        await self._lead(work)

    async def swept(self) -> None:
        def work() -> None:
            self._session.swept = True

        await self._lead(work)

    async def _lead(self, work: Callable[[], None]) -> None:
        def checked() -> None:
            if not self.leads:
                raise ClaimLost
            work()

        await self._do(checked)

    # ---- jobs

    async def take(self, count: int) -> list[Job]:
        def work() -> list[Job]:
            now = self._now()
            free = [one for one in self._session.jobs.values() if one.holder is None or one.beat < now - self.lease_s]
            free.sort(key=lambda one: one.holder is None)  # those first whose run has died
            taken = [one for one in self._own(list(self._session.jobs)) if one.job.name not in self._held]  # no word of it
            for one in free[: max(0, count - len(taken))]:
                one.holder, one.beat = self._holder, now
                taken.append(one)
            return [one.job for one in taken]

        jobs = await self._do(work)
        self._held.update(job.name for job in jobs)
        return jobs

    async def place(self) -> bool:
        return await self._do(lambda: True)

    async def done(self, names: Sequence[str], unused: int, done: Done) -> None:
        def work() -> None:
            for one in self._own(names):
                del self._session.jobs[one.job.name]

        await self._do(work)
        self._held.difference_update(names)

    async def give_back(self, names: Sequence[str], after_s: float = 0.0) -> None:
        raise AssertionError("every owner has the sources")

    async def lacks(self, name: str) -> bool:
        raise AssertionError("every owner has the sources")

    async def left(self) -> tuple[bool, bool]:
        def work() -> tuple[bool, bool]:
            held = [one.holder is not None for one in self._session.jobs.values()]
            return not all(held), any(held)

        return await self._do(work)

    async def reserve(self, what: str, count: int, per_s: float) -> float:
        raise AssertionError("no rate is shared")
