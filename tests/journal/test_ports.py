"""Every engine has all of the port, called as the port says."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from batcher.journal.memory import MemoryJournal
from batcher.journal.ports import Journal, JournalView
from batcher.journal.postgres.journal import PostgresJournal
from batcher.journal.postgres.reader import PostgresReader
from batcher.journal.reader import JournalReader
from batcher.journal.sqlite import SqliteJournal


def asked(port: type) -> dict[str, Any]:
    """What the port asks for, by name."""
    found: dict[str, Any] = {}
    for one in port.__mro__:
        found |= {name: value for name, value in vars(one).items() if one.__module__ == port.__module__ and name[0] != "_"}
    return found


@pytest.mark.parametrize(
    ("engine", "port"),
    [
        (SqliteJournal, Journal),
        (MemoryJournal, Journal),
        (PostgresJournal, Journal),
        (JournalReader, JournalView),
        (PostgresReader, JournalView),
    ],
)
def test_an_engine_has_all_of_the_port(engine: type, port: type) -> None:
    assert len(asked(port)) > 25
    for name, meant in asked(port).items():
        if isinstance(meant, property):
            assert isinstance(getattr(engine, name, None), property) or name in inspect.getsource(engine.__init__), name
            continue
        assert inspect.signature(getattr(engine, name)) == inspect.signature(meant), name
        assert inspect.iscoroutinefunction(getattr(engine, name)) == inspect.iscoroutinefunction(meant), name


def test_a_reader_cannot_write() -> None:
    assert not {"record", "post", "mark_sent", "now"} & set(dir(JournalReader))
