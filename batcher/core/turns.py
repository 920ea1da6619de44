"""Whose request leaves next: what finishes first. No clock; the time is passed in, in seconds.

In: requests that wait, each of one kind. Out: the next one. Called by the limiter.

A start ends a flow, so it goes first; then whatever is asked about flows that are under way; then what fills them; a new one is
created only when nothing else could use the place. So few flows are open at a time, and the first is started as soon as it can
be. Among requests of one rank the first come goes first. A rank that was passed over `PASSED` times and for `PATIENCE_S` gets a
turn all the same: flows that are looked at again and again, while the service processes them, hold up nothing for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final, Generic, TypeVar

from .retry import Call

T = TypeVar("T")

PASSED: Final = 16
PATIENCE_S: Final = 2.0
RANKS: Final = 4
_RANK: Final[Mapping[Call, int]] = {Call.START: 0, Call.UPLOAD: 2, Call.OUTPUT: 2, Call.CREATE: 3}
_OTHER: Final = 1  # looks, mostly; deletions and aborts, too


class _Rank(Generic[T]):
    __slots__ = ("passed", "since", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[T] = deque()
        self.passed = 0  # turns of others since it had one, or began to wait
        self.since = 0.0


class Turns(Generic[T]):
    """Those that wait, in the order in which they are to go."""

    def __init__(self) -> None:
        self._ranks: list[_Rank[T]] = [_Rank() for _ in range(RANKS)]
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, call: Call, one: T, now: float) -> None:
        """It waits from now on."""
        rank = self._ranks[_RANK.get(call, _OTHER)]
        if not rank.waiting:
            rank.passed, rank.since = 0, now
        rank.waiting.append(one)
        self._count += 1

    def take(self, now: float, *, probe: bool = False) -> T:
        """The next one; it waits no longer. `probe`: whether the service answers at all is not known, so that neither a start
        nor an upload nor a create goes first. Raises IndexError where none waits."""
        chosen = self._ranks[_OTHER] if probe and self._ranks[_OTHER].waiting else self._next(now)
        for rank in self._ranks:
            rank.passed += 1
        chosen.passed, chosen.since = 0, now
        self._count -= 1
        return chosen.waiting.popleft()

    def _next(self, now: float) -> _Rank[T]:
        waiting = [rank for rank in self._ranks if rank.waiting]
        overdue = (rank for rank in waiting if rank.passed >= PASSED and now - rank.since >= PATIENCE_S)
        return next(overdue, waiting[0])

    def take_all(self) -> Iterator[T]:
        """All of them; none waits any longer."""
        for rank in self._ranks:
            yield from rank.waiting
            rank.waiting.clear()
        self._count = 0
