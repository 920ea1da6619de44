"""The queue in a real database: whose a job is where the connection is lost just when it was taken."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from batcher.core.crew import Job
from batcher.journal.postgres.queue import Queue
from tests.postgres import journal_at, server

pytestmark = pytest.mark.anyio


async def test_job_that_was_taken_without_an_answer_is_given_once_more(tmp_path: Path) -> None:
    """Else its run would keep it for ever with its heartbeats, and do nothing for it."""
    journal_at(tmp_path).close()
    queue, other = Queue(30.0, 10), Queue(30.0, 10)
    async with await psycopg.AsyncConnection.connect(server().url, autocommit=True) as connection:
        await connection.execute(SQL("SET search_path TO {}").format(Identifier(server().address(tmp_path).schema)))
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
