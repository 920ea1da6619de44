"""One flow while a run works on it, and one input of it on its way.

In: a flow's plan and its row. Out: `FlowRun`, `Payload`. Made by the producer, and passed from stage to stage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..core.abandoning import abandon
from ..core.bodies import Body
from ..core.facts import FlowFacts, InputFacts, PutFlow, Record
from ..core.lifecycle import FlowEvent
from ..core.measuring import FlowTimes
from ..core.model import Problem
from ..core.planning import Action, FlowPlan, InputPlan
from ..core.retry import Verdict
from ..core.tags import Multiset


@dataclass(slots=True)
class History:
    """What of a flow outlasts its being planned anew within one run."""

    rebuilds: int = 0
    retries: int = 0  # writes of it that were answered, not done, and sent again
    start_announced: bool = False  # by this run


class FlowRun:
    """Anybody may read it. Its attributes have no setters (but for `times`, which the reporter and the starter note): each is
    changed by one of the methods below, and each of those is called by the modules named here, and by no other
    (`tests/pipeline/test_flow_run.py` holds the code against this table). `facts`, the row as last recorded or posted,
    belongs to one stage at a time: to the producer; then to the opener, until its opening has ended; then to the finalizer
    and its parts.

        replan             feeder
        on                 creator, feeder, opener, starter
        change             creator, feeder, list_proof, problems, repair, starter
        abandon            feeder, list_proof, opener, repair
        found_started           orphans, repair
        hand_on            payloads
        produced           producer
        accepted           workers
        came_back          workers
        opening_ended      opener
        pass_on            opener, producer, workers
        count              feeder, reporter
        fail               opener, reporter
        note_unknown      creator, starter, workers
        in_trouble         finalizer, workers
        planned_again      finalizer, repair
        retrying           retries
        announcing_start   starter
    """

    __slots__ = (
        *("_accepted", "_facts", "_failed", "_held", "_history", "_last_unknown", "_opened", "_outstanding", "_plan"),
        *("_problem", "_produced", "_ready", "_on_idle", "_trouble", "_uploaded", "_uploaded_bytes", "times"),
    )

    def __init__(
        self, plan: FlowPlan, ready: Callable[[Payload], None], on_idle: Callable[[FlowRun], None],
        history: History | None = None,
    ) -> None:  # fmt: skip
        self._plan = plan
        self._facts = plan.facts or FlowFacts(plan.flow.name)
        self._ready = ready
        self._on_idle = on_idle
        self._history = history or History()
        self._outstanding = 0
        self._produced = False
        self._failed = False
        self._problem: Problem | None = None
        self._accepted = Multiset()
        self._uploaded = 0
        self._uploaded_bytes = 0
        self._trouble: Verdict | None = None
        self._last_unknown: tuple[str | None, Verdict] | None = None
        self._opened = False  # its opening is over: it has an id, or has failed
        self._held: list[Payload] = []  # until it is opened
        self.times = FlowTimes()  # see `reporter`

    # ---- what is known of it

    @property
    def name(self) -> str:
        return self._facts.name

    @property
    def plan(self) -> FlowPlan:
        return self._plan

    @property
    def facts(self) -> FlowFacts:
        return self._facts

    @property
    def history(self) -> History:
        return self._history

    @property
    def failed(self) -> bool:
        """It is not to be started in this run."""
        return self._failed

    @property
    def problem(self) -> Problem | None:
        """The last one; the report keeps the first thousand of a run only."""
        return self._problem

    @property
    def trouble(self) -> Verdict | None:
        """A request said that the flow is gone, takes no inputs, or cannot be listed."""
        return self._trouble

    @property
    def last_unknown(self) -> tuple[str | None, Verdict] | None:
        """The last that was noted by `note_unknown`: its input, if any, and what was said."""
        return self._last_unknown

    @property
    def uploaded(self) -> int:
        """Inputs of it that are accepted, for the report."""
        return self._uploaded

    @property
    def uploaded_bytes(self) -> int:
        return self._uploaded_bytes

    @property
    def expected(self) -> Multiset | None:
        """What the list of its inputs must come to, where all of them were sent and accepted just now, with their tags; None:
        only the journal's rows tell."""
        tally = self._plan.tally
        new = self._plan.action is Action.NEW and not tally.there and not tally.removed
        return self._accepted if new and self._accepted.count == tally.total else None

    # ---- its row

    def on(self, event: FlowEvent, **changes: object) -> PutFlow:
        """The row after the event, as the record that is to be handed to the journal. Raises IllegalTransition."""
        self._facts = self._facts.on(event, **changes)
        return PutFlow(self._facts)

    def change(self, **changes: object) -> PutFlow:
        """The row with these fields changed, as the record of it."""
        self._facts = replace(self._facts, **changes)  # type: ignore[arg-type]  # named fields
        return PutFlow(self._facts)

    def abandon(self, *, filled: bool = True) -> list[Record]:
        """The records that give it up: see `core.abandoning`."""
        records, self._facts = abandon(self._facts, filled=filled)
        return records

    def found_started(self, facts: FlowFacts) -> None:
        """It turned out to be started, and this is its row in the journal."""
        self._facts, self._failed = facts, True

    # ---- its inputs on their way

    def replan(self, plan: FlowPlan) -> None:
        self._plan = plan

    def hand_on(self, payload: Payload) -> None:
        """One more payload is on its way to the workers, who get it once the flow is open."""
        self._outstanding += 1
        if self._opened:
            self._ready(payload)
        else:
            self._held.append(payload)

    def accepted(self, row: InputFacts) -> None:
        """The service has said so of an input that was sent into it."""
        if row.tagged and row.sha256 is not None:
            self._accepted.add(row.key, row.sha256)

    def came_back(self) -> None:
        """A worker is done with a payload."""
        self._outstanding -= 1

    def produced(self) -> None:
        """No more payloads will come."""
        self._produced = True

    def opening_ended(self) -> None:
        self._opened = True
        held, self._held = self._held, []
        for payload in held:
            self._ready(payload)

    def pass_on(self) -> None:
        """Hand it to the finalizer where nothing is on its way any more. Called after every change of what the
        condition asks: the last of these makes it true, once."""
        if self._produced and self._outstanding == 0 and self._opened:
            self._on_idle(self)

    def count(self, inputs: int, size_bytes: int) -> None:
        """So many more inputs of it are on the service; negative: they are not, after all."""
        self._uploaded += inputs
        self._uploaded_bytes += size_bytes

    # ---- what came of requests

    def fail(self, problem: Problem | None = None) -> None:
        self._failed = True
        if problem is not None:
            self._problem = problem

    def note_unknown(self, label: str | None, verdict: Verdict) -> None:
        """Whether a write was done is not known, and a problem may have to name it: what was said of it. `label`: of the input,
        where it was one. Of an upload without an answer nothing is noted here: the list tells."""
        self._last_unknown = label, verdict

    def in_trouble(self, verdict: Verdict) -> None:
        self._trouble = verdict

    def planned_again(self) -> None:
        """It is planned anew, once more."""
        self._history.rebuilds += 1

    def retrying(self) -> int:
        """A write of it is to be sent once more; how often that was so, this time included."""
        self._history.retries += 1
        return self._history.retries

    def announcing_start(self) -> None:
        self._history.start_announced = True


@dataclass(slots=True, eq=False)
class Payload:
    """One input, announced in the journal and ready to leave. `body` is None where it is streamed anew each time."""

    flow: FlowRun
    plan: InputPlan
    row: InputFacts
    body: Body | None
    held_bytes: int
