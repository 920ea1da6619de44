"""A database that goes away: restarted, cut off, refused; what is lost then (nothing), and who waits for how long."""

from __future__ import annotations

import asyncio
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest

from batcher.core.errors import ClaimLost, JournalError, Reason, Stop, UsageError
from batcher.core.facts import FlowFacts, InputFacts, PutFlow, PutInput, PutTimes
from batcher.core.lifecycle import FlowState, InputState
from batcher.core.measuring import FlowTimes
from batcher.journal.postgres import line, writer
from batcher.journal.postgres.address import DatabaseAddress
from batcher.journal.postgres.journal import PostgresJournal
from batcher.journal.postgres.reader import PostgresReader
from tests.postgres import Server, own_server, server

from .proxy import Proxy, through

pytestmark = pytest.mark.anyio

TASKS = 8


@pytest.fixture(scope="module")
def own() -> Server:
    """A server that the tests here restart."""
    return own_server()


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a name that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="pg-") as made:
        yield Path(made)


def opened(address: DatabaseAddress, run: str = "a") -> PostgresJournal:
    return PostgresJournal(address, "b", 15, run=run, exclusive=False)


async def recorded(journal: PostgresJournal, until: asyncio.Event) -> int:
    """Tasks record one after the other, each in its flow, and check what they read; then all of it is there once. How often."""
    turns = [0] * TASKS
    await journal.claim([f"f{task}" for task in range(TASKS)])

    async def work(task: int) -> None:
        name = f"f{task}"
        while not until.is_set():
            turns[task] += 1
            row = InputFacts(turns[task].to_bytes(16, "big"), InputState.ACCEPTED)
            await journal.record(PutFlow(FlowFacts(name, generation=turns[task])), PutInput(name, row))
            found = await journal.look(lambda view: view.flow(name))
            assert found is not None
            assert found.generation == turns[task]

    await asyncio.gather(*map(work, range(TASKS)))
    assert {facts.name: facts.generation for facts in journal.flows()} == {f"f{n}": turns[n] for n in range(TASKS)}
    for task, last in enumerate(turns):
        keys = [row.key for row in journal.input_rows(f"f{task}")]
        assert keys == [n.to_bytes(16, "big") for n in range(1, last + 1)]
    return sum(turns)


async def test_connections_that_are_killed_at_any_time_lose_nothing_and_double_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "FIRST_S", 0.01)
    chance = random.Random(17)
    address = server().address(tmp_path)
    until = asyncio.Event()
    killed = 0

    async def kill() -> None:
        nonlocal killed
        with server().connect() as beside:
            while killed < 40:
                await asyncio.sleep(chance.uniform(0.005, 0.06))
                asked = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'batcher'"
                killed += len(beside.execute(asked).fetchall())
        until.set()

    with closing(opened(address)) as journal:
        turns, _ = await asyncio.gather(recorded(journal, until), kill())
    assert turns > 40


async def test_commit_whose_reply_is_lost_is_repeated(tmp_path: Path, folder: Path) -> None:
    """Every third one: it was done, and is done again."""
    commits = 0

    def lose(sent: bytes) -> bool:
        nonlocal commits
        commits += b"COMMIT" in sent
        return b"COMMIT" in sent and commits % 3 == 0

    until = asyncio.Event()
    proxy = Proxy(folder, server().folder, lose)
    with closing(proxy), closing(opened(through(server().address(tmp_path), folder))) as journal:
        asyncio.get_running_loop().call_later(1.5, until.set)
        assert await recorded(journal, until) > TASKS
    assert proxy.lost > 3


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_server_that_is_restarted_under_writers(own: Server, tmp_path: Path, mode: str) -> None:
    until = asyncio.Event()

    async def restart() -> None:
        for _ in range(2):
            await asyncio.sleep(0.2)
            await asyncio.to_thread(own.control, "-m", mode, "-l", str(own.made.log), "restart")
        await asyncio.sleep(0.2)
        until.set()

    with closing(opened(own.address(tmp_path))) as journal:
        turns, _ = await asyncio.gather(recorded(journal, until), restart())
    assert turns > TASKS


