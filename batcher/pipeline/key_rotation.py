"""A key that is refused with 401 may have been replaced: it is read again, for a while.

In: that the key of some generation was refused. Out: that there is another one, or that none came. Made once for each
operation; called by `requests`.
"""

from __future__ import annotations

import asyncio
from typing import Final

from .ports import Client, Clock
from .reporter import Reporter
from .shutdown import Shutdown

NEW_KEYS: Final = 10  # one after another, with nothing done by any of them; then it is no rotation
FIRST_KEY_S: Final = 2.0  # a key that was never any good in this run is mostly a wrong one
KEY_LOOK_S: Final = (0.05, 0.1, 0.25, 0.5)  # between two looks for a new key; the last again and again


class KeyRotation:
    """`wait_s`: so long another key is waited for. `lock` is held while one looks for it."""

    def __init__(self, client: Client, clock: Clock, shutdown: Shutdown, reporter: Reporter, wait_s: float) -> None:
        self._client = client
        self._clock = clock
        self._shutdown = shutdown
        self._reporter = reporter
        self._wait_s = wait_s
        self.lock = asyncio.Lock()
        self.generation = 0
        self._new_keys = 0  # since anything was done
        self._refused_at: float | None = None  # when the key was refused first, since anything was done

    @property
    def has_key(self) -> bool:
        return self._client.has_key

    def request_done(self) -> None:
        """A request was done: the key is good."""
        self._refused_at = None

    async def replaced(self, generation: int, status: int | None, *, reached: bool) -> bool:
        """Whether there is another key than the one of that generation, which was refused; waits for it. False where none
        comes within `wait_s`, or none of so many was any good. One looks; whoever is refused meanwhile waits for what it
        finds. `reached`: something was done in this run. Raises Stop."""
        async with self.lock:
            if generation != self.generation:
                return True  # it left with a key that has been replaced meanwhile
            now = self._clock.steady()
            if self._refused_at is None:
                self._refused_at, self._new_keys = now, 0
            refused_at = self._refused_at  # a request that left before may be done while this one waits
            wait_s = self._wait_s if reached else min(self._wait_s, FIRST_KEY_S)
            pauses = self._shutdown.pauses(steps_s=KEY_LOOK_S)
            while self._new_keys < NEW_KEYS:
                if self._client.read_key_again():
                    self.generation += 1
                    self._new_keys += 1
                    self._reporter.emit("key_read_again", level="warning", status=status)
                    return True
                if self._clock.steady() - refused_at >= wait_s:
                    break
                await pauses.wait()
            return False
