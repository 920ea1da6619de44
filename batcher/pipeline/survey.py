"""What the plan comes to: counted, and all that is wrong found, before a run writes anything.

In: the planner's stream. Out: `Survey`, the report's totals. Made once for each operation; called by `plan` and `run`.
Synchronous, for a thread.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from ..core.chosen import Chosen, literal
from ..core.errors import Stop
from ..core.forecast import RequestForecast, anew, over_caps
from ..core.lifecycle import FlowState
from ..core.model import Limits, Problem
from ..core.planning import Action, FlowPlan, Options, elsewhere, is_comparable
from ..core.report import Report
from ..journal.ports import JournalView
from .planner import Planner
from .ports import Clock, ImageLook
from .reporter import Reporter
from .shutdown import Shutdown

STEP: Final = 500  # flows whose rows are asked for at once
AGAIN_KEPT: Final = 50_000  # flows that --redo names whose ids are kept: some 10 MB
NAMED: Final = 100  # of them in a message


@dataclass(slots=True)
class Survey:
    """What the plan comes to: counts by action, and everything that is wrong."""

    actions: dict[Action, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    flows: int = 0
    inputs: int = 0
    bytes: int = 0
    to_send: int = 0
    to_send_bytes: int = 0
    to_send_encoded: int = 0  # the same data as base64, but for texts
    requests: RequestForecast = field(default_factory=RequestForecast)
    known: int = 0  # flows that the journal has a row of
    journaled: int = 0  # rows of flows in the journal, those that are no longer in the manifest among them
    new: int = 0  # inputs that the journal knows nothing of
    differs: int = 0  # inputs that were sent otherwise
    removed: int = 0  # inputs that were sent and are no longer in the manifest
    unsettled: int = 0  # flows whose start an earlier run had announced
    creating: int = 0  # flows whose create an earlier run had announced
    creates: bool = False  # flows may be made on the service
    unknown: int = 0  # inputs that no reply was seen to
    paid: int = 0  # starts so far, of all flows that the journal knows
    again: dict[str, str | None] = field(default_factory=dict)  # what --redo names, and the ids that are paid for already
    asked: int = 0  # flows that --redo names; `again` has the first ones
    lacking: set[str] = field(default_factory=set)  # flows with nothing wrong but their sources
    lacking_inputs: int = 0  # those sources

    @property
    def works(self) -> bool:
        return any(action.works for action in self.actions)

    def count(self, plan: FlowPlan, options: Options, limits: Limits) -> None:
        """Add one flow."""
        tally = plan.tally
        self.flows += 1
        facts = plan.facts
        if facts is not None and facts.is_started and _each_time(plan.flow.name, options):  # blocked ones, too
            self.asked += 1
            if len(self.again) < AGAIN_KEPT:
                self.again[plan.flow.name] = facts.flow_id
        self.actions[plan.action] = self.actions.get(plan.action, 0) + 1
        self.problems += [problem for problem in plan.problems if problem.flow is not None or problem not in self.problems]
        if plan.lacks_sources:
            self.lacking.add(plan.flow.name)
            self.lacking_inputs += tally.faulty
        self.inputs += tally.total + tally.faulty
        self.bytes += tally.total_bytes
        self.unsettled += plan.action.works and plan.is_starting
        self.creating += plan.action.works and plan.facts is not None and plan.facts.state is FlowState.CREATING
        self.creates = self.creates or (plan.action.works and _creates(plan))
        self.unknown += tally.unknown
        if self.requests.count(plan, options, limits.starts_per_run):
            again = anew(plan.action)
            self.to_send += tally.total if again else tally.new
            self.to_send_bytes += tally.total_bytes if again else tally.new_bytes
            self.to_send_encoded += tally.total_encoded if again else tally.new_encoded
        self.known += plan.facts is not None
        self.new += tally.new
        self.differs += tally.differs
        self.removed += tally.removed if plan.action is not Action.DONE else 0

    def set_lacking_aside(self, report: Report) -> None:
        """Flows that lack nothing but sources are neither wrong nor failed: another run may have these."""
        self.problems = [problem for problem in self.problems if problem.flow not in self.lacking]
        self.creates = self.creates or bool(self.lacking)
        report.flows.failed -= len(self.lacking)
        report.inputs.failed -= self.lacking_inputs

    def over_caps(self, limits: Limits) -> list[Problem]:
        """What the run would pass of the manifest's caps: found before the first request that writes."""
        return over_caps(limits, self.requests.starts, self.to_send_bytes)


