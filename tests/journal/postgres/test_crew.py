"""Runs that share a batch, on a real server: what one leaves behind there when its host is gone without a word."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from batcher.core.crew import Done, Heartbeat, Job, Totals
from batcher.core.errors import ClaimLost
from batcher.journal.postgres.address import DatabaseAddress
from tests.postgres import journal_at, server

pgqueuer = pytest.importorskip("pgqueuer", reason="the extra `hosts` is not installed")

from batcher.journal.postgres.crew import PostgresCrew  # noqa: E402
from batcher.journal.postgres.crew_statements import row  # noqa: E402
from batcher.journal.postgres.link import Connection  # noqa: E402

pytestmark = pytest.mark.anyio

LEASE_S = 1.2
TOLD = Heartbeat(0, Done(), None)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[DatabaseAddress]:
    with closing(journal_at(tmp_path, exclusive=False)):
        yield server().address(tmp_path)


@asynccontextmanager
async def crew(address: DatabaseAddress, run: str, starts: int | None = None) -> AsyncIterator[PostgresCrew]:
    made = PostgresCrew(address, run, f"host {run}", lease_s=LEASE_S, most=4, held=4, starts=starts)
    await made.join("digest")
    try:
        yield made
    finally:
        await made.close()


def gone(of: PostgresCrew) -> Connection:
    """Its connection, which is lost as its host sees it; the server has heard nothing of that."""
    link = of._link
    connection, link._connection = link._connection, None
    assert connection is not None
    of._lost()
    return connection


async def leads(*crews: PostgresCrew) -> PostgresCrew:
    """Whoever has the lead, in the end; all of them are alive meanwhile."""
    while True:
        for one in crews:
            await one.beat(TOLD)
            if await one.try_lead():
                return one
        await asyncio.sleep(LEASE_S / 6)


async def test_lead_of_a_connection_that_is_gone_without_a_word_is_had_again(address: DatabaseAddress) -> None:
    """The run itself is alive, and a member, by another connection."""
    async with crew(address, "a") as a, crew(address, "b") as b:
        assert await a.try_lead()
        assert not await b.try_lead()
        held = gone(a)
        await a.beat(TOLD)
        assert not await b.try_lead()
        try:
            assert await asyncio.wait_for(leads(b, a), 4 * LEASE_S) in (a, b)
        finally:
            await held.close()


async def test_leader_that_is_alive_keeps_the_lead(address: DatabaseAddress) -> None:
    async with crew(address, "a") as a, crew(address, "b") as b:
        assert await a.try_lead()
        for _ in range(15):
            await a.beat(TOLD)
            await b.beat(TOLD)
            assert not await b.try_lead()
            await asyncio.sleep(LEASE_S / 6)
        assert a.leads
        await a.resign()
        assert await b.try_lead()


async def test_run_that_is_gone_within_a_transaction_holds_up_nobody(address: DatabaseAddress) -> None:
    async with crew(address, "a") as a, crew(address, "b") as b:
        await a.beat(TOLD)
        connection = gone(a)
        try:
            await connection.execute("BEGIN")
            await row(connection, "session")  # locked, as within each heartbeat
            began = asyncio.get_running_loop().time()
            await asyncio.wait_for(b.beat(TOLD), 10)
            assert asyncio.get_running_loop().time() - began < LEASE_S
            await a.beat(TOLD)
        finally:
            await connection.close()


async def test_run_that_was_thrown_out_of_a_transaction_begins_it_again(address: DatabaseAddress) -> None:
    """Frozen between two statements: the server ends it, and it is alive."""
    async with crew(address, "a") as a:
        tries = 0

        async def work(connection: Connection) -> int:
            nonlocal tries
            tries += 1
            await row(connection, "session")
            if tries == 1:
                await asyncio.sleep(LEASE_S / 2)
            await row(connection, "session")
            return tries

        assert await asyncio.wait_for(a._do(work), 10) == 2


async def taken(of: PostgresCrew, count: int) -> list[str]:
    return [job.name for job in await of.take(count)]


async def planned(of: PostgresCrew, *jobs: Job) -> None:
    assert await of.try_lead()
    await of.put(jobs)
    await of.planned(Totals())


async def test_runs_that_lost_their_leases_go_on_with_what_they_were_asked_for(address: DatabaseAddress) -> None:
    """A laptop that slept: what it had paid for again is not paid for again, and what it had not begun still is."""
    async with crew(address, "a", starts=3) as a:
        await planned(a, Job("x", "id-1"), Job("y", "id-2"), Job("z", "id-3"))
        assert await taken(a, 2) == ["x", "y"]
        await a.done(["x"], 0, Done(1))
        await asyncio.sleep(1.5 * LEASE_S)
        with pytest.raises(ClaimLost):
            await a.beat(TOLD)
        await a.join("digest")
        assert a.may_redo
        await planned(a, Job("x", "id-9"), Job("y", "id-2"), Job("z", "id-3"))  # x is another one by now
        assert await taken(a, 9) == ["y", "z"], "of three starts one is used: the job that was lost has given its back"
        await a.give_back(["y", "z"])


async def test_run_that_comes_back_to_what_others_began_pays_for_nothing_again(address: DatabaseAddress) -> None:
    async with crew(address, "a") as a:
        await planned(a, Job("x", "id-1"))
        await asyncio.sleep(1.5 * LEASE_S)
        async with crew(address, "b") as b:
            assert b.may_redo, "it is asked for by somebody who has just come"
            await a.join("digest")
            assert not a.may_redo
        await asyncio.sleep(1.5 * LEASE_S)
        await a.join("digest")
        assert not a.may_redo, "nor later"


def test_library_says_nothing_by_itself() -> None:
    """Its warnings would stand on the terminal beside what batcher says of the same."""
    assert logging.getLogger("psycopg").handlers
