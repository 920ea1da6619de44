"""What a reply, or its absence, means: one table, read before any retry is thought of.

In: a call and what came of it (a `Reply` or a `Fault`). Out: a `Verdict`, and how long to wait before the next attempt.
Called by the pipeline after each request. A parent class of exceptions is too coarse for this: the edge says what it
saw (`FaultKind`), and the table says what follows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from .model import JSON
from .rows import row

BACKOFF_FIRST_S: Final = 0.1  # among successes a first failure is mostly chance, and the limiter bounds the load
BACKOFF_BASE_S: Final = 0.5  # then 0.5, 1, 2, 4 … 30; full jitter as in botocore
BACKOFF_CAP_S: Final = 30.0
BUDGET: Final = 100.0  # retries of a run that may go at their own pace; a success earns half of one back
BUDGET_EARNED: Final = 0.5
PAUSE_CAP_S: Final = 900.0  # a longer pause than this is an outage: the run ends, and cron comes again
# Words of a 429 that no waiting helps against: the first whatever else it says; the second unless it says when to come again.
SPENT: Final = re.compile(r"insufficient.?(quota|funds|credit|balance)|billing|payment|out of credit", re.IGNORECASE)
_OVER: Final = "(exceed|exhaust|reached|used up)"
QUOTA: Final = re.compile(rf"quota.{{0,40}}{_OVER}|{_OVER}.{{0,40}}quota", re.IGNORECASE)
SOON: Final = re.compile(r"per (second|minute)|rate.?limit|try again|retry", re.IGNORECASE)


class Call(Enum):
    """One kind of request. Create, upload and start are not idempotent; a delete may be sent again, for ids are never
    reused. An abort may, too, but what came of a lost one is asked for: the flow may have ended by itself meanwhile."""

    TEMPLATES = "templates"
    FLOWS = "flows"
    FLOW = "flow"
    INPUTS = "inputs"
    INPUT = "input"
    OUTPUTS = "outputs"
    OUTPUT = "output"
    CREATE = "create"
    UPLOAD = "upload"
    START = "start"
    ABORT = "abort"
    DELETE = "delete"

    @property
    def writes(self) -> bool:
        """Whether a lost reply leaves it unknown what came of it, so that it is asked about before it is sent again."""
        return self in (Call.CREATE, Call.UPLOAD, Call.START, Call.ABORT)


@row(frozen=True, slots=True)
class Reply:
    """An answer that was read to its end. `body` is the JSON value; `readable` is False where it was none.

    `detail` is the service's own word, shortened and harmless to print. `retry_after_s` is in seconds from now. `not_done`:
    what a 2xx says where, by its own word, nothing was done.
    """

    status: int
    body: JSON = None
    readable: bool = True
    detail: str = ""
    retry_after_s: float | None = None
    not_done: str = ""


class FaultKind(Enum):
    NO_WAY = "no way"  # nothing was sent, nor will be: a certificate, a name or a proxy is wrong, and stays so
    NOT_CONNECTED = "not connected"  # nothing was sent
    NOT_SENT = "not sent"  # the body did not leave completely
    NO_ANSWER = "no answer"  # it left; nothing came back
    CUT_OFF = "cut off"  # an answer began and could not be read
    NO_LIST = "no list"  # where a list was asked for, something else came


@dataclass(frozen=True, slots=True)
class Fault:
    """No usable answer. `message` is for people; `status` is there where a status line had come. `hint`: what to do."""

    kind: FaultKind
    message: str
    status: int | None = None
    hint: str = ""


class Kind(Enum):
    DONE = "done"
    REFUSED = "refused"  # permanent, for this request
    CONFLICT = "conflict"  # the flow's state does not allow it: look at the state
    GONE = "gone"  # the service does not know the flow
    DENIED = "denied"  # permanent, for this request, or for the key or the account: `core.denials` tells
    FATAL = "fatal"  # permanent, for every request: the quota is spent
    KEY = "key"  # 401: the key is read again, for a while; then fatal
    NO_WAY = "no way"  # permanent, for every request: none gets to the service
    THROTTLED = "throttled"  # not done; everybody waits
    UNAVAILABLE = "unavailable"  # not done; may be sent again after a while
    UNKNOWN = "unknown"  # a write that may have been done: ask


@row(frozen=True, slots=True)
class Verdict:
    """`pause_s` is the wait that the service asked of everybody; `answered` tells the two unknowns apart: a service that
    has answered will not do it later, one that was silent may. `failed`: it said that it failed (500, 502, or in words), which
    a 2xx that cannot be read does not say: a start that was taken may show late, and be paid for twice if sent twice. `lost`:
    the connection ended, or time was up, before any word of a reply. `hint`: what to do, where that is known already."""

    kind: Kind
    message: str = ""
    status: int | None = None
    pause_s: float | None = None
    answered: bool = False
    lost: bool = False
    hint: str = ""
    no_list: bool = False  # see `FaultKind`
    failed: bool = False


# What a status means where no row below says otherwise. The rest: other 2xx done, 3xx unavailable (a maintenance page,
# a wrong endpoint), other 4xx refused, other 5xx (gateways: 520, 524, …) as 504.
STATUS: Final[dict[int, Kind]] = {
    401: Kind.KEY,
    402: Kind.DENIED,
    403: Kind.DENIED,
    404: Kind.GONE,
    408: Kind.UNAVAILABLE,  # the service did not get the whole request
    409: Kind.CONFLICT,
    425: Kind.UNAVAILABLE,
    429: Kind.THROTTLED,
    500: Kind.UNKNOWN,
    502: Kind.UNKNOWN,
    503: Kind.UNAVAILABLE,
    504: Kind.UNKNOWN,
}

BY_CALL: Final[dict[tuple[Call, int], Kind]] = {
    (Call.CREATE, 404): Kind.REFUSED,  # no flow is named: the endpoint or the template is wrong
    (Call.CREATE, 409): Kind.REFUSED,
    (Call.TEMPLATES, 404): Kind.REFUSED,
    (Call.FLOWS, 404): Kind.REFUSED,
    (Call.DELETE, 404): Kind.DONE,  # it is not there: what was wanted
}

ANSWERED: Final = frozenset({500, 502})  # the service has finished with the request; a 504 is a gateway's impatience


def is_no_api(call: Call, verdict: Verdict) -> bool:
    """Whether a first reply tells that something else than the Flows API answers at this address, which no retry changes: a
    redirect (to a login page, to https), a web page, or that there is no such path or method."""
    status = verdict.status
    if call not in (Call.TEMPLATES, Call.FLOWS) or status is None:
        return False
    return verdict.no_list or status // 100 == 3 or status == 501 or (call is Call.FLOWS and status in (404, 405, 410))


def classify(call: Call, what: Reply | Fault) -> Verdict:
    """The verdict on one attempt. A read that is "unknown" is merely unavailable: it can be asked again."""
    match what:
        case Fault(kind=FaultKind.NO_WAY):
            return Verdict(Kind.NO_WAY, what.message, what.status, hint=what.hint)
        case Fault(kind=FaultKind.NOT_CONNECTED | FaultKind.NOT_SENT):
            lost = what.kind is FaultKind.NOT_SENT and what.status is None
            return Verdict(Kind.UNAVAILABLE, what.message, what.status, lost=lost)
        case Fault(kind=FaultKind.CUT_OFF | FaultKind.NO_LIST, status=int(status)) if status >= 300 and status not in ANSWERED:
            # The status line came, and says enough; only what it would have added is lost.
            return classify(call, Reply(status, readable=False, detail=what.message))
        case Fault():
            cut = what.kind in (FaultKind.CUT_OFF, FaultKind.NO_LIST)
            verdict = Verdict(Kind.UNKNOWN, what.message, what.status, answered=cut, lost=not cut,
                              no_list=what.kind is FaultKind.NO_LIST, failed=cut and what.status in ANSWERED)  # fmt: skip
        case Reply():
            verdict = _of_reply(call, what)
    if verdict.kind is Kind.UNKNOWN and not call.writes:
        return Verdict(Kind.UNAVAILABLE, verdict.message, verdict.status, lost=verdict.lost, no_list=verdict.no_list)
    return verdict


def _of_reply(call: Call, reply: Reply) -> Verdict:
    status = reply.status
    message = f"{status}" + (f": {reply.detail}" if reply.detail else "")
    if 200 <= status < 300:
        if reply.not_done:  # of an upload the list decides; a deletion is looked at, as one that was refused
            message = f"{status}, but it was not done: {reply.not_done}"
            refused = call is Call.DELETE
            return Verdict(Kind.REFUSED if refused else Kind.UNKNOWN, message, status, answered=not refused)
        if reply.readable:
            return Verdict(Kind.DONE, message, status)
        return Verdict(Kind.UNKNOWN, f"{status}, but the reply cannot be read", status, answered=True)
    kind = BY_CALL.get((call, status)) or STATUS.get(status)
    if kind is None:
        kind = Kind.UNAVAILABLE if status < 400 else Kind.REFUSED if status < 500 else Kind.UNKNOWN
    if kind is Kind.THROTTLED and _is_spent(reply):
        kind = Kind.FATAL
    if kind is Kind.UNAVAILABLE and reply.retry_after_s is not None:
        kind = Kind.THROTTLED
    pause_s = reply.retry_after_s if kind is Kind.THROTTLED else None
    return Verdict(kind, message, status, pause_s, answered=status in ANSWERED, failed=status in ANSWERED)


def _is_spent(reply: Reply) -> bool:
    """Whether a 429 means that the account has nothing left, rather than that requests come too fast."""
    if SPENT.search(reply.detail):
        return True
    return bool(QUOTA.search(reply.detail)) and reply.retry_after_s is None and not SOON.search(reply.detail)


class Chance(Protocol):
    """Where jitter comes from: `random.Random` is one."""

    def uniform(self, a: float, b: float, /) -> float: ...


def backoff_s(attempt: int, rng: Chance) -> float:
    """Seconds to wait after failed attempt number `attempt`: full jitter over 0.1 (attempt 0), 0.5, 1, 2 … 30."""
    longest = BACKOFF_BASE_S * 2.0 ** min(attempt - 1, 16) if attempt > 0 else BACKOFF_FIRST_S
    return rng.uniform(0.0, min(BACKOFF_CAP_S, longest))


class RetryBudget:
    """What keeps retries from becoming the load: while it is spent, each waits as long as one that has failed five times
    more (botocore's retry quota, but it slows down instead of giving up)."""

    def __init__(self) -> None:
        self.left = BUDGET

    def earn(self) -> None:
        """A request was done."""
        self.left = min(BUDGET, self.left + BUDGET_EARNED)

    def patience(self, attempt: int) -> int:
        """Pay for a retry after failed attempt number `attempt`, from 1; the attempt to take for `backoff_s`. Two failures in a
        row are still mostly chance: of a service that refuses one in twenty, one request in 400 has them."""
        if self.left < 1.0:
            return attempt + 4
        self.left -= 1.0
        return 0 if attempt <= 2 else attempt - 1
