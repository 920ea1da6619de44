"""Journals of every older schema: read as they are, and brought up to date when they are opened."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from importlib import resources
from pathlib import Path

import pytest

from batcher.core.errors import JournalError
from batcher.core.facts import AttemptFacts, EndFacts, FileStat, FlowFacts, InputFacts, OutputFacts, OutputState, PutFlow
from batcher.core.lifecycle import FlowState, InputState
from batcher.core.measuring import FlowTimes
from batcher.host import failpoint
from batcher.journal.reader import JournalReader
from batcher.journal.rows import flow_row
from batcher.journal.schema import SCHEMA, migration, statements
from batcher.journal.sqlite import SqliteJournal

pytestmark = pytest.mark.anyio

KEYS = [bytes([n + 1]) * 16 for n in range(3)]
FLOWS = [
    FlowFacts("f", FlowState.STARTED, "id-1", 1, False, b"spec", b"stat", b"content", None, None, 3, 9, 5.0),
    FlowFacts("given", FlowState.OPEN, "id-2", 0, True, inputs=1),
]
INPUTS = [
    InputFacts(KEYS[0], InputState.ACCEPTED, b"s" * 32, b"spec", FileStat(3, 4, 5)),
    InputFacts(KEYS[1], InputState.REFUSED, None, b"spec", FileStat(6), False),
    InputFacts(KEYS[2], InputState.PENDING),
]
OUTPUT = OutputFacts("id-1", "a1", KEYS[0], OutputState.COLLECTED, "x.png", "f/x", "f/X.glb", b"o" * 32, FileStat(7, 8, 9))


def older(path: Path, version: int) -> None:
    """A journal as a batcher of that schema left it: made by the migrations themselves, filled with all that it knew."""
    connection = sqlite3.connect(path, isolation_level=None)
    for number in range(1, version + 1):
        for statement in migration(number):
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version={version}")
    connection.execute("PRAGMA journal_mode=WAL")
    named = version >= 7  # in the field's words
    checked = "unknown_flows_checked" if named else "strangers_checked"
    meta = {"owner": "me", checked: 1, "watch_until": 77.0} | ({} if named else {"let go id-8": 1, "let go id-9": 1})
    for name, value in meta.items():
        connection.execute("INSERT INTO meta VALUES(?, ?)", (name, value))
    for row, f in enumerate(FLOWS, 1):
        values = (row, f.name, f.state.value, f.flow_id, f.generation, f.external, f.spec_digest, f.stat_digest, f.content,
                  f.settle_deadline, f.start_after, f.inputs, f.size_bytes, f.started_at, f.problem)  # fmt: skip
        if version >= 3:  # the first with a sum, the other as if it had been written before there were any
            values += (flow_row(f)[-1] if row == 1 else None,)
        connection.execute(f"INSERT INTO flows VALUES({','.join('?' * len(values))})", values)
    if named:
        connection.execute("INSERT INTO released_flows VALUES('id-8'), ('id-9')")
    meaning, until = ("spec_digest", "settle_deadline") if named else ("meaning", "until")
    columns = f"flow, key, state, sha256, {meaning}, size, mtime_ns, inode, tagged, {until}, answered"
    for i in INPUTS:
        values = (1, i.key, i.state.value, i.sha256, i.spec_digest, i.stat.size, i.stat.mtime_ns, i.stat.inode, i.tagged,
                  i.settle_deadline, i.answered)  # fmt: skip
        connection.execute(f"INSERT INTO inputs({columns}) VALUES({','.join('?' * 11)})", values)
    connection.execute(f"INSERT INTO {'orphans' if named else 'litter'} VALUES('id-7', 'f')")
    if version >= 2:
        connection.execute("INSERT INTO flow_times VALUES(1, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)")
        connection.execute("INSERT INTO runs VALUES(1.5, 7, ?)", (json.dumps({"n": 1}),))
    if version >= 4:
        rest = ", 2, 0, 'why'" if version >= 6 else ""
        connection.execute(f"INSERT INTO ends VALUES('id-1', 'f', 'failed', 1, 'kept'{rest})")
        connection.execute(f"INSERT INTO ends VALUES('id-0', 'f', 'completed', 1, 'kept'{rest})")  # paid for again since
        o = OUTPUT
        values = (o.flow_id, o.asset_id, o.key, o.state.value, o.source, o.place, o.path, o.sha256, o.stat.size,
                  o.stat.mtime_ns, o.stat.inode, None)  # fmt: skip
        connection.execute(f"INSERT INTO outputs VALUES({','.join('?' * 12)})", values)
    connection.close()


def holds_all(journal: JournalReader | SqliteJournal, version: int) -> None:
    assert journal.owner == "me"
    assert journal.unknown_flows_checked
    assert journal.watch_until == 77.0
    assert [journal.was_released(f"id-{n}") for n in (7, 8, 9)] == [False, True, True]
    assert journal.orphans() == [("id-7", "f")]
    assert list(journal.flows()) == FLOWS
    assert journal.inputs("f", KEYS) == {row.key: row for row in INPUTS}
    assert list(journal.input_rows("f")) == INPUTS
    assert journal.tallies(["f"])["f"][InputState.ACCEPTED] == (1, 3)
    times = {"f": FlowTimes(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)} if version >= 2 else {}
    assert journal.flow_times(["f"]) == times
    assert journal.runs() == ([(1.5, {"n": 1})] if version >= 2 else [])
    end = EndFacts("id-1", "f", "failed", True)
    if version >= 6:
        end = EndFacts("id-1", "f", "failed", True, missing=2, reason="why")
    assert journal.bad_ends() == ({"id-1": end} if version >= 4 else {})
    assert journal.outputs("id-1") == ([OUTPUT] if version >= 4 else [])
    before = {"f": [AttemptFacts("f", "id-0")]} if version >= 4 else {}
    assert (journal.attempts(["f"]), journal.count_starts()) == (before, 1 + len(before))
    assert list(journal.collected()) == ([OUTPUT.stat] if version >= 4 else [])


def schema_of(path: Path) -> tuple[int, dict[str, str]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        tables = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return connection.execute("PRAGMA user_version").fetchone()[0], dict(tables.fetchall())


@pytest.mark.parametrize("version", range(1, SCHEMA))
def test_journal_of_an_older_batcher_is_read_and_stays_as_it_is(tmp_path: Path, version: int) -> None:
    path = tmp_path / "m.sqlite"
    older(path, version)
    before = path.read_bytes()
    for batch in (None, "b"):
        with closing(JournalReader(path, batch)) as reader:
            holds_all(reader, version)
    assert path.read_bytes() == before
    assert schema_of(path)[0] == version


@pytest.mark.parametrize("version", range(1, SCHEMA))
async def test_journal_of_an_older_batcher_is_brought_up_to_date_when_it_is_opened(tmp_path: Path, version: int) -> None:
    path = tmp_path / "m.sqlite"
    older(path, version)
    for _ in range(2):
        with closing(SqliteJournal(path, "b", 1e9)) as journal:
            holds_all(journal, version)
            await journal.record(PutFlow(FlowFacts("more")), PutFlow(FlowFacts("more")))
            assert journal.count_flows() == len(FLOWS) + 1
            assert journal.output_at("other") is None
            journal._writer.execute("DELETE FROM flows WHERE name='more'")
    SqliteJournal(tmp_path / "new.sqlite", "b", 15).close()
    assert schema_of(path) == schema_of(tmp_path / "new.sqlite")


async def test_log_of_an_older_batcher_that_was_killed_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    older(path, 6)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:  # as its run, which is under way
        connection.execute("INSERT INTO litter VALUES('id-6', 'f')")
        assert path.with_name("m.sqlite-wal").stat().st_size > 0
        with closing(JournalReader(path)) as reader:
            assert reader.orphans() == [("id-6", "f"), ("id-7", "f")]


class Death:
    """Fails at the so-manieth point of the migration."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, point: str) -> None:
        self.left -= point == "in migration"
        if self.left == 0 and point == "in migration":
            raise OSError("dead")


