"""The queue in a real database: whose a job is where the connection is lost just when it was taken."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from batcher.core.crew import Job
from batcher.journal.postgres.queue import Queue
from tests.postgres import journal_at, server

pytestmark = pytest.mark.anyio


async def _connected(folder: Path) -> psycopg.AsyncConnection[tuple[object, ...]]:
    connection = await psycopg.AsyncConnection.connect(server().url, autocommit=True)
    await connection.execute(SQL("SET search_path TO {}").format(Identifier(server().address(folder).schema)))
    return connection


async def _take(queue: Queue, connection: psycopg.AsyncConnection[tuple[object, ...]], count: int) -> None:
    async with connection.transaction():
        await queue.take(connection, count, count)
    queue.took()


async def test_job_that_was_taken_without_an_answer_is_given_once_more(tmp_path: Path) -> None:
    """Else its run would keep it for ever with its heartbeats, and do nothing for it."""
    journal_at(tmp_path).close()
    queue, other = Queue(30.0, 10), Queue(30.0, 10)
    async with await _connected(tmp_path) as connection:
        await Queue.install(connection)
        await Queue.put(connection, [Job(name) for name in "abcd"])

        async def take(one: Queue, count: int, room: int) -> tuple[list[str], int]:
            async with connection.transaction():
                jobs, new = await one.take(connection, count, room)
            return [job.name for job in jobs], new

        assert await take(queue, 2, 2) == (["a", "b"], 2)
        assert await take(queue, 3, 0) == (["a", "b"], 0), "there is no room for more, and none is needed for these"
        assert await take(queue, 3, 3) == (["a", "b", "c"], 1)
        assert queue.names == []
        queue.took()
        assert queue.names == ["a", "b", "c"]
        async with connection.transaction(force_rollback=True):
            await queue.take(connection, 1, 1)
        assert await take(other, 1, 1) == (["d"], 1), "what was not committed is anybody's"
        assert await take(queue, 1, 1) == ([], 0)


async def test_job_of_a_run_that_died_needs_no_room_and_is_not_counted_again(tmp_path: Path) -> None:
    """It was counted when it was taken first. Without room for it (--max-starts) the others would wait for it for ever."""
    journal_at(tmp_path).close()
    died, other = Queue(2.0, 10), Queue(2.0, 10)
    async with await _connected(tmp_path) as connection:
        await Queue.install(connection)
        await Queue.put(connection, [Job(name) for name in "abcdef"])
        async with connection.transaction():  # "a" waits again, before those that the dead run holds
            assert [job.name for job in (await died.take(connection, 1, 1))[0]] == ["a"]
        died.took()
        async with connection.transaction():
            assert (await died.take(connection, 2, 2))[1] == 2
        died.took()
        async with connection.transaction():
            await died.give_back(connection, ["a"], 0.0)
        await asyncio.sleep(2.2)
        async with connection.transaction():
            jobs, new = await other.take(connection, 5, 0)
        assert ([job.name for job in jobs], new) == (["b", "c"], 0)
        other.took()
        async with connection.transaction():
            assert await other.take(connection, 5, 0) == ([], 0), "nothing new without room"
        async with connection.transaction():
            await other.beat(connection)
            jobs, new = await other.take(connection, 5, 2)
        assert ([job.name for job in jobs], new) == (["a", "d"], 2)


async def test_what_is_left_is_told_without_counting(tmp_path: Path) -> None:
    journal_at(tmp_path).close()
    async with await _connected(tmp_path) as connection:
        queue = Queue(30.0, 10)
        await Queue.install(connection)
        assert await Queue.left(connection) == (False, False)
        await Queue.put(connection, [Job(name) for name in "ab"])
        assert await Queue.left(connection) == (True, False)
        await _take(queue, connection, 1)
        assert await Queue.left(connection) == (True, True)
        await _take(queue, connection, 1)
        assert await Queue.left(connection) == (False, True)
        await queue.give_back(connection, ["a"], 60.0)
        assert await Queue.left(connection) == (True, True), "it waits, though nobody may have it yet"
        await queue.done(connection, ["b"])
        assert await Queue.left(connection) == (True, False)


async def test_queue_is_emptied_in_a_time_that_does_not_grow_with_it(tmp_path: Path) -> None:
    """A session of 10^6 flows leaves 3 * 10^6 rows of PgQueuer's log: to delete them takes longer than a statement may."""
    journal_at(tmp_path).close()
    async with await _connected(tmp_path) as connection:
        await Queue.install(connection)
        await Queue.put(connection, [Job(f"{number}") for number in range(2_000)])
        async with connection.transaction():
            await Queue.clear(connection)
        sizes = await connection.execute("SELECT pg_relation_size('pgqueuer'), pg_relation_size('pgqueuer_log')")
        assert await sizes.fetchall() == [(0, 0)], "rows that are deleted one by one leave their pages"


async def test_queue_is_vacuumed_as_pgqueuer_advises(tmp_path: Path) -> None:
    """By default a fifth of it has to be dead first, and whoever takes jobs reads past all of them."""
    journal_at(tmp_path).close()
    async with await _connected(tmp_path) as connection:
        await Queue.install(connection)
        found = await connection.execute("SELECT reloptions FROM pg_class WHERE oid = 'pgqueuer'::regclass")
        assert "autovacuum_vacuum_scale_factor=0.01" in str(await found.fetchall())


async def test_jobs_are_taken_from_a_full_queue_by_its_index(tmp_path: Path) -> None:
    """However many wait. By the statistics of an empty queue each take sorts them all: a quarter of a second for a million."""
    journal_at(tmp_path).close()
    async with await _connected(tmp_path) as connection:
        queue = Queue(30.0, 10_000)
        await Queue.install(connection)
        await connection.execute("ALTER TABLE pgqueuer SET (autovacuum_enabled = off)")
        for first in range(0, 100_000, 10_000):
            await Queue.put(connection, [Job(f"{first + number}") for number in range(10_000)])
        await Queue.filled(connection)
        before = await _rows_read(connection)
        await _take(queue, connection, 8)
        assert await _rows_read(connection) - before < 1_000


async def _rows_read(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> int:
    """Of the queue, by whatever plan."""
    await connection.execute("SELECT pg_stat_force_next_flush()")
    rows = "coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)"
    found = await connection.execute(f"SELECT {rows} FROM pg_stat_user_tables WHERE relid = 'pgqueuer'::regclass")
    ((read,),) = await found.fetchall()
    return int(str(read))
