"""The queue in which flows wait to be worked on: PgQueuer's, in the batch's own schema.

In: names of flows, from the run that planned them. Out: `Job`s, each to one run at a time; one whose run says nothing for as
long as the lease is given to another. Used by the crew, on a connection of its own.

PgQueuer's dispatcher is not used, for it takes a job that is cancelled for done: what is used are its tables and statements.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final, TypeAlias
from uuid import uuid4

from pgqueuer.adapters.drivers.psycopg import PsycopgDriver
from pgqueuer.models import Job as QueueJob
from pgqueuer.ports.repository import EntrypointExecutionParameter
from pgqueuer.queries import Queries
from pgqueuer.types import QueueEntrypoint, QueueManagerId

from ...core.crew import Job
from .crew_statements import execute, rows
from .link import Connection

FLOW: Final = QueueEntrypoint("flow")
_Entrypoints: TypeAlias = "dict[QueueEntrypoint, EntrypointExecutionParameter]"
_UNLIMITED: Final = {FLOW: EntrypointExecutionParameter(concurrency_limit=0)}
_NOTHING_NEW: Final = {FLOW: EntrypointExecutionParameter(concurrency_limit=1)}  # but what has lost its run


class Queue:
    """`lease_s`: how long a job is its run's without a sign of life. `most`: jobs that one run holds."""

    def __init__(self, lease_s: float, most: int) -> None:
        self._lease = timedelta(seconds=lease_s)
        self._most = most
        self._me = QueueManagerId(uuid4())
        self._held: dict[str, QueueJob] = {}
        self._taken: dict[str, QueueJob] = {}  # by a transaction that nobody knows yet whether it was committed

    @property
    def names(self) -> list[str]:
        """Of the flows that are held."""
        return list(self._held)

    def forget(self) -> None:
        """They are others' by now."""
        self._held.clear()
        self._taken.clear()
        self._me = QueueManagerId(uuid4())

    @staticmethod
    async def install(connection: Connection) -> None:
        """Make its tables, or bring an older PgQueuer's up to date. Called by one at a time, outside of a transaction."""
        queries = _queries(connection)
        if not await queries.schema_is_installed():
            await queries.install(create_schema=False)
            await queries.optimize_autovacuum()
        elif (await queries.plan_upgrade()).statements:
            await queries.apply_upgrade()

    @staticmethod
    async def clear(connection: Connection) -> None:
        """Forget the jobs of an earlier session, and what PgQueuer has logged of them: three rows for each. All at once, in a
        time that does not grow with them."""
        queries = _queries(connection)
        await queries.clear_queue()
        await queries.clear_queue_log()

    @staticmethod
    async def put(connection: Connection, jobs: Sequence[Job]) -> None:
        """Those that do not wait there already."""
        payloads: list[bytes | None] = [json.dumps([job.name, job.redo_of]).encode() for job in jobs]
        keys: list[str | None] = [hashlib.sha256(job.name.encode(errors="surrogatepass")).hexdigest() for job in jobs]
        await _queries(connection).enqueue([FLOW] * len(jobs), payloads, [0] * len(jobs), dedupe_key=keys, on_conflict="skip")

    @staticmethod
    async def filled(connection: Connection) -> None:
        """All that is to wait there does. By the statistics of an empty queue each take would sort all of it, until the server
        looks at it by itself, within a minute or so."""
        await execute(connection, "analyze_queue", {})

    @staticmethod
    async def picked(connection: Connection) -> list[str]:
        """The names of the flows that runs held."""
        return [_job_of(one[0]).name for one in await rows(connection, "picked_jobs")]

    async def take(self, connection: Connection, count: int, room: int | None) -> tuple[list[Job], int]:
        """So many jobs at most, in their order; and how many are new, at most `room` (None: no bound). Others were taken by an
        attempt whose commit nobody has answered, or by runs that have died: they need no room, for they had it. They are held
        from `took` on."""
        ours = await self._own(connection, self._taken)
        found: list[QueueJob] = []
        stale: set[int] = set()
        if room is not None:
            stale = {one[0] for one in await rows(connection, "stale_jobs", {"lease": self._lease.total_seconds()})}
            if stale:  # as long as one is picked, this lets nothing new go
                found = await self._dequeue(connection, count - len(ours), _NOTHING_NEW)
        left = count - len(ours) - len(found)
        found += await self._dequeue(connection, left if room is None else min(left, room), _UNLIMITED)
        self._taken.clear()
        jobs: list[Job] = []
        for one in [*ours, *found]:
            job = _job_of(one.payload)
            self._taken[job.name] = one
            jobs.append(job)
        return jobs, sum(int(one.id) not in stale for one in found)

    async def _dequeue(self, connection: Connection, count: int, entrypoints: _Entrypoints) -> list[QueueJob]:
        if count <= 0:
            return []
        return await _queries(connection).dequeue(count, entrypoints, self._me, self._most, self._lease)

    def took(self) -> None:
        """That is committed."""
        self._held |= self._taken
        self._taken.clear()

    async def beat(self, connection: Connection) -> None:
        """A sign of life for all that are held."""
        if self._held:
            await _queries(connection).update_heartbeat([job.id for job in self._held.values()])

    async def done(self, connection: Connection, names: Sequence[str]) -> None:
        """Nothing is left to be done for these, in this session."""
        jobs = await self._own_of(connection, names)
        if jobs:
            await _queries(connection).log_jobs([(job, "successful", None) for job in jobs])
        self._drop(names)

    async def give_back(self, connection: Connection, names: Sequence[str], after_s: float) -> None:
        """Others may have these, after so long."""
        for job in await self._own_of(connection, names):
            await _queries(connection).retry_job(job, timedelta(seconds=after_s), None)
        self._drop(names)

    @staticmethod
    async def left(connection: Connection) -> tuple[bool, bool]:
        """Whether jobs wait, and whether some are worked on, by anybody. At one moment: a job changes from one to the other."""
        waiting, working = (await rows(connection, "jobs_left"))[0]
        return waiting, working

    async def _own_of(self, connection: Connection, names: Sequence[str]) -> list[QueueJob]:
        """Those of these jobs that are ours still. Within a transaction, in which nobody else takes them."""
        return await self._own(connection, {name: self._held[name] for name in names if name in self._held})

    async def _own(self, connection: Connection, jobs: Mapping[str, QueueJob]) -> list[QueueJob]:
        values = {"ids": [job.id for job in jobs.values()], "manager": self._me}
        ours = {one[0] for one in await rows(connection, "own_jobs", values)} if jobs else set()
        return [job for job in jobs.values() if job.id in ours]

    def _drop(self, names: Sequence[str]) -> None:
        for name in names:
            self._held.pop(name, None)


def _job_of(payload: bytes | None) -> Job:
    name, redo_of = json.loads(payload or b"[]")
    return Job(name, redo_of)


def _queries(connection: Connection) -> Queries:
    return Queries(PsycopgDriver(connection))
