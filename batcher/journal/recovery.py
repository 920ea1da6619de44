"""What is settled when a journal is opened, before anything else: that nothing is missing, and what a dead run left open.

In: the writer's connection, the sent marks, the journal's time. Out: rows in which nothing is under way, durable. Called by
`sqlite.py` while it opens; `as_it_left` also by readers, which tell what the next run will find.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Set
from dataclasses import replace
from typing import Final

from ..core.facts import WATCH_S, FlowFacts
from ..core.lifecycle import FlowState
from ..core.tags import flow_key
from ..host.failpoint import failpoint
from .clock import JournalClock
from .queries import SQL
from .rows import damaged, flow_facts, flow_row
from .sent_marks import SentMarks

# Of what was announced, and never left: the state before.
_BEFORE: Final = {FlowState.CREATING: FlowState.PLANNED, FlowState.STARTING: FlowState.OPEN}


def check(connection: sqlite3.Connection, commits: int, marks: SentMarks, *, fresh: bool) -> None:
    """That what was paid for can be found: the flows' table and its index agree, and of the commits none has been lost (a
    log that was damaged reads as a shorter one). `fresh`: there was no journal before. Raises JournalError."""
    found = connection.execute("PRAGMA integrity_check(flows)").fetchone()[0]
    if found != "ok":
        raise damaged(str(found))
    if marks.commits > commits and not fresh:
        raise damaged(f"{marks.commits - commits} of its last commits are missing")


def recover(connection: sqlite3.Connection, batch: str, marks: SentMarks, clock: JournalClock, settle_s: float) -> None:
    """What was announced and never left is as if never announced; the rest is unknown from now on (the request may have
    left at any time up to the death of its process). Durable before anything else, so that the settling time is not started
    again by the next kill. Only a start of the machine begins it anew, for then no clock can be trusted; and none may lie
    further ahead than the settling time: there a clock has jumped."""
    deadline = clock.opened_at + settle_s
    unsettled = [flow_facts(row) for row in connection.execute(SQL["unsettled_flows"])]
    sending = connection.execute(SQL["sending_inputs"]).fetchall()
    connection.execute("BEGIN IMMEDIATE")
    for flow, key in sending:
        failpoint("in recovery")
        if marks.left is not None and key not in marks.left:
            connection.execute(SQL["input_never_left"], (flow, key))
        else:
            connection.execute(SQL["input_may_have_left"], (deadline, flow, key))
    connection.execute(SQL["bound_input_deadlines"], (deadline, deadline, clock.new_boot))
    for facts in unsettled:
        facts = as_it_left(facts, batch, marks.left)
        if facts.state is FlowState.CREATING and facts.settle_deadline is None:
            connection.execute(SQL["put_watch"], (deadline + WATCH_S,))
        connection.execute(SQL["put_flow"], flow_row(_bounded(facts, deadline, anew=clock.new_boot)))
    watch_until = clock.opened_at + WATCH_S
    connection.execute(SQL["bound_watch"], (watch_until, watch_until))
    connection.execute("COMMIT")
    failpoint("in recovery")
    marks.begin()


def as_it_left(facts: FlowFacts, batch: str, left: Set[bytes] | None) -> FlowFacts:
    """The row without a create or a start that was announced and surely never left; `left`: the sent marks (None: nothing is
    known)."""
    before = _BEFORE.get(facts.state) if facts.settle_deadline is None else None
    if before is None or left is None or flow_key(batch, facts.name) in left:
        return facts
    return replace(facts, state=before)


def _bounded(facts: FlowFacts, deadline: float, *, anew: bool) -> FlowFacts:
    """The row with no time later than the deadline, and with one for whatever is under way; `anew`: each of them is it."""

    def bounded(at: float | None) -> float:
        return deadline if at is None or at > deadline or anew else at

    settles = facts.state in (FlowState.CREATING, FlowState.STARTING) or facts.settle_deadline is not None
    return replace(
        facts,
        settle_deadline=bounded(facts.settle_deadline) if settles else None,
        start_after=None if facts.start_after is None else bounded(facts.start_after),
    )
