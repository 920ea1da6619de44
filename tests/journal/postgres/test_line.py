"""What a connection of the journal asks of its session."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from batcher.journal.postgres.line import Line, Patience
from tests.postgres import server


def test_statements_are_not_compiled(tmp_path: Path) -> None:
    """Where a server can, it compiles what it takes for expensive; the shortest statements of the writer are among that."""
    with closing(Line(server().address(tmp_path), Patience(1.0))) as line:
        assert line.do(lambda connection: connection.execute("SHOW jit").fetchall()) == [("off",)]