class Surveyor:
    def __init__(
        self, planner: Planner, journal: JournalView, images: ImageLook | None, reporter: Reporter, shutdown: Shutdown,
        clock: Clock,
    ) -> None:  # fmt: skip
        self._planner = planner
        self._journal = journal
        self._images = images
        self._reporter = reporter
        self._shutdown = shutdown
        self._clock = clock

    def survey(self, each: Callable[[FlowPlan], None] = lambda plan: None) -> Survey:
        """Walk the plan once; fills the report's totals. Raises Stop."""
        found = Survey()
        manifest, options, report = self._planner.manifest, self._planner.options, self._reporter.report
        if self._images is not None:
            self._images.stopping = lambda: self._shutdown.stop
        try:
            for item in self._planner.flows():
                self._shutdown.check()
                if isinstance(item, Problem):
                    found.problems.append(item)
                    continue
                each(item)
                options.redo(item.flow.name)  # so that it knows which names there are
                found.count(item, options, manifest.limits)
                _count(report, item)
                if (told := _of_started(item, options)) is not None:
                    self._reporter.problem(told)
        except Stop:
            report.put_surveyed()  # the part that was seen would read as the whole
            raise
        found.journaled, found.paid = self._journal.count_flows(), self._journal.count_starts()
        for note in [*manifest.notes(True), *_all_left(found, options)]:
            self._reporter.problem(note)
        if not found.problems:  # a flow that could not be told may be the one that was chosen
            found.problems += options.missed()
        if options.redo_failed and not found.actions.get(Action.REDO) and not found.problems:
            hint = "collect, or status --refresh, asks the service"
            self._reporter.problem(Problem("note", "--redo-failed: no flow is known to have failed", hint))
        report.flows.total, report.inputs.total = found.flows, found.inputs
        if self._images is not None:
            self._images.whole = True
        if found.works:
            self._count_looks(found, options)
        self._reporter.emit("planned", flows=found.flows, inputs=found.inputs, bytes=found.bytes, to_send=found.to_send,
                            to_send_bytes=found.to_send_bytes, starts=found.requests.starts,
                            problems=len(found.problems))  # fmt: skip
        return found

    def release_images(self) -> None:
        """From now on a stop does not end a look at an image: the stages, which make them too, end in their own order."""
        if self._images is not None:
            self._images.stopping = lambda: None

    def survey_anew(self) -> Survey:
        """Once more, in place of what was counted before."""
        self._reporter.report.put_surveyed()
        return self.survey()

    def _count_looks(self, found: Survey, options: Options) -> None:
        """The requests that belong to no single flow."""
        requests = found.requests
        requests.looks += 1  # the templates
        if options.adopt or not self._journal.unknown_flows_checked:
            requests.looks += 1 + (requests.creates > 0)  # the second time with the first flow on it
        else:
            requests.looks += found.creates
        requests.deletes += len(self._journal.orphans())
        # The list at the end: for twins of lost creates, and whether what was deleted is gone.
        requests.looks += self._journal.watch_until > self._clock.wall() or requests.deletes > 0


