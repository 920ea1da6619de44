"""The limiter that every request passes: how many at a time, how fast, and when nobody may.

In: requests that want to leave, verdicts on those that did. Out: leave to go, in the order of `core.turns`. Called by the
pipeline.
- concurrency: what `core.adaptive` allows, at most `concurrency`.
- a rate: requests leave evenly, however late the loop's timers come.
- a pause that the service asked for holds everybody.
- an outage (nothing but failures): one probe at a time, with backoff; `retries` + 1 failed ones end the run.
- what is shared with other runs of the batch (`share`): how many of the requests in flight are this run's, who probes.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from typing import Final

from ..core.adaptive import Adaptive
from ..core.errors import Reason, Stop
from ..core.retry import PAUSE_CAP_S, Call, Kind, Verdict, backoff_s
from ..core.turns import Turns
from .pace import Pace

OUTAGE_AFTER: Final = 6  # failures in a row, with no success between: 5 % of 503 make that once in 64 million


class Limiter:
    """One per run. After `close` nothing leaves any more. `pace`: how many leave per second."""

    def __init__(self, concurrency: int, retries: int, pace: Pace, rng: random.Random, steady: Callable[[], float]) -> None:
        self.adaptive = Adaptive(concurrency)
        self._retries = retries
        self._pace = pace
        # What one run among several may do: requests in flight, until when (steady seconds), whether it may probe.
        self._most: float = math.inf
        self._until = math.inf
        self._may_probe = True
        self._rng = rng
        self._steady = steady
        self._waiting: Turns[asyncio.Future[None]] = Turns()
        self._timer: asyncio.TimerHandle | None = None
        self.in_flight = 0
        self._idle_since = steady()
        self._pause_until = 0.0
        self._probe_at = 0.0  # in an outage
        self._in_a_row = 0
        self._probes = 0  # failed ones, in this outage
        self._stragglers = 0  # in flight when the outage began: their failures are no probes
        self._outage = False
        self._stop: Stop | None = None

    def close(self, stop: Stop) -> None:
        """From now on every request that asks to leave gets this."""
        self._stop = self._stop or stop
        for waiter in self._waiting.take_all():
            if not waiter.done():
                waiter.set_exception(stop)

    @property
    def outage(self) -> bool:
        """Whether one request at a time asks if the service is back."""
        return self._outage

    # ---- among several runs

    @property
    def share_now(self) -> int:
        """Requests that it lets go at once, at most, as this run's share of the batch's; 0 where it has none yet."""
        return 0 if math.isinf(self._most) else int(self._most)

    def share(self, most: int, until: float, probes: bool) -> None:
        """From now on this run may have so many requests in flight, until then (steady seconds); `probes`: in an outage it is
        the one that asks whether the service is back."""
        self._most, self._until, self._may_probe = most, until, probes
        self.serve()

    @property
    def failed_probes(self) -> int | None:
        """Of this outage; None while there is none."""
        return self._probes if self._outage else None

    def heard_of_outage(self, failed_probes: int | None) -> None:
        """What another run's probes came to, in an outage that this run sees, too: None: the service is back."""
        if failed_probes is None:
            self._in_a_row = self._probes = 0
            self._outage = False
        else:
            self._probes = max(self._probes, failed_probes)
            if self._probes > self._retries:
                self._give_up("another run has asked for it, and it does not answer", None)
        self.serve()

    # ---- leaving

    def acquire_now(self) -> float | None:
        """As `enter`, where there is leave at once; None: wait with `enter`."""
        if self._stop is not None or self._waiting:
            return None
        now = self._steady()
        if not self._may_go(now):
            return None
        self._go(now)
        return now

    async def acquire(self, call: Call) -> float:
        """Wait for leave; the moment at which it was given. Raises Stop once the run is ending. Every `enter` is followed
        by one `leave`."""
        if self._stop is not None:
            raise self._stop
        now = self.acquire_now()
        if now is not None:
            return now
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(call, waiter, self._steady())
        self.serve()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.in_flight -= 1
                self.serve()
            else:
                waiter.cancel()
            raise
        return self._steady()

    def release(self, verdict: Verdict | None, entered: float, *, timed: bool = False) -> float:
        """The request is over; None: it was cancelled and says nothing. `timed`: the time since `entered` tells how quick
        the service is, which it does not where a large body or a long list was on the way. Returns the moment."""
        full = bool(self._waiting) or 2 * self.in_flight >= self.adaptive.limit
        self.in_flight -= 1
        now = self._steady()
        if not self.in_flight:
            self._idle_since = now
        if verdict is not None:
            self._learn(verdict, now, now - entered, timed, full)
        if self._waiting:
            self.serve()
        return now

    def _learn(self, verdict: Verdict, now: float, took_s: float, timed: bool, full: bool) -> None:
        if verdict.kind is Kind.DONE:  # nearly always
            self._answered(now, took_s, timed, full)
            return
        match verdict.kind:
            case Kind.THROTTLED:
                pause_s = verdict.pause_s
                if pause_s is None:
                    pause_s = backoff_s(self._in_a_row + 1, self._rng)
                if pause_s > PAUSE_CAP_S:
                    self.close(Stop(Reason.UNAVAILABLE, f"the service asks to wait {pause_s:.0f} s", "run again then"))
                self._pause_until = max(self._pause_until, now + pause_s)
                self.adaptive.refused(now, took_s)
                self._fail(verdict, now)
            case Kind.UNAVAILABLE | Kind.UNKNOWN if verdict.lost:
                self.adaptive.lost(now, took_s)
                self._fail(verdict, now)
            case Kind.UNAVAILABLE:
                self.adaptive.refused(now, took_s)
                self._fail(verdict, now)
            case Kind.UNKNOWN if not verdict.answered:
                self._fail(verdict, now)
            case Kind.UNKNOWN:
                pass  # a write that was answered with 500: no sign of life, and none of an outage
            case _:
                self._answered(now, took_s, timed, full)

    def _answered(self, now: float, took_s: float, timed: bool, full: bool) -> None:
        self._in_a_row = self._probes = 0
        self._outage = False
        self.adaptive.done(now, took_s if timed else None, full=full)

    def _fail(self, verdict: Verdict, now: float) -> None:
        if self._outage and self._stragglers:
            self._stragglers -= 1
        elif self._outage:
            self._probes += 1
            if self._probes > self._retries:
                self._give_up(verdict.message, verdict.status)
            self._probe_at = now + backoff_s(self._probes + 1, self._rng)
        else:
            self._in_a_row += 1
            if self._in_a_row >= OUTAGE_AFTER or not self.in_flight:  # the only one there was, or nothing but failures
                self._outage, self._probes, self._stragglers = True, 0, self.in_flight
                self._probe_at = now + backoff_s(0, self._rng)

    def _give_up(self, why: str, status: int | None) -> None:
        self.close(Stop(Reason.UNAVAILABLE, f"the service is unavailable: {why}",
                        "check the endpoint and the network; run again later", status))  # fmt: skip

    def _may_go(self, now: float) -> bool:
        if now < self._pause_until or now < self._pace.next_at or now >= self._until:
            return False
        if self._outage:
            return self._may_probe and now >= self._probe_at and self.in_flight < min(1, self._most)
        return self.in_flight < min(self.adaptive.allowed(now), self._most)

    def _go(self, now: float) -> None:
        if not self.in_flight:
            self._stragglers = 0  # however they ended
            self.adaptive.idle(now - self._idle_since)
        self.in_flight += 1
        self._pace.went(now)

    def serve(self) -> None:
        """Let go who may: time has passed, or more may leave."""
        if self._waiting:
            self._pace.want(len(self._waiting))
        while self._waiting and self._may_go(now := self._steady()):
            waiter = self._waiting.take(now, probe=self._outage)
            if not waiter.done():
                self._go(now)
                waiter.set_result(None)
        if self._waiting:
            self._set_timer()

    def _set_timer(self) -> None:
        """Look again when the time alone may have let somebody through; replies look by themselves."""
        now = self._steady()
        at = max(self._pause_until, self._pace.next_at, self._probe_at if self._outage else 0.0)
        if math.isinf(at) or now >= self._until or self.in_flight >= self._most or (self._outage and not self._may_probe):
            return  # no timer: `share`, a new part of a shared pace, or the next `leave` serves
        if at <= now and self.in_flight:
            change = self.adaptive.next_change()
            if change is None or self._outage:
                return
            at = change
        if self._timer is not None:
            if self._timer.when() <= self._timer_at(at, now):
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(self._timer_at(at, now), self._tick)

    @staticmethod
    def _timer_at(at: float, now: float) -> float:
        return asyncio.get_running_loop().time() + max(0.0, at - now)

    def _tick(self) -> None:
        self._timer = None
        self.serve()
