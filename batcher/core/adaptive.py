"""How many requests at a time: learnt from what comes of them. No clock; the time is passed in, in seconds.

In: each request that was done, refused for want of capacity, or lost. Out: how many may be in flight. Called by the limiter.
Four ideas, the first three from where they have been proved:
- Doubling until the first trouble (TCP's slow start), then, after a cut, growth with the cube of the time since: near the
  point of the cut for seconds, far beyond it soon after (CUBIC, RFC 9438). A probe costs refusals, so they are rare.
- Latency that rises against its own long average means that the service queues (Gradient2 in Netflix's
  concurrency-limits). An average and not a minimum, so that a service of varying speed is not throttled to nothing.
- A cut that does not help is taken back: one in twenty refused at random, whatever the concurrency, is the service's
  way and no sign of load. That share is the background, and only what exceeds it counts. What is still refused after a
  cut is the best that is known of it.
- A request that was lost after a long time was cut off because too many shared the way: a gateway gives a body so many
  seconds. It comes dear, for all of it is sent again. So the first one cuts, and growth is as slow as such requests are.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

FIRST: Final = 4  # requests in flight at first
GROWTH: Final = 0.04  # requests per cubed second: one more 3 s after a cut, 24 more after 8.4 s
WINDOW_S: Final = 0.1  # judged over so long, or two round trips; and over
WINDOW: Final = 10  # requests at least
LONGEST: Final = 300  # requests in a window whose refusals may be chance or not
FORGET: Final = 0.1  # of the difference to another background, per window
TRIAL: Final = 60  # requests at least that show whether a cut has helped
LEARN: Final = 100  # requests after a cut that weigh as much as what was known of the background before
EXCESS: Final = 0.02  # refusals beyond the background that may be chance
BACKGROUND: Final = 0.04  # refusals that are put up with in any case
BACKGROUND_MOST: Final = 0.2  # a service that refuses more than this is asked to do less
SHORT: Final = 1 / 50  # weights of a new latency in the two averages, of logarithms: one slow reply is no trend
LONG: Final = 1 / 1000
SLOWER: Final = 2.0  # times its long average, and
SLOWER_S: Final = 0.02  # a latency may be more before it counts as queueing
SLOWER_CUT: Final = 0.9
LONG_S: Final = 1.0  # a request that is lost sooner is lost at random, as a refused one is refused
CHANCE: Final = 50  # requests done between two losses: one in so many is lost whatever the limit
LOST_CUT: Final = 0.5
SLOW: Final = 4.0  # growth is so many times slower than what was lost took, in seconds,
SLOW_S: Final = 16.0  # and no slower than this after a first loss,
SLOWEST_S: Final = 64.0  # nor than this after many, each before it had
REGROWN: Final = 8.0  # grown for so many times the pace: by 20 requests


class Adaptive:
    """`most`: what the limit never exceeds."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.limit = float(min(FIRST, most))
        self._cut_at: float | None = None  # None: nothing has gone wrong yet
        self._cut_to = self.limit
        self._pace_s = 1.0  # the growth's unit of time
        self._quiet = 0  # requests done since the last loss
        self._together, self._lost = self.limit, 0  # the limit before the last cut, where that was for losses, and these
        self._before: tuple[float, float, float | None, float] = self.limit, self.limit, None, 1.0  # the last cut
        self._tried = 0.0  # share of refusals that led to it; 0: it was no cut, or has helped
        self._tried_on = 0  # requests
        self._background = BACKGROUND
        self._empty: deque[float] = deque()  # until when places of refused requests stay empty
        self._latencies = 0
        self._short_s = self._long_s = WINDOW_S
        self._judge_from = self._judge_at = 0.0
        self._seen = self._refused = 0

    def allowed(self, now: float) -> int:
        """Requests in flight at most, at this moment; one at least."""
        while self._empty and self._empty[0] <= now:
            self._empty.popleft()
        return max(1, int(self.limit) - len(self._empty))

    def next_change(self) -> float | None:
        """When `allowed` will be more again by itself."""
        return self._empty[0] if self._empty else None

    def done(self, now: float, took_s: float | None, *, full: bool) -> None:
        """A request was done; `took_s` where that tells the service's speed. `full`: the limit is made use of."""
        if took_s is not None:
            self._timed(now, took_s)
        self._judge(now, refused=False)
        self._quiet += 1
        if self._cut_at is None:
            self.limit = min(self._most, self.limit + full)
        elif full:
            grown = self._cut_to + GROWTH * ((now - self._cut_at) / self._pace_s) ** 3
            self.limit = min(self._most, max(self.limit, grown))

    def refused(self, now: float, took_s: float) -> None:
        """The service had no room for a request, and said so after `took_s`. Its place stays empty for what remains of a
        round trip: a quick refusal would be followed by the next one at once, a thousand times a second."""
        if took_s < self._round_trip_s():
            self._empty.append(max(now + self._round_trip_s() - took_s, self._empty[-1] if self._empty else 0.0))
        self._judge(now, refused=True)

    def idle(self, seconds: float) -> None:
        """Nothing was in flight for so long: a time in which nothing was learnt, and nothing grows (RFC 9438, 5.8)."""
        if self._cut_at is not None:
            self._cut_at += seconds

    def lost(self, now: float, took_s: float) -> None:
        """A request got no word of an answer, or its body was cut off, after `took_s`."""
        quiet, self._quiet = self._quiet, 0
        if took_s < LONG_S or quiet > CHANCE:
            self.refused(now, took_s)
        elif self._cut_at is None or now - took_s > self._cut_at:  # sent since
            again = self._lost and self._cut_at is not None and now - self._cut_at < REGROWN * self._pace_s
            pace_s = min(SLOWEST_S, 2.0 * self._pace_s) if again else min(SLOW_S, SLOW * took_s)
            self._tried = 0.0
            together = self.limit
            self._cut(now, LOST_CUT)
            self._together, self._lost, self._pace_s = together, 1, pace_s
        elif self._lost:  # of those that were sent together: what is left over had room
            self._lost += 1
            self._cut_to = max(1.0, min(self._cut_to, self._together - self._lost))
            self.limit = min(self.limit, self._cut_to)

    def _round_trip_s(self) -> float:
        return min(1.0, self._short_s)

    def _timed(self, now: float, took_s: float) -> None:
        took_s = max(took_s, 1e-6)
        self._latencies += 1
        self._short_s *= (took_s / self._short_s) ** max(SHORT, 1 / self._latencies)
        self._long_s *= (took_s / self._long_s) ** max(LONG, 1 / self._latencies)
        slower = self._short_s > SLOWER * self._long_s + SLOWER_S
        if slower and (self._cut_at is None or now - self._cut_at > self._short_s):
            self._tried = 0.0
            self._cut(now, SLOWER_CUT)

    def _judge(self, now: float, *, refused: bool) -> None:
        if now < self._judge_from:
            return  # sent before the cut
        self._seen += 1
        self._refused += refused
        if self._seen < WINDOW or now < self._judge_at:
            return
        share = self._refused / self._seen
        excess = share - self._background
        rng = self._rng(self._seen)
        enough = LONGEST if excess > EXCESS else TRIAL if self._tried else 0
        if excess <= max(EXCESS, rng) and self._seen < enough:
            self._judge_at = now + WINDOW_S  # it may be chance: look longer
        elif excess <= max(EXCESS, rng):
            if self._tried:
                self._weigh(share)
            elif share < self._background - rng / 2.0:
                self._learn(share, FORGET, BACKGROUND_MOST)
            elif self.limit == self._most and self._background < BACKGROUND + EXCESS:
                self._learn(share, FORGET, BACKGROUND + EXCESS)
            self._tried = 0.0
            self._begin_window(now)
        elif self._tried and share > self._tried / 2 and share <= BACKGROUND_MOST:
            self._background = share  # fewer at a time, and no fewer refused: it is not our doing
            self.limit, self._cut_to, self._cut_at, self._pace_s = self._before
            self._tried = 0.0
            self._begin_window(now)
        else:
            self._tried, self._tried_on = share, self._seen
            self._cut(now, 1.0 - share)

    def _rng(self, seen: int) -> float:
        return 4.0 * math.sqrt(self._background * (1.0 - self._background) / seen)

    def _learn(self, share: float, weight: float, most: float) -> None:
        """The background is so much nearer to the share, within its bounds."""
        self._background = min(most, max(BACKGROUND, self._background + weight * (share - self._background)))

    def _weigh(self, share: float) -> None:
        """What is refused still, after a cut, is not our doing; nor was the cut needed, if that explains it."""
        self._learn(share, self._seen / (self._seen + LEARN), BACKGROUND_MOST)
        if self._tried <= self._background + max(EXCESS, self._rng(self._tried_on)):
            self.limit, self._cut_to, self._cut_at, self._pace_s = self._before

    def _cut(self, now: float, factor: float) -> None:
        self._before = self.limit, self._cut_to, self._cut_at, self._pace_s
        self._pace_s, self._lost = 1.0, 0
        self.limit = self._cut_to = max(1.0, self.limit * factor)
        self._cut_at = now
        self._judge_from = now + self._round_trip_s()
        self._begin_window(self._judge_from)

    def _begin_window(self, now: float) -> None:
        self._seen = self._refused = 0
        self._judge_at = now + max(WINDOW_S, 2.0 * self._round_trip_s())