@pytest.mark.parametrize("version", range(SCHEMA))
def test_migration_that_dies_between_any_two_statements_changes_nothing(
    tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.sqlite"
    older(path, version) if version else sqlite3.connect(path).close()
    before = schema_of(path)
    steps = sum(len(migration(number)) for number in range(version + 1, SCHEMA + 1))
    for at in range(1, steps + 3):  # BEGIN, and the version, are statements, too
        monkeypatch.setattr(failpoint, "hook", Death(at))
        with pytest.raises(JournalError, match="dead"):
            SqliteJournal(path, "b", 15)
        assert schema_of(path) == before, at
    monkeypatch.setattr(failpoint, "hook", Death(steps + 3))
    with pytest.raises(JournalError, match="dead"):
        SqliteJournal(path, "b", 15)
    assert schema_of(path)[0] == SCHEMA, "COMMIT was the last"
    monkeypatch.setattr(failpoint, "hook", None)
    with closing(SqliteJournal(path, "b", 1e9)) as journal:
        assert journal.count_flows() == (len(FLOWS) if version else 0)


async def test_flow_that_an_older_batcher_took_for_collected_with_outputs_missing_is_listed_again(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    older(path, 5)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        started = "INSERT INTO flows VALUES(?, ?, 'started', ?, 1, 0, x'', x'', x'', NULL, NULL, 2, 9, 1.0, NULL, NULL)"
        for number, (state, outputs) in enumerate((("completed", 1), ("completed", 2), ("failed", 1)), 10):
            flow_id = f"id-{number}"
            connection.execute(started, (number, f"f{number}", flow_id))
            connection.execute("INSERT INTO ends VALUES(?, ?, ?, 1, 'kept')", (flow_id, f"f{number}", state))
            for asset in range(outputs):
                row = (flow_id, f"a{asset}")
                connection.execute("INSERT INTO outputs VALUES(?, ?, NULL, 'listed', '', '', '', NULL, 0, 0, 0, NULL)", row)
    with closing(SqliteJournal(path, "b", 15)) as journal:
        ends = [journal.end(f"id-{number}") for number in (10, 11, 12)]
    assert [(end.state, end.listed, end.missing) for end in ends if end is not None] == [
        ("completed", False, 0), ("completed", True, 0), ("failed", True, 0),
    ]  # fmt: skip


def test_each_file_has_the_statements_that_it_seems_to_have() -> None:
    files = sorted(resources.files("batcher.journal").joinpath("migrations").iterdir(), key=lambda file: file.name)
    assert [int(file.name[:4]) for file in files] == list(range(1, SCHEMA + 1))
    for number, file in enumerate(files, 1):
        lines = [line for line in file.read_text("utf-8").splitlines() if not line.startswith("--")]
        blocks = "\n".join(lines).strip().split("\n\n")
        found = migration(number)
        assert len(found) == len(blocks) == "\n".join(lines).count(";")
        assert all(statement.endswith(";") for statement in found)


def test_statements_are_told_apart_and_nothing_is_left_over() -> None:
    text = "-- one; two\nCREATE TABLE a(b);\n\nINSERT INTO a\n  VALUES('x;y');\nUPDATE a SET b='z';\n"
    ends = [one.splitlines()[-1].strip() for one in statements(text)]
    assert ends == ["CREATE TABLE a(b);", "VALUES('x;y');", "UPDATE a SET b='z';"]
    for text in ("CREATE TABLE a(b)", "SELECT 1;\n-- a comment without a statement\n"):
        with pytest.raises(ValueError, match="no statement"):
            statements(text)
