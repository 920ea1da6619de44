"""Statements that are sent together keep their plans, whatever else happens on their connection."""

from __future__ import annotations

from batcher.journal.postgres.statements import Connection, ask, together
from tests.postgres import journal_at

LEAD = "share_lead", ()


def test_plans_outlive_a_rollback_among_statements_that_are_asked_often() -> None:
    journal = journal_at("plans")

    def begin_and_leave(connection: Connection) -> None:
        for _ in range(10):
            ask(connection, "claimed")
        together(connection, ("begin", ()), LEAD)  # what is left open is rolled back

    line = journal._writing_line
    line.do(begin_and_leave)
    line.do(begin_and_leave)
    (_, lead, _) = line.do(lambda connection: together(connection, ("begin", ()), LEAD, ("commit", ())))
    assert lead
    journal.close()