async def test_database_that_stays_away_ends_the_run(own: Server, tmp_path: Path) -> None:
    with closing(opened(own.address(tmp_path))) as journal:
        await journal.claim(["f"])
        own.control("-m", "fast", "stop")
        try:
            journal.away_s = 0.4
            began = time.monotonic()
            for awaited in (journal.record(PutFlow(FlowFacts("f"))), journal.look(lambda view: view.flow("f"))):
                with pytest.raises(Stop, match="database is away") as stop:
                    await awaited
                assert stop.value.reason is Reason.UNAVAILABLE
            assert 0.2 < time.monotonic() - began < 5
            with pytest.raises(Stop):
                await journal.record()
        finally:
            own.made.ensure_postgres_running()
        with pytest.raises(Stop):  # what it was told of is not there, so nothing may follow
            await journal.record(PutFlow(FlowFacts("g")))
        assert journal.flow("f") is None


async def test_halt_ends_every_wait_and_close_is_over_soon(own: Server, tmp_path: Path) -> None:
    journal = opened(own.address(tmp_path))
    await journal.claim(["f"])
    await journal.record(PutFlow(FlowFacts("f")))
    own.control("-m", "immediate", "stop")
    try:
        waiting = [journal.record(PutFlow(FlowFacts("f"))), journal.look(lambda view: view.flow("f"))]
        tasks = [asyncio.ensure_future(one) for one in waiting]
        await asyncio.sleep(0.5)
        assert not any(task.done() for task in tasks)
        began = time.monotonic()
        threading.Thread(target=journal.halt).start()
        for task in tasks:
            with pytest.raises(Stop):
                await task
        assert time.monotonic() - began < 2
        began = time.monotonic()
        journal.close()
        assert time.monotonic() - began < 2
    finally:
        own.made.ensure_postgres_running()


async def test_journal_that_was_halted_writes_on_while_its_database_answers(tmp_path: Path) -> None:
    with closing(opened(server().address(tmp_path))) as journal:
        await journal.claim(["f"])
        journal.halt()
        await journal.record(PutFlow(FlowFacts("f")))
        journal.post(PutFlow(FlowFacts("f", inputs=3)))
    with closing(PostgresReader(server().address(tmp_path))) as reader:
        assert reader.flow("f") == FlowFacts("f", inputs=3)
        assert reader.held is False


async def test_halt_cuts_what_gets_no_answer(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "GRACE_S", 0.2)
    proxy = Proxy(folder, server().folder)
    with closing(proxy):
        journal = opened(through(server().address(tmp_path), folder))
        await journal.claim(["f"])
        proxy.moves.clear()
        writing = asyncio.ensure_future(journal.record(PutFlow(FlowFacts("f"))))
        reading = asyncio.ensure_future(journal.look(lambda view: view.flow("f")))
        await asyncio.sleep(0.3)
        journal.halt()
        for task in (writing, reading):
            with pytest.raises(Stop):
                await asyncio.wait_for(task, 15)
        proxy.moves.set()
        journal.close()


async def test_connection_that_is_cut_is_made_again(tmp_path: Path, folder: Path) -> None:
    until = asyncio.Event()
    proxy = Proxy(folder, server().folder)

    async def cut() -> None:
        for _ in range(5):
            await asyncio.sleep(0.15)
            proxy.cut()
        until.set()

    with closing(proxy), closing(opened(through(server().address(tmp_path), folder))) as journal:
        await asyncio.gather(recorded(journal, until), cut())


