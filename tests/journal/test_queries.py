"""The statements have names, and each is used; SQLite takes them all."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import batcher.journal
from batcher.journal.postgres.crew_statements import SQL as CREW
from batcher.journal.postgres.statements import SQL as POSTGRES
from batcher.journal.queries import SQL, VALUES_MAX, of_many, of_rows, parse, parts
from batcher.journal.schema import migrate

ROOM = Path(batcher.journal.__file__).parent


def test_every_statement_fits_the_schema() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, 0)
        for name in SQL:
            statement = of_many(name, 3)
            marks = statement.count("?")
            connection.execute(f"EXPLAIN {statement}", (None,) * marks).fetchall()


def test_every_statement_is_used_and_none_is_missing() -> None:
    text = "".join(path.read_text("utf-8") for path in ROOM.glob("*.py"))
    used = set(re.findall(r'(?:SQL\[|of_many\(|of_rows\(|_ask\(|_ask_each\()"(\w+)"', text))
    assert used == set(SQL)


def test_every_statement_for_postgres_is_used_and_none_is_missing() -> None:
    text = "".join(path.read_text("utf-8") for path in [ROOM / "row_reader.py", *(ROOM / "postgres").glob("*.py")])
    named = re.findall(r'"(\w+)"', text)
    assert set(POSTGRES) <= set(named)
    used = re.findall(r'(?:SQL\[|ask\(connection, |_ask\(|_ask_each\(|_put\()"(\w+)"', text)
    assert set(used) <= set(POSTGRES)
    assert set(CREW) <= set(named)
    assert set(re.findall(r'(?:execute|rows?)\(connection, "(\w+)"', text)) <= set(CREW)


def test_sql_stands_in_its_files_only() -> None:
    for path in Path(batcher.__file__).parent.rglob("*.py"):
        if "sandbox" not in path.parts:  # which has a store of its own
            assert not re.search(r'"(SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER) ', path.read_text("utf-8")), path


def test_no_other_place_names_an_engine() -> None:
    for path in Path(batcher.__file__).parent.rglob("*.py"):
        if not path.is_relative_to(ROOM):
            assert not re.search(r"SqliteJournal|JournalReader|PostgresJournal|PostgresReader", path.read_text("utf-8")), path


def test_lists_and_rows_have_as_many_marks_as_values() -> None:
    assert of_many("ends", 3).endswith("WHERE flow_id IN (?,?,?)")
    assert of_rows("put_orphan", 2).endswith("VALUES (?, ?),(?, ?)")
    assert [len(part) for part in parts(range(2 * VALUES_MAX + 1))] == [VALUES_MAX, VALUES_MAX, 1]
    assert list(parts([])) == []


@pytest.mark.parametrize("text", ["SELECT 1", "SELECT 1; SELECT 2;", "SELECT 1;\n\n-- name: a\nSELECT 2;"])
def test_file_with_more_or_less_than_statements_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="as one statement"):
        parse(f"\n-- name: a\n{text}\n")
