"""The tables: made once, whoever comes first, and refused where they are newer."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from batcher.core.errors import JournalError
from batcher.journal.postgres import schema
from batcher.journal.postgres.reader import NoJournal, PostgresReader
from batcher.journal.postgres.schema import SCHEMA
from tests.postgres import journal_at, server

OPEN = """
import sys
from batcher.journal.postgres.address import DatabaseAddress
from batcher.journal.postgres.journal import PostgresJournal
address = DatabaseAddress.parse(sys.argv[1] + "&schema=" + sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
journal = PostgresJournal(address, "b", 15, run=sys.argv[3], exclusive=False)
print(journal.owner, flush=True)
sys.stdin.readline()
journal.close()
"""


def test_hosts_that_make_it_at_once_make_one(tmp_path: Path) -> None:
    address = server().address(tmp_path)
    hosts = [
        subprocess.Popen([sys.executable, "-c", OPEN, server().url, address.schema, str(n)], text=True, stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE)
        for n in range(4)
    ]  # fmt: skip
    try:
        assert [host.stdout.readline() for host in hosts] == ["ready\n"] * 4
        for host in hosts:
            host.stdin.write("\n")
            host.stdin.flush()
        owners = {host.stdout.readline() for host in hosts}
        assert len(owners) == 1
        assert owners != {""}
        assert [host.communicate("\n", timeout=20)[0] for host in hosts] == [""] * 4
    finally:
        for host in hosts:
            host.kill()
            host.wait()
    with server().connect(address) as beside:
        assert beside.execute("SELECT version FROM schema_version").fetchall() == [(SCHEMA,)]


def test_schema_without_a_journal_is_none(tmp_path: Path) -> None:
    with pytest.raises(NoJournal, match="there is no journal"):
        PostgresReader(server().address(tmp_path))


@pytest.mark.parametrize(("version", "said"), [(SCHEMA + 1, "newer batcher"), (0, "no journal")])
def test_newer_schema_is_refused(tmp_path: Path, version: int, said: str) -> None:
    journal_at(tmp_path).close()
    with server().connect(server().address(tmp_path)) as beside:
        beside.execute("UPDATE schema_version SET version = %s", (version,))
    openers = [lambda: PostgresReader(server().address(tmp_path)), *([lambda: journal_at(tmp_path)] if version else [])]
    for opener in openers:
        with pytest.raises(JournalError, match=said):
            opener()


def test_tables_of_somebody_else_are_left_alone(tmp_path: Path) -> None:
    address = server().address(tmp_path)
    with server().connect() as beside:
        beside.execute(f'CREATE SCHEMA "{address.schema}"; CREATE TABLE "{address.schema}".flows(mine text)')
        with pytest.raises(JournalError, match="already exists"):
            journal_at(tmp_path)
        asked = "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace"
        assert beside.execute(asked, (f'"{address.schema}"',)).fetchall() == [("flows",)]


def test_migration_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(point: str) -> None:
        raise OSError(point)

    with monkeypatch.context() as patched:
        patched.setattr(schema, "failpoint", fail)
        with pytest.raises(OSError, match="in migration"):
            journal_at(tmp_path)
    with pytest.raises(NoJournal):
        PostgresReader(server().address(tmp_path))
    with closing(journal_at(tmp_path)) as journal:
        assert journal.count_flows() == 0