async def test_run_that_is_frozen_within_a_transaction_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its claims are locked then. The server throws it out, and when it wakes it finds that it was taken over."""
    monkeypatch.setitem(line._SESSION, "idle_in_transaction_session_timeout", "300ms")
    frozen, wakes = threading.Event(), threading.Event()

    def freeze(point: str) -> None:
        if point == "before commit" and threading.current_thread().name == "journal" and not frozen.is_set():
            frozen.set()
            assert wakes.wait(20)

    address = server().address(tmp_path)
    with closing(opened(address)) as a, closing(opened(address, "b")) as b:
        await a.claim(["f"])
        monkeypatch.setattr(writer, "failpoint", freeze)
        announcing = asyncio.ensure_future(a.record(PutFlow(FlowFacts("f", FlowState.CREATING, generation=1))))
        await asyncio.to_thread(frozen.wait, 20)
        await asyncio.wait_for(b.claim(["f"]), 10)
        wakes.set()
        with pytest.raises(ClaimLost):
            await announcing
        assert b.flow("f") is None


async def test_clock_is_the_databases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(opened(server().address(tmp_path))) as journal, server().connect() as beside:
        await journal.resync()
        ((at,),) = beside.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchall()
        assert abs(journal.now() - at) < 1
        with monkeypatch.context() as patched:
            patched.setattr(time, "time", lambda: 0.0)
            assert abs(journal.now() - at) < 5


# ---- what does not pass by itself


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"dbname": "none"}, "does not exist"),
        ({"user": "nobody"}, "does not exist"),
        ({"sslmode": "none"}, "invalid sslmode"),
        ({"service": "none"}, "not found"),
    ],
)
def test_database_that_refuses_is_told_without_a_password(wrong: dict[str, str], said: str, tmp_path: Path) -> None:
    address = server().address(tmp_path)
    parameters = dict(address.parameters) | {"password": "geheim"} | wrong
    wrong_address = DatabaseAddress(tuple(parameters.items()), address.schema)
    for opener in (opened, PostgresReader):
        with pytest.raises(UsageError, match=said) as error:
            opener(wrong_address)
        assert "geheim" not in f"{error.value} {error.value!r} {error.value.__cause__!r}"


def test_password_is_read_where_libpq_reads_it(own: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = Path(own.made.pgdata) / "pg_hba.conf"
    rules.write_text("local all guarded scram-sha-256\n" + rules.read_text())
    with own.connect() as beside:
        beside.execute("CREATE ROLE guarded LOGIN SUPERUSER PASSWORD 'geheim'")
        beside.execute("SELECT pg_reload_conf()")
    address = own.address(tmp_path)
    parameters = dict(address.parameters) | {"user": "guarded"}
    parameters.pop("password", None)
    guarded = DatabaseAddress(tuple(parameters.items()), address.schema)
    wrong = DatabaseAddress((*guarded.parameters, ("password", "wrong-geheim")), address.schema)
    with pytest.raises(UsageError, match="no password"):
        opened(guarded)
    with pytest.raises(UsageError, match="password authentication failed") as error:
        opened(wrong)
    assert "geheim" not in str(error.value)
    file = tmp_path / "pgpass"
    file.write_text("*:*:*:guarded:geheim\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    opened(guarded).close()


def test_database_that_cannot_be_reached_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "OPEN_S", 0.3)
    with pytest.raises(Stop, match="database is away") as stop:
        opened(DatabaseAddress.parse("postgresql://u:geheim@127.0.0.1:1/db?schema=s"))
    assert "geheim" not in str(stop.value)
    assert stop.value.reason is Reason.UNAVAILABLE


async def test_run_without_rights_is_told_so(tmp_path: Path) -> None:
    address = server().address(tmp_path)
    opened(address).close()
    with server().connect() as beside, suppress(psycopg.errors.DuplicateObject):
        beside.execute("CREATE ROLE looker LOGIN")
    looker = DatabaseAddress(tuple((dict(address.parameters) | {"user": "looker"}).items()), address.schema)
    for opener in (opened, PostgresReader):
        with pytest.raises(UsageError, match="permission denied"):
            opener(looker)
    elsewhere = DatabaseAddress(looker.parameters, f"{address.schema}_new")
    with pytest.raises(UsageError, match="permission denied"):
        opened(elsewhere)


async def test_record_that_is_none_ends_the_run_and_leaves_nobody_waiting(tmp_path: Path) -> None:
    with closing(opened(server().address(tmp_path))) as journal:
        await journal.claim(["f", "nobody"])
        journal.post(PutTimes("f", FlowTimes(1.0)))
        for bad in (PutFlow(FlowFacts("f", inputs=1 << 70)), PutInput("nobody", InputFacts(b"k"))):
            with pytest.raises(JournalError, match="cannot be written"):
                await journal.record(bad)
