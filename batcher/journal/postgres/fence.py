"""The fence: a run changes a flow only as long as its claim on it holds.

In: a connection, names of flows. Out: claims and the lead, each with an epoch that only grows; and for each transaction the
locks under which it is sure that nobody has taken them over. Called by the writer, in its thread.

A transaction locks what it rests on until it is committed, so that whoever takes over waits for it, and finds what it
announced. Where the lead writes a flow that nobody claims there may be no row to lock: then it locks its own, which every claim
reads first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import psycopg

from ...core.errors import ClaimLost
from ...core.facts import WATCH_S
from .folding import Folded
from .statements import SQL, Connection, Statement, ask, together
from .texts import original, stored

BEGIN: Final[Statement] = "begin", ()
COMMIT: Final[Statement] = "commit", ()
_Rows: TypeAlias = "list[tuple[Any, ...]]"
MARK_UNKNOWN: Final = "mark_flows_unknown", "mark_inputs_unknown"
SETTLE_ALL: Final = "settle_all_flows", "settle_all_inputs"


class Fence:
    """What this run holds, as of the last transaction. `now`: the journal's time."""

    def __init__(self, run: str, now: Callable[[], float], settle_s: float) -> None:
        self._run = run
        self._now = now
        self._settle_s = settle_s
        self._epochs: dict[str, int] = {}  # of the flows that are claimed
        self._lead: int | None = None

    # ---- of each transaction

    def locks(self, folded: Folded) -> tuple[list[Statement], Callable[[list[_Rows]], None]]:
        """What is asked for first, and what checks the rows that were found: it raises ClaimLost where somebody else has what
        the records need."""
        held = folded.owned & self._epochs.keys()
        others = folded.owned - held
        needs_lead = bool(others) or (folded.unknown_flows_checked and self._lead is not None)
        any_claim = folded.unknown_flows_checked and not needs_lead
        names = sorted(map(stored, self._epochs if any_claim else folded.owned))
        if (needs_lead and self._lead is None) or (any_claim and not names):
            raise ClaimLost
        asked: list[Statement] = [("lock_lead" if others else "share_lead", ())] if needs_lead else []
        asked += [("lock_claims", (names,))] if names else []
        return asked, partial(self._check, held, needs_lead, any_claim)

    def _check(self, held: set[str], needs_lead: bool, any_claim: bool, found: list[_Rows]) -> None:
        if needs_lead and found.pop(0) != [(self._lead, self._run)]:
            raise ClaimLost
        claims = {original(flow): (epoch, run) for rows in found for flow, epoch, run in rows}
        ours = {name for name, claim in claims.items() if claim == (self._epochs.get(name), self._run)}
        if any_claim:
            lost = not ours
        else:
            lost = any(run not in (None, self._run) for name, (_, run) in claims.items() if name not in held)
        if lost or not held <= ours:
            raise ClaimLost

    # ---- taking and giving back; each is a transaction of its own, and may be repeated

    def claim(self, connection: Connection, names: Sequence[str]) -> None:
        """From now on these flows are this run's; what an earlier owner left open is settled. The deadlines are counted from
        when the locks are had: an owner that was just announcing something has done so by then."""
        flows = sorted({stored(name) for name in names})
        claim = "claim", (self._run, flows)
        epochs = {original(flow): epoch for flow, epoch in together(connection, BEGIN, ("share_lead", ()), claim)[-1]}
        deadline = self._now() + self._settle_s
        watch = "watch_claimed", (deadline + WATCH_S, flows)
        together(connection, watch, *[(name, (deadline, flows)) for name in MARK_UNKNOWN], COMMIT)
        self._epochs |= epochs

    def release(self, connection: Connection, names: Sequence[str]) -> None:
        """Where a claim is still ours nobody has it from now on."""
        held = {name: self._epochs[name] for name in names if name in self._epochs}
        rows = sorted((stored(name), epoch) for name, epoch in held.items())
        connection.execute(SQL["release"], ([name for name, _ in rows], [epoch for _, epoch in rows], self._run))
        for name in held:
            del self._epochs[name]

    def take_lead(self, connection: Connection) -> None:
        self._lead = int(ask(connection, "take_lead", self._run)[0][0])

    def drop_lead(self, connection: Connection) -> None:
        connection.execute(SQL["drop_lead"], (self._lead, self._run))
        self._lead = None

    def take_all(self, connection: Connection) -> bool:
        """Lead, and settle what is open in any flow; whether that could be done: nobody may have a claim."""
        with connection.transaction() as whole:
            ((epoch,),) = ask(connection, "take_lead", self._run)
            if ask(connection, "claimed")[0][0]:
                raise psycopg.Rollback(whole)
            connection.execute(SQL["release_all_claims"])
            deadline = self._now() + self._settle_s
            connection.execute(SQL["watch_all"], (deadline + WATCH_S,))
            for name in SETTLE_ALL:
                connection.execute(SQL[name], (deadline,))
            self._lead = int(epoch)
        return self._lead is not None

    def leave(self, connection: Connection) -> None:
        """Give back whatever is this run's, also what it no longer knows of."""
        with connection.transaction():
            connection.execute(SQL["release_all"], (self._run,))
            connection.execute(SQL["drop_any_lead"], (self._run,))
        self._epochs.clear()
        self._lead = None
