"""Whom a 403 or a 402 means: one thing alone, or the key and the account. No clock; times are passed in, in seconds.

In: each request that was done, and each that was denied so. Out: a `DenialScope`. Called by `pipeline.requests`, which sends a
harmless request where that is to tell: one that every key may send. One image that a moderation refuses must not stop a
batch, and a key that was revoked must stop it within a few requests, whatever is sent beside.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from .retry import Call

ACCESS_CHECK: Final = Call.TEMPLATES  # the same for every key, and small
PAID: Final = (Call.CREATE, Call.UPLOAD, Call.START)
# Calls about one thing each, so that the number of denials is that of things. Deletes are not among them: a key that may
# not delete can still do all that a batch is for.
COUNTED: Final = (*PAID, Call.FLOW, Call.INPUTS, Call.INPUT, Call.OUTPUTS, Call.OUTPUT)
NEVER_DONE: Final = 5  # different things denied, with none done before: no key for this call
SINCE_DONE: Final = {402: 5, 403: 20}  # the same with some done before; of images, half may be refused by a moderation
AT_END: Final = {402: 1, 403: 3}  # where a run could do nothing of the kind at all


class DenialScope(Enum):
    """Of a denial."""

    ITEM = "item"  # this is denied, and nothing else
    UNCLEAR = "unclear"  # the access check tells
    ACCOUNT = "account"  # the key is refused, or the credit exhausted


class Denials:
    """What is known of one run's key and account."""

    def __init__(self) -> None:
        self._done: set[Call] = set()
        self._served_from = -1.0  # when the latest request that was done was let go
        self._row: dict[Call, int] = {}  # different things denied since the call was done last
        self._denied: dict[Call, dict[int, int]] = {}  # in all, by status
        self._check_denied = False

    def done(self, call: Call, entered: float) -> None:
        """A request was done that was let go at `entered`."""
        self._served_from = max(self._served_from, entered)
        if call not in self._done or self._row:
            self._done.add(call)
            self._row.pop(call, None)

    def denied(self, call: Call, status: int, entered: float) -> DenialScope:
        """One more thing was denied with 402 or 403; its request was let go at `entered`."""
        row = self._row[call] = self._row.get(call, 0) + 1
        by_status = self._denied.setdefault(call, {})
        by_status[status] = by_status.get(status, 0) + 1
        if call in COUNTED and row >= (SINCE_DONE.get(status, NEVER_DONE) if call in self._done else NEVER_DONE):
            return DenialScope.ACCOUNT
        if call is ACCESS_CHECK:
            self._check_denied = True
            return DenialScope.ITEM if self._done or row == 1 else DenialScope.ACCOUNT
        if self._check_denied and not self._done:
            return DenialScope.ACCOUNT  # the check was denied before, and this is the second thing
        if self._served_from > entered or (self._check_denied and ACCESS_CHECK not in self._done):
            return DenialScope.ITEM  # the key was served later; or it is served, but not with access checks
        return DenialScope.UNCLEAR

    def at_end(self) -> int | None:
        """The status with which one kind of call was denied again and again, and never done, in a run that has come to
        its end; None: there is no such kind."""
        for call in PAID:
            for status, count in self._denied.get(call, {}).items() if call not in self._done else ():
                if count >= AT_END.get(status, NEVER_DONE):
                    return status
        return None
