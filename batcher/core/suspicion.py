"""Whom a 403 or a 402 means: one thing alone, or the key and the account. No clock; times are passed in, in seconds.

In: each request that was done, and each that was refused so. Out: a `Meaning`. Called by `ask`, which looks where that is
said: at something harmless that every key may see. One image that a moderation refuses must not stop a batch, and a key
that was revoked must stop it within a few requests, whatever is sent beside.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from .retry import Call

LOOK: Final = Call.TEMPLATES  # the same for every key, and small
PAID: Final = (Call.CREATE, Call.UPLOAD, Call.START)
# Calls about one thing each, so that the number of refusals is that of things. Deletes are not among them: a key that may
# not delete can still do all that a batch is for.
COUNTED: Final = (*PAID, Call.FLOW, Call.INPUTS, Call.INPUT, Call.OUTPUTS, Call.OUTPUT)
NEVER_DONE: Final = 5  # different things refused, with none done before: no key for this call
SINCE_DONE: Final = {402: 5, 403: 20}  # the same with some done before; of images, half may be refused by a moderation
AT_END: Final = {402: 1, 403: 3}  # where a run could do nothing of the kind at all


class Meaning(Enum):
    ITS_OWN = "its own"  # this is refused, and nothing else
    LOOK = "look"  # a harmless look tells
    EVERYTHING = "everything"  # the key is refused, or the credit exhausted


class Suspicion:
    """What is known of one run's key and account."""

    def __init__(self) -> None:
        self._done: set[Call] = set()
        self._done_at = -1.0  # when anything was done last
        self._row: dict[Call, int] = {}  # different things refused since the call was done last
        self._refused: dict[Call, dict[int, int]] = {}  # in all, by status
        self._look_refused = False

    def done(self, call: Call, now: float) -> None:
        """A request was done."""
        self._done_at = now
        if call not in self._done or self._row:
            self._done.add(call)
            self._row.pop(call, None)

    def refused(self, call: Call, status: int, entered: float) -> Meaning:
        """One more thing was refused with 402 or 403; its request was let go at `entered`."""
        row = self._row[call] = self._row.get(call, 0) + 1
        by_status = self._refused.setdefault(call, {})
        by_status[status] = by_status.get(status, 0) + 1
        if call in COUNTED and row >= (SINCE_DONE.get(status, NEVER_DONE) if call in self._done else NEVER_DONE):
            return Meaning.EVERYTHING
        if call is LOOK:
            self._look_refused = True
            return Meaning.ITS_OWN if self._done or row == 1 else Meaning.EVERYTHING
        if self._look_refused and not self._done:
            return Meaning.EVERYTHING  # the look was refused before, and this is the second thing
        if self._done_at >= entered or (self._look_refused and LOOK not in self._done):
            return Meaning.ITS_OWN  # the key was served meanwhile; or it is served, but not with looks
        return Meaning.LOOK

    def at_end(self) -> int | None:
        """The status with which one kind of call was refused again and again, and never done, in a run that has come to
        its end; None: there is no such kind."""
        for call in PAID:
            for status, count in self._refused.get(call, {}).items() if call not in self._done else ():
                if count >= AT_END.get(status, NEVER_DONE):
                    return status
        return None
