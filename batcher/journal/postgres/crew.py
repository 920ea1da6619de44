"""The runs that work on one batch at the same time: who is alive, who plans, what waits, and what is shared.

In: what a run tells with its heartbeats. Out: what it hears; jobs. Made once for each run; called in its loop by the pipeline's
`hosts`. Every piece of work is a transaction of its own, by the database's clock, and may be done twice.

A session lasts as long as there are runs: it has one manifest, is planned once, and its queue is emptied when the next begins.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Final, TypeVar

from ...core.crew import Done, Heard, Heartbeat, Job, Member, Totals, share_of
from ...core.errors import ClaimLost, UsageError
from .address import DatabaseAddress
from .crew_statements import execute, row, rows
from .link import Connection, Link
from .queue import Queue
from .sessions import begin_session, install

IDLE_S: Final = 10.0  # a transaction whose run says nothing more is ended after a quarter of its lease, and after so long

T = TypeVar("T")


class PostgresCrew:
    """`run`: this run's random name. `place`: its host and process, for people. `most`: requests in flight of all runs
    together; `held`: flows that it works on at most; `starts`: flows that may be started in one session (None: no bound)."""

    def __init__(
        self, address: DatabaseAddress, run: str, place: str, *, lease_s: float, most: int, held: int, starts: int | None
    ) -> None:
        self._link = Link(address, self._lost, idle_s=min(IDLE_S, lease_s / 4))
        self._queue = Queue(lease_s, 2 * held)  # those that it works on, and those that are about to leave
        self._run = run
        self._place = place
        self._starts = starts
        self._values = {"run": run, "lease": lease_s, "most": most, "place": place}
        self.lease_s = lease_s
        self.leads = False  # it plans, and sweeps
        self.may_redo = True  # what --redo names: not where others have begun anew while this run was away
        self._lineage: int | None = None  # of the sessions that it has been in

    @property
    def bounded(self) -> bool:
        """Whether not more than so many flows may be started in one session."""
        return self._starts is not None

    def halt(self) -> None:
        """The run is to end: a database that is away is not waited for any longer."""
        self._link.halt()

    async def close(self) -> None:
        await self._link.close()

    def _lost(self) -> None:
        self.leads = False

    async def _do(self, work: Callable[[Connection], Awaitable[T]], *, member: bool = True) -> T:
        """In one transaction; where this run is no member any more, nothing is done. Raises ClaimLost, Stop."""

        async def transaction(connection: Connection) -> T:
            async with connection.transaction():
                if member and not await rows(connection, "is_member", self._values):
                    raise ClaimLost
                return await work(connection)

        return await self._link.run(transaction)

    # ---- belonging

    async def join(self, digest: str) -> None:
        """Become a member. `digest`: of the manifest. Raises UsageError where a run that is alive has another."""

        async def work(connection: Connection) -> int:
            number, known, _, swept, *_, lineage = await row(connection, "session")
            await self._expel(connection)
            others = await rows(connection, "another_place")
            if others and not swept and known != digest:
                raise UsageError(f"the run on {others[0][0]} has another manifest than this one on {self._place}",
                                 "bring the same manifest to both; or wait until that run has ended")  # fmt: skip
            if not others or swept:  # those that are there are about to leave
                number += 1
                resumed = lineage == self._lineage
                lineage = lineage if resumed else number
                await begin_session(connection, number, digest, resumed=resumed)
            await execute(connection, "join", {**self._values, "session": number, "backend": self._link.backend})
            return int(lineage)

        self._queue.forget()
        self.leads = False
        await self._link.run(install)
        lineage = await self._do(work, member=False)
        self.may_redo = self.may_redo and self._lineage in (None, lineage)
        self._lineage = lineage

    async def _expel(self, connection: Connection) -> None:
        """Runs that are dead, or frozen, are members no more. What they had done stays counted."""
        runs = [one[0] for one in await rows(connection, "expel", self._values)]
        if runs:
            await execute(connection, "drop_claims", {"runs": runs})
            await execute(connection, "drop_prober", {"runs": runs})

    async def beat(self, heartbeat: Heartbeat) -> Heard:
        """A sign of life, for this run and for the jobs that it holds. Raises ClaimLost where it is too late."""

        async def work(connection: Connection) -> Heard:
            session, _, planned, swept, totals, prober, failed, _ = await row(connection, "session")
            await self._expel(connection)
            if not await rows(connection, "is_member", self._values):
                raise ClaimLost
            await execute(connection, "beat", {**self._values, **asdict(heartbeat.done), "in_flight": heartbeat.in_flight,
                                           "backend": self._link.backend})  # fmt: skip
            await self._queue.beat(connection)
            members, allotted = await self._allot(connection)
            probes = await self._probing(connection, heartbeat, prober, failed)
            done = Done(*await row(connection, "done_by_all"))
            return Heard(members, allotted, probes, session, planned, swept, Totals(**totals), done)

        return await self._do(work, member=False)

    async def _allot(self, connection: Connection) -> tuple[list[Member], int]:
        """This run's share of the requests in flight: less at once, more once the others have let go of it."""
        members = await rows(connection, "members")
        index = next(at for at, one in enumerate(members) if one[0] == self._run)
        most = min(one[4] for one in members)
        share, mine = share_of(most, len(members), index), members[index][3]
        allotted = min(share, mine + max(0, most - sum(one[3] for one in members)))
        if allotted > mine:  # less is written once it is so
            await execute(connection, "allot", {**self._values, "allotted": allotted})
        return [Member(*one[:3]) for one in members], allotted

    async def _probing(
        self, connection: Connection, heartbeat: Heartbeat, prober: str | None, failed: int
    ) -> tuple[bool, int] | None:
        """Who asks whether the service is back: the first of those that see an outage, as long as it sees one."""
        seen, mine = heartbeat.failed_probes, prober == self._run
        if seen is None and mine:
            await execute(connection, "put_prober", {"prober": None, "failed": 0})
        if seen is None or (prober is None and heartbeat.follows):
            return None if prober is None or mine else (False, failed)
        if prober is not None and not mine:
            return False, failed
        failed = max(seen, failed)
        await execute(connection, "put_prober", {"prober": self._run, "failed": failed})
        return True, failed

    async def leave(self) -> None:
        """What is held is others' from now on."""

        async def work(connection: Connection) -> None:
            await self._queue.give_back(connection, self._queue.names, 0.0)
            await execute(connection, "leave", self._values)
            await execute(connection, "drop_claims", {"runs": [self._run]})

        await self._do(work)

    # ---- planning

    async def try_lead(self) -> bool:
        """Whether this run plans, and sweeps; one of all does."""

        async def work(connection: Connection) -> bool:
            taken = bool((await row(connection, "try_lead"))[0])
            if not taken:
                await execute(connection, "end_dead_leader", self._values)
            return taken

        if not self.leads:
            self.leads = await self._do(work)
        return self.leads

    async def resign(self, *, lacking: bool = False) -> None:
        """Another is to plan; `lacking`: this run lacks sources."""

        async def work(connection: Connection) -> None:
            await execute(connection, "put_lacking_member", {**self._values, "lacking": lacking})
            if self.leads:
                await execute(connection, "unlead", {})

        await self._do(work)
        self.leads = False

    async def put(self, jobs: Sequence[Job]) -> None:
        """Let these wait in the queue, each once; what was paid for again in this session, or in one before it that it goes on
        with, is not again."""

        async def work(connection: Connection) -> None:
            redone = [job for job in jobs if job.redo_of is not None]
            values = {"names": [job.name for job in redone], "ids": [job.redo_of for job in redone]}
            may = {one[0] for one in await rows(connection, "put_redone", values)} if redone else set()
            await Queue.put(connection, [job for job in jobs if job.redo_of is None or job.name in may])

        await self._lead(work)

    async def planned(self, totals: Totals) -> None:
        """All that is to be done waits in the queue."""
        await self._lead(Queue.filled)
        await self._lead(lambda connection: execute(connection, "planned", {"totals": json.dumps(asdict(totals))}))

    async def swept(self) -> None:
        """What was left on the service is gone: the session is at its end."""
        await self._lead(lambda connection: execute(connection, "swept", {}))

    async def _lead(self, work: Callable[[Connection], Awaitable[None]]) -> None:
        """Where this connection still has the lock. Raises ClaimLost."""

        async def checked(connection: Connection) -> None:
            if not self.leads:
                raise ClaimLost
            await work(connection)

        await self._do(checked)

    # ---- jobs

    async def take(self, count: int) -> list[Job]:
        """So many jobs at most, which are this run's from now on; as many as may yet be started."""

        async def work(connection: Connection) -> list[Job]:
            room = await self._room(connection, count)
            jobs, new = await self._queue.take(connection, count, room if self.bounded else None)
            await self._add_starts(connection, new)
            return jobs

        jobs = await self._do(work)
        self._queue.took()
        return jobs

    async def place(self) -> bool:
        """Whether one more flow may be started, which was never in the queue."""

        async def work(connection: Connection) -> bool:
            free = await self._room(connection, 1) > 0
            await self._add_starts(connection, int(free))
            return free

        return await self._do(work)

    async def done(self, names: Sequence[str], unused: int, done: Done) -> None:
        """Nothing is left to do for these flows. `unused`: of them, those that no start was announced of. `done`: by this run
        so far, so that whoever finds the queue empty knows of all."""

        async def work(connection: Connection) -> None:
            await self._queue.done(connection, names)
            await execute(connection, "put_done", {**self._values, **asdict(done)})
            await self._add_starts(connection, -unused)

        await self._do(work)

    async def give_back(self, names: Sequence[str], after_s: float = 0.0) -> None:
        """Others may work on these, after so long."""

        async def work(connection: Connection) -> None:
            await self._queue.give_back(connection, names, after_s)
            await self._add_starts(connection, -len(names))

        await self._do(work)

    async def _room(self, connection: Connection, count: int) -> int:
        return count if self._starts is None else min(count, self._starts - (await row(connection, "starts"))[0])

    async def _add_starts(self, connection: Connection, count: int) -> None:
        if self._starts is not None and count:
            await execute(connection, "add_starts", {"count": count})

    async def lacks(self, name: str) -> bool:
        """This run lacks sources of the flow: whether every other run does, too."""

        async def work(connection: Connection) -> bool:
            values = {"flow": name, "run": self._run}
            await execute(connection, "put_lacking", values)
            return bool((await row(connection, "may_have", values))[0] == 0)

        return await self._do(work)

    async def left(self) -> tuple[bool, bool]:
        """Whether flows wait, and whether some are worked on by anybody."""
        return await self._do(Queue.left)

    # ---- what is shared

    async def reserve(self, what: str, count: int, per_s: float) -> float:
        """The next `count` requests or bytes, of which so many leave per second: in how many seconds the first may."""
        values = {"what": what, "takes": count / per_s}
        return await self._link.run(lambda connection: _reserve(connection, values))


async def _reserve(connection: Connection, values: dict[str, object]) -> float:
    return max(0.0, float((await row(connection, "reserve", values))[0]))
