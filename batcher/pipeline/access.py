"""Whether the key may do what a run asks for: what is known of it, and what a refusal of it ends.

In: each request that was done, and each verdict that may mean the key or the account. Out: whether the run may go on, or the
`Stop` that it ends with. Made once for each operation; called by `requests`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from ..core.denials import ACCESS_CHECK, Denials, DenialScope
from ..core.errors import Reason, Stop
from ..core.retry import Call, Kind, Verdict
from .key_rotation import KeyRotation
from .ports import Clock

_LASTING: Final = frozenset({Call.CREATE, Call.UPLOAD, Call.START, Call.DELETE, Call.OUTPUT})  # what a run leaves behind


class Access:
    def __init__(self, key: KeyRotation, clock: Clock) -> None:
        self._key = key
        self._clock = clock
        self._denials = Denials()
        self._check_lock = asyncio.Lock()  # held while the access check is under way
        self._checked_at = -1.0
        self._check_denied = False
        self._lasting = False  # something was, or may have been, done that stays
        self.reached = False  # something was done: there is a service

    @property
    def generation(self) -> int:
        """Of the key that is sent now."""
        return self._key.generation

    def lock(self, call: Call) -> asyncio.Lock | None:
        """What a request has to wait for: none goes with a key that is being replaced, and none but the access check while
        it is not known whether the key is any good."""
        if self._key.lock.locked():
            return self._key.lock
        return self._check_lock if self._check_lock.locked() and call is not ACCESS_CHECK else None

    def note(self, call: Call, kind: Kind, entered: float) -> None:
        """What a request with this verdict, let go at `entered`, says of the key and the run."""
        if kind is Kind.DONE:
            self.reached = True
            self._key.request_done()
            self._denials.done(call, entered)
        if call in _LASTING and (kind is Kind.DONE or kind is Kind.UNKNOWN):
            self._lasting = True

    async def key_replaced(self, generation: int, status: int | None) -> bool:
        """Whether there is another key than that one, which was refused with 401; waits for it."""
        return await self._key.replaced(generation, status, reached=self.reached)

    async def is_item(
        self, call: Call, status: int, entered: float, now: float, check: Callable[[], Awaitable[object]]
    ) -> bool:
        """Whether a request that was let go at `entered`, and denied with 402 or 403 at `now`, means one thing alone, rather
        than the key or the account. `check` sends the access check."""
        scope = self._denials.denied(call, status, entered)
        return scope is DenialScope.ITEM or (scope is DenialScope.UNCLEAR and await self._is_served(now, check))

    async def _is_served(self, since: float, check: Callable[[], Awaitable[object]]) -> bool:
        """Whether the key is served with the most harmless request there is; one for all who ask at the same time."""
        async with self._check_lock:
            if self._checked_at < since:
                self._checked_at = self._clock.steady()
                found = await check()
                self._check_denied = isinstance(found, Verdict) and found.status in (402, 403)
            return not self._check_denied

    def stop_of(self, verdict: Verdict) -> Stop:
        """Why a run ends with a verdict that holds for every request."""
        return stop_of(verdict, has_key=self._key.has_key, lasting=self._lasting)

    def stop_at_end(self) -> Stop | None:
        """At the end of a run: every request of one kind was denied, so that it was the key or the account after all; None
        where
        that is not so."""
        status = self._denials.at_end()
        return None if status is None else self.stop_of(Verdict(Kind.DENIED, f"{status} for all that was tried", status))


def stop_of(verdict: Verdict, *, has_key: bool, lasting: bool) -> Stop:
    """Why a run ends with a verdict that holds for every request. `lasting`: it has done something that stays."""
    status, words = verdict.status, verdict.message
    if verdict.kind is Kind.NO_WAY:
        return Stop(Reason.FATAL if lasting else Reason.USAGE, words, verdict.hint, status)
    if status == 402:
        return Stop(Reason.FATAL, f"the credit is exhausted: {words}", "top it up, then run again", status)
    if status == 429:
        hint = "raise it, or wait until it is renewed, then run again"
        return Stop(Reason.FATAL, f"the quota is exhausted: {words}", hint, status)
    if not has_key:
        hint = "set GENERIO_API_KEY, or GENERIO_API_KEY_FILE"
        return Stop(Reason.FATAL, f"the service wants a key: {words}", hint, status)
    hint = "check GENERIO_API_KEY (keys expire), then run again"
    return Stop(Reason.FATAL, f"the service refuses the key: {words}", hint, status)