def redo_left(journal: JournalView, found: Survey) -> Problem | None:
    """After a run: how far it has come with what --redo names, where that is not all of it. The same command would pay once
    more for what is done. For a thread."""
    left: list[str] = []
    begun = 0
    names = iter(found.again)
    while some := list(islice(names, STEP)):
        rows = journal.flows_named(some)
        for name in some:
            row = rows.get(name)
            if row is not None and row.flow_id == found.again[name]:
                left.append(name)
            else:
                begun += row is None or not row.is_started
    if not left and not begun and found.asked == len(found.again):
        return None
    started = len(found.again) - len(left) - begun
    message = f"--redo: of {found.asked:,} flows {started:,} are started again, {begun:,} begun, {len(left):,} as they were"
    if not started and not begun:
        return Problem("note", message, "run it again")
    advice = ["do not repeat it, it would pay for these once more"]
    if begun:
        advice.append("a run without --redo finishes what is begun")
    if left:
        words = " ".join(f"--redo {shlex.quote(literal(name))}" for name in left[:NAMED])
        more = f" and {len(left) - NAMED:,} more, whose `flow_id` in status --json is still the old one"
        advice.append(f"for the others: {words}{more if len(left) > NAMED else ''}")
    if found.asked > len(found.again):
        advice.append(f"only the first {len(found.again):,} were looked at")
    return Problem("note", message, "; ".join(advice))


def _each_time(name: str, options: Options) -> bool:
    """Whether --redo asks to pay for this flow again, and would each time that it is said."""
    return options.redo(name) and not (isinstance(options.redo, Chosen) and options.redo.attempt(name) is not None)


def _creates(plan: FlowPlan) -> bool:
    """Whether it is made on the service, again perhaps."""
    creating = plan.facts is not None and plan.facts.state is FlowState.CREATING
    return plan.flow.flow_id is None and (plan.action is not Action.RESUME or creating)


def _count(report: Report, plan: FlowPlan) -> None:
    """What of one flow is done, or has failed, before the run begins."""
    tally, again = plan.tally, anew(plan.action)
    started = plan.action in (Action.DONE, Action.CHANGED)
    blocked = plan.action is Action.BLOCKED
    report.flows.started += started
    report.flows.changed += plan.action is Action.CHANGED
    report.flows.failed += blocked
    report.inputs.failed += tally.faulty if blocked else 0
    report.inputs.uploaded += 0 if again else tally.sent + (tally.faulty if started else 0)  # whose sources have gone since
    report.inputs.bytes += 0 if again else tally.sent_bytes


def _of_started(plan: FlowPlan, options: Options) -> Problem | None:
    """That it changed after its start; or, where that is asked for, that this cannot be told."""
    if plan.action is Action.CHANGED:
        return _changed(plan, options)
    asked = plan.action is Action.DONE and (options.resubmit_changed or options.adopt)
    if not asked or plan.facts is None or is_comparable(plan.facts):
        return None
    hint = "it was started late, or adopted; --redo NAME pays for it again"
    return Problem("note", "what it was started with is not known", hint, plan.flow.place, plan.flow.name)


def _changed(plan: FlowPlan, options: Options) -> Problem:
    flow = plan.flow
    message, flags = "it changed after it was started", "--resubmit-changed"
    if plan.facts is not None and elsewhere(plan.facts, flow.flow_id):
        message = f"it was started as {plan.facts.flow_id}, which is not what flow_id names now"
    elif options.checksum:  # without it the change may not be seen
        flags = "--checksum --resubmit-changed"
    return Problem("changed", message, f"{flags} pays for it again", flow.place, flow.name)


def _all_left(found: Survey, options: Options) -> list[Problem]:
    """That no flow of the journal is in the manifest any more: it may be done, or its files are out of reach."""
    if found.known or not found.journaled or found.problems or isinstance(options.only, Chosen):
        return []
    flows = "the only flow" if found.journaled == 1 else f"all {found.journaled:,} flows"
    message = f"{flows} of the journal {'has' if found.journaled == 1 else 'have'} left the manifest"
    return [Problem("note", message, "as it should be, where the files were taken away; else, is a disk not mounted?")]
