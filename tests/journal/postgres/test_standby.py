"""A hot standby among the servers of an address: it may lag behind, and takes no writes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from batcher.cli.redo import wanted
from batcher.core.crew import Done, Heartbeat
from batcher.core.errors import Reason, Stop
from batcher.core.facts import FlowFacts, PutFlow
from batcher.core.lifecycle import FlowState
from batcher.journal.open import at_primary, open_journal, read_journal
from batcher.journal.postgres import line
from batcher.journal.postgres.address import DatabaseAddress
from batcher.journal.postgres.journal import PostgresJournal
from batcher.journal.postgres.reader import PostgresReader
from tests.postgres import Server, own_server

from ..test_open import manifest_of

pytestmark = pytest.mark.anyio


@dataclass
class Pair:
    primary: Server
    standby: Server

    def both(self, *words: str) -> str:
        """A URL with the standby first."""
        return "&".join([self.standby.before(self.primary), *words])

    @contextmanager
    def lagging(self) -> Iterator[None]:
        self.standby.stand_still(self.primary)
        try:
            yield
        finally:
            with self.standby.connect() as beside:
                beside.execute("SELECT pg_wal_replay_resume()")


@pytest.fixture(scope="module")
def pair() -> Pair:
    primary = own_server()
    return Pair(primary, primary.standby())


def journal_at(url: str, run: str = "a", exclusive: bool = False) -> PostgresJournal:
    return PostgresJournal(DatabaseAddress.parse(f"{url}&schema=s"), "b", 15, run=run, exclusive=exclusive)


@pytest.mark.parametrize(
    "preferred", ["", "target_session_attrs=any", "target_session_attrs=prefer-standby", "PGTARGETSESSIONATTRS"]
)
async def test_held_journal_reads_where_it_writes(pair: Pair, preferred: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a flow that is started is taken for one that is not, and paid again. Whatever the address says of it."""
    words = [preferred] if "=" in preferred else []
    if preferred == "PGTARGETSESSIONATTRS":
        monkeypatch.setenv(preferred, "prefer-standby")
    journal_at(pair.primary.url).close()
    started = FlowFacts("f", FlowState.STARTED, os.urandom(4).hex())
    with pair.lagging(), closing(journal_at(pair.both(*words))) as journal:
        await journal.claim(["f"])
        await journal.record(PutFlow(started))
        assert journal.flow("f") == started
        journal._line._drop()  # it is made again
        assert await journal.look(lambda view: view.flow("f")) == started
        assert await journal.take_turn("turn")
        with pair.primary.connect() as beside:
            assert beside.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchall() == [(2,)]
        await journal.give_turn("turn")


async def test_runs_find_one_another_at_the_primary(pair: Pair) -> None:
    pytest.importorskip("pgqueuer", reason="the extra `hosts` is not installed")
    from batcher.journal.postgres.crew import PostgresCrew

    address = DatabaseAddress.parse(pair.both("target_session_attrs=any", "schema=s"))
    with closing(journal_at(pair.primary.url)):
        crew = PostgresCrew(address, "a", "here", lease_s=30, most=4, held=4, starts=None)
        try:
            await asyncio.wait_for(crew.join("digest"), 10)
            assert len((await crew.beat(Heartbeat(0, Done(), None))).members) == 1
        finally:
            await crew.leave()
            await crew.close()


async def test_server_that_takes_no_writes_any_more_is_waited_for(pair: Pair) -> None:
    """As one that has become a standby, seen through connections that are still there."""
    pytest.importorskip("pgqueuer", reason="the extra `hosts` is not installed")
    from batcher.journal.postgres.crew import PostgresCrew

    def set_to(value: str) -> None:
        with pair.primary.connect() as beside:
            beside.execute("SET default_transaction_read_only = off")
            beside.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")  # type: ignore[arg-type]  # a word of ours
            beside.execute("SELECT pg_reload_conf()")

    address = DatabaseAddress.parse(f"{pair.primary.url}&schema=s")
    with closing(journal_at(pair.primary.url)) as journal:
        crew = PostgresCrew(address, "a", "here", lease_s=30, most=4, held=4, starts=None)
        await crew.join("digest")
        await journal.claim(["f"])
        written = FlowFacts("f", inputs=7)
        set_to("on")
        await asyncio.sleep(0.3)
        waiting = [asyncio.ensure_future(crew.beat(Heartbeat(0, Done(), None))),
                   asyncio.ensure_future(journal.record(PutFlow(written)))]  # fmt: skip
        try:
            await asyncio.sleep(0.7)
            assert not any(one.done() for one in waiting)
        finally:
            set_to("off")
            ended = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 20)
            await crew.leave()
            await crew.close()
        assert not any(isinstance(one, BaseException) for one in ended), ended
        assert journal.flow("f") == written


async def test_standby_alone_is_looked_at_and_no_journal_is_held_there(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(journal_at(pair.primary.url)) as journal:
        await journal.claim(["f"])
        await journal.record(PutFlow(FlowFacts("f", inputs=3)))
    monkeypatch.setattr(line, "OPEN_S", 0.5)
    with pair.lagging():
        with closing(PostgresReader(DatabaseAddress.parse(f"{pair.standby.url}&schema=s"))) as reader:
            assert reader.flow("f") == FlowFacts("f", inputs=3)
            assert reader.held is False
        with pytest.raises(Stop, match="read-only") as stop:
            journal_at(pair.standby.url)
        assert stop.value.reason is Reason.UNAVAILABLE


async def test_list_of_flows_is_compared_with_what_the_primary_knows(pair: Pair, tmp_path: Path) -> None:
    """An attempt that was made again since would be paid for a third time."""
    manifest = manifest_of(tmp_path)
    primary, state = (DatabaseAddress.parse(url) for url in (pair.primary.url, pair.both()))
    with closing(open_journal(manifest, primary)) as journal:
        await journal.record(PutFlow(FlowFacts("f", FlowState.STARTED, "first")))
        with pair.lagging():
            await journal.record(PutFlow(FlowFacts("f", FlowState.STARTED, "second")))
            (tmp_path / "list").write_text("f\tfirst\n")
            assert wanted(manifest, state, str(tmp_path / "list"))[0] == {}
            for asked, found in ((state, "first"), (at_primary(state), "second")):
                reader = read_journal(manifest, asked)
                assert reader is not None
                with closing(reader):
                    facts = reader.flow("f")
                    assert facts is not None
                    assert facts.flow_id == found
