"""A service that does what it likes, held against the decisions: whenever they say Start, the service's truth is what was
meant, then and at every later time; and a request that was lost without an answer is never repeated into its flow.

The driver below does with the decisions what the finalizer does (`pipeline/finalizer.py`), on rows in a dictionary. What
is assumed of the service is what the contract assumes: a request that was answered is done within the settling time, or
never; one that was not answered may be done at any time; a listing is right, or visibly not what was meant; and of equal
inputs without tags none is done twice while another is lost, for nobody could see that.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from batcher.core.facts import InputFacts
from batcher.core.lifecycle import InputEvent, InputState
from batcher.core.reconcile import (
    Incomplete,
    Listed,
    Rebuild,
    Reconciled,
    Refused,
    SendAgain,
    Start,
    Unproven,
    Wait,
    expected_sum,
    listed_sum,
    reconcile,
)
from batcher.core.tags import Multiset

SETTLE_S = 10.0


@dataclass
class Asset:
    ident: bytes
    sha256: bytes
    status: str = "ready"


@dataclass
class RemoteFlow:
    """The truth about one flow on the service."""

    assets: list[Asset] = field(default_factory=list)
    late: list[tuple[float, Asset]] = field(default_factory=list)  # what is under way, and when it will be done
    lost: set[bytes] = field(default_factory=set)  # keys that were sent without an answer
    started: bool = False
    deleted: bool = False


class Service(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.flows = [RemoteFlow()]
        self.rows: dict[bytes, InputFacts] = {}
        self.start_after: float | None = None
        self.broken: set[bytes] = set()  # the service finds fault with these
        self.tagged = True
        self.twins = False

    @initialize(count=st.integers(1, 4), twins=st.booleans(), tagged=st.booleans())
    def a_flow(self, count: int, twins: bool, tagged: bool) -> None:
        """`twins`: without tags, equal inputs cannot be told apart."""
        self.tagged = tagged
        self.twins = twins and not tagged
        for n in range(count):
            content = bytes([1 if self.twins else n + 1]) * 32
            key = bytes([n + 1]) * 16
            self.rows[key] = InputFacts(key, sha256=content, tagged=tagged)

    # ---- the service

    @property
    def flow(self) -> RemoteFlow:
        return self.flows[-1]

    def ident(self, key: bytes) -> bytes:
        sha256 = self.rows[key].sha256
        assert sha256 is not None
        return key if self.tagged else sha256[:16]

    def asset(self, key: bytes) -> Asset:
        sha256 = self.rows[key].sha256
        assert sha256 is not None
        return Asset(self.ident(key), sha256)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for flow in self.flows:
            due = sorted((at for at, _ in flow.late if at <= self.now))
            for at in due:
                asset = next(asset for when, asset in flow.late if when == at)
                flow.late.remove((at, asset))
                if not flow.started and not flow.deleted:
                    flow.assets.append(asset)
                elif flow.started:
                    pass  # the service refuses it: a started flow takes no inputs

    @rule(seconds=st.sampled_from([0.1, 1.0, SETTLE_S / 2, SETTLE_S + 0.1, 20 * SETTLE_S]))
    def time_passes(self, seconds: float) -> None:
        self.pass_time(seconds)

    @precondition(lambda self: self.flow.assets and not self.flow.started)
    @rule(data=st.data(), status=st.sampled_from(["ready", "available", "processing", "error"]))
    def an_asset_changes_its_status(self, data: st.DataObject, status: str) -> None:
        data.draw(st.sampled_from(self.flow.assets)).status = status

    @precondition(lambda self: not self.flow.started)
    @rule(own=st.booleans())
    def a_foreign_asset_comes(self, own: bool) -> None:
        key = next(iter(self.rows))
        sha256 = b"f" * 32 if own else b"g" * 32
        self.flow.assets.append(Asset(key if own else b"foreign", sha256))

    @precondition(lambda self: self.flow.assets and not self.flow.started)
    @rule(data=st.data())
    def an_asset_is_done_twice_or_lost(self, data: st.DataObject) -> None:
        asset = data.draw(st.sampled_from(self.flow.assets))
        if data.draw(st.booleans()) and not self.twins:
            self.flow.assets.append(replace(asset))
        else:
            self.flow.assets.remove(asset)

    # ---- the driver

    def waiting(self) -> list[bytes]:
        return [key for key, row in self.rows.items() if row.state in (InputState.PENDING, InputState.REFUSED)]

    @precondition(lambda self: self.waiting() and not self.flow.started)
    @rule(
        data=st.data(),
        outcome=st.sampled_from(["done", "refused", "not sent", "lost reply", "lost", "lost, late", "error after", "error"]),
        delay=st.floats(0.01, 5 * SETTLE_S),
        twice=st.booleans(),
    )
    def an_input_is_sent(self, data: st.DataObject, outcome: str, delay: float, twice: bool) -> None:
        key = data.draw(st.sampled_from(self.waiting()))
        flow = self.flow
        assert key not in flow.lost, "a request that was lost without an answer was repeated into the same flow"
        row = self.rows[key].on(InputEvent.ANNOUNCE)
        until = self.now + SETTLE_S
        match outcome:
            case "done":
                flow.assets += [self.asset(key) for _ in range(1 + (twice and not self.twins))]
                row = row.on(InputEvent.ACCEPT)
            case "refused":
                row = row.on(InputEvent.REFUSE)
            case "not sent":
                row = row.on(InputEvent.NOT_SENT)
            case "lost reply" | "lost" | "lost, late":
                flow.lost.add(key)
                flow.assets += [self.asset(key)] if outcome == "lost reply" else []
                flow.late += [(self.now + delay, self.asset(key))] if outcome == "lost, late" else []
                row = row.on(InputEvent.LOSE, settle_deadline=until, answered=False)
            case "error after" | "error":
                if outcome == "error after":  # done within the settling time, whatever the answer said
                    flow.late.append((self.now + delay / (5.01 * SETTLE_S) * SETTLE_S, self.asset(key)))
                row = row.on(InputEvent.LOSE, settle_deadline=until, answered=True)
        self.rows[key] = row

    def listing(self, wrong: str) -> list[Listed]:
        shown = [Listed(a.ident, a.sha256, a.status, self.tagged) for a in self.flow.assets]
        meant = sorted((self.ident(key), row.sha256) for key, row in self.rows.items())
        right = list(shown)
        if wrong == "misses one" and shown:
            del right[0]
        elif wrong == "repeats one" and shown:
            right.append(shown[0])
        elif wrong == "adds one":
            right.append(Listed(b"foreign", b"?" * 32, "ready", self.tagged))
        hides = sorted((a.ident, a.sha256) for a in right) == meant
        return shown if hides else right

    @precondition(lambda self: not self.flow.started)
    @rule(wrong=st.sampled_from(["", "", "", "misses one", "repeats one", "adds one"]))
    def the_flow_is_settled(self, wrong: str) -> None:
        self.settle(self.listing(wrong))

    def settle(self, listed: list[Listed]) -> str:
        """One round of the finalizer; what it came to."""
        rows = list(self.rows.values())
        untagged = {} if self.tagged else {row.key: self.ident(row.key) for row in rows}
        found = reconcile(rows, untagged, listed, meant=len(rows), now=self.now, start_after=self.start_after)
        total = Multiset()
        ready = listed_sum(listed, total)
        early = self.start_after is not None and self.now < self.start_after
        if expected_sum(rows, untagged) == total and total.count == len(rows) and ready and not early:
            assert found == Reconciled(Start()), "the short way and the long one differ"
        for key in found.seen:
            self.rows[key] = self.rows[key].on(InputEvent.ACCEPT, settle_deadline=None)
        for key in found.vanished:
            self.rows[key] = replace(self.rows[key], settle_deadline=self.now + SETTLE_S)
        match found.decision:
            case Start():
                self.start()
            case SendAgain(keys=keys, start_after=start_after):
                self.start_after = max(start_after, self.start_after or 0.0)
                for key in keys:
                    self.rows[key] = self.rows[key].on(
                        InputEvent.NOT_SENT, settle_deadline=None, answered=False, resent=True
                    )
            case Rebuild() | Refused():
                self.abandon()
            case Unproven():
                shown = {asset.ident for asset in listed}
                accepted = [key for key, row in self.rows.items() if row.state is InputState.ACCEPTED]
                assert not self.tagged or any(key not in shown for key in accepted), "a list that shows all is not believed"
            case Wait() | Incomplete():
                pass
        return type(found.decision).__name__

    def abandon(self) -> None:
        self.flow.deleted = True
        self.flows.append(RemoteFlow())
        self.start_after = None
        for key, row in self.rows.items():
            self.rows[key] = replace(row, state=InputState.PENDING, settle_deadline=None, answered=False, resent=False)

    def start(self) -> None:
        flow = self.flow
        meant = sorted((self.ident(key), row.sha256) for key, row in self.rows.items())
        shown = sorted((asset.ident, asset.sha256) for asset in flow.assets)
        assert shown == meant, "started with other inputs than meant"
        assert all(asset.status in ("ready", "available") for asset in flow.assets)
        assert not [at for at, _ in flow.late if at > self.now], "started while a request of it was still under way"
        flow.started = True

    def teardown(self) -> None:
        """Once the service is well, the flow is started within a few rounds, whatever happened before."""
        if not self.rows:
            return
        for _ in range(30):
            if self.flow.started:
                break
            self.pass_time(SETTLE_S + 0.1)
            for asset in self.flow.assets:
                asset.status = "ready"
            for key in self.waiting():
                assert key not in self.flow.lost
                self.flow.assets.append(self.asset(key))
                self.rows[key] = self.rows[key].on(InputEvent.ANNOUNCE).on(InputEvent.ACCEPT)
            if self.settle(self.listing("")) == "Unproven":  # the service lost one that it had accepted: its user cleans
                self.abandon()
        assert self.flow.started, "never started, though the service is well"
        assert sum(flow.started for flow in self.flows) == 1
        before = list(self.flow.assets)
        self.pass_time(1000 * SETTLE_S)
        assert self.flow.assets == before


TestService = Service.TestCase
TestService.settings = settings(max_examples=250, stateful_step_count=25)
