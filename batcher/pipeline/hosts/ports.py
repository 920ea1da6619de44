"""What is asked of the crew, and of a journal that many hosts write, as Protocols."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ...core.crew import Done, Heard, Heartbeat, Job, Totals
from ...core.errors import Stop
from ...journal.ports import Journal


def held_at_once(concurrency: int) -> int:
    """Flows that one run holds at most: enough to keep every request busy, and few, so that the last ones are shared out."""
    return max(16, 4 * concurrency)


class Crew(Protocol):
    """The runs that work on one batch at the same time. Everything may raise Stop where the database stays away, and, but for
    `join`, ClaimLost where this run is none of them any more."""

    lease_s: float
    leads: bool  # it plans, and sweeps
    may_redo: bool  # what --redo names: not where others have begun anew while this run was away

    @property
    def bounded(self) -> bool:
        """Whether not more than so many flows may be started in one session."""

    def halt(self) -> None: ...
    async def close(self) -> None: ...

    async def join(self, digest: str) -> None:
        """Become one of them. `digest`: of the manifest. Raises UsageError where a run that is alive has another."""

    async def beat(self, told: Heartbeat) -> Heard: ...
    async def leave(self) -> None:
        """What is held is others' from now on."""

    async def try_lead(self) -> bool: ...
    async def resign(self, *, lacking: bool = False) -> None: ...
    async def put(self, jobs: Sequence[Job]) -> None:
        """Let these wait in the queue, each once. For the leader."""

    async def planned(self, totals: Totals) -> None:
        """All that is to be done waits in the queue. For the leader."""

    async def swept(self) -> None:
        """Nothing is left to do for anybody. For the leader."""

    async def take(self, count: int) -> list[Job]:
        """So many jobs at most; they are this run's until it is done with them, gives them back, or dies."""

    async def place(self) -> bool:
        """Whether one more flow may be started, which was never in the queue."""

    async def done(self, names: Sequence[str], unused: int, done: Done) -> None:
        """Nothing is left to do for these. `unused`: of them, those that no start was announced of. `done`: by this run so
        far."""

    async def give_back(self, names: Sequence[str], after_s: float = 0.0) -> None: ...
    async def lacks(self, name: str) -> bool:
        """This run lacks sources of the flow: whether every other run does, too."""

    async def left(self) -> tuple[bool, bool]:
        """Whether flows wait, and whether some are worked on by anybody."""

    async def reserve(self, what: str, count: int, per_s: float) -> float:
        """The next `count` requests or bytes ("request", "byte"): in how many seconds the first may leave."""


class SharedJournal(Journal, Protocol):
    """A journal that many hosts write. A claim has an epoch, which every transaction checks that writes anything of its flow;
    without a claim it takes the lead, and a flow that nobody has claimed. A check that fails is ClaimLost, from then on."""

    stopping: Callable[[Stop], object]  # called where the database stays away

    async def claim(self, names: Sequence[str]) -> None:
        """These flows are this run's from now on, and nobody else's. What an earlier owner had left open is unknown now: a
        request that was announced counts as sent."""

    async def release(self, names: Sequence[str]) -> None:
        """They are nobody's, once everything that was posted before is durable."""

    async def take_lead(self) -> None: ...
    async def drop_lead(self) -> None: ...
    async def rejoin(self) -> None:
        """Forget the claims, the lead, and what was posted."""

    async def resync(self) -> None:
        """Set the journal's time by the database's again."""

    @property
    def stopped(self) -> Stop | None:
        """Why nothing is recorded any more, where the database has stayed away."""

    def halt(self) -> None:
        """A database that is away is not waited for any longer. Any thread."""
