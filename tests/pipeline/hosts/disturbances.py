"""What befalls an owner: it is frozen or cut off from the database, and its requests are lost, late or refused.

In: a drawn plan, which says what becomes of the n-th call of a kind, whoever makes it. Out: hosts, on which owners run. Called
by all parts of the schedules.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from .frozen_loop import Loop, Owner

T = TypeVar("T")

TRIP_S = 0.002  # to the database and back


@dataclass(frozen=True)
class Disturbance:
    """Of one call. `before_s`, `after_s`: so long its owner is frozen before the call leaves, and once it was done, before its
    reply is seen. `answer`: "ok", "lost", "500", "503", "cut off"; `arrives_s`: so long it is on its way, with or without an
    answer; `done`: whether the service does one that is lost, or answered with 500. `cut_s`: the connection to the database
    is cut for so long, just when the transaction was committed; then it is made once more."""

    before_s: float = 0.0
    after_s: float = 0.0
    answer: str = "ok"
    arrives_s: float = 0.0
    done: bool = True
    cut_s: float = 0.0


CALM = Disturbance()
Plan = Mapping[tuple[str, int], Disturbance]  # kind of call, which one from 0


class Disturbances:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._counts: Counter[str] = Counter()
        self.met = 0  # of the plan

    def next(self, kind: str) -> Disturbance:
        found = self._plan.get((kind, self._counts[kind]), CALM)
        self._counts[kind] += 1
        self.met += found is not CALM
        return found


class Host:
    """The machine of one owner."""

    def __init__(self, name: str, loop: Loop, disturbances: Disturbances) -> None:
        self.name = name
        self.loop = loop
        self.owner = Owner(name)
        self.disturbances = disturbances
        self.connection = 0  # which one to the database; each holds what it has locked
        self._cut_until = -1.0

    async def freeze(self, seconds: float) -> None:
        """Now, in the middle of whatever it does."""
        if seconds > 0:
            self.owner.freeze(self.loop, seconds)
            await asyncio.sleep(0)

    def cut(self, seconds: float) -> None:
        """It keeps its way to the service."""
        self.connection += 1
        self._cut_until = max(self._cut_until, self.loop.time() + seconds)

    async def ask_database(self, kind: str, work: Callable[[], T]) -> T:
        """One transaction, which is made again where nobody knows what came of it."""
        met = self.disturbances.next(kind)
        await self._reach()
        await self.freeze(met.before_s)
        await self._reach()
        found = work()
        await self.freeze(met.after_s)
        if met.cut_s > 0:
            self.cut(met.cut_s)
            await self._reach()
            found = work()
        return found

    async def _reach(self) -> None:
        await asyncio.sleep(TRIP_S)
        while (left_s := self._cut_until - self.loop.time()) > 0:
            await asyncio.sleep(left_s + TRIP_S)
