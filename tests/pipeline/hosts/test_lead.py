"""What the run that leads counts of sources that it lacks: others may have them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from batcher.assembly import SystemClock
from batcher.core.crew import Totals
from batcher.core.events import SILENT
from batcher.core.facts import FlowFacts
from batcher.core.model import Flow, Place, Problem
from batcher.core.planning import Action, FlowPlan, Tally
from batcher.core.report import Report
from batcher.pipeline.hosts.lead import Lead
from batcher.pipeline.reporter import Reporter
from batcher.pipeline.survey import Survey

pytestmark = pytest.mark.anyio

GONE = Problem("source", "no such file", "check the path", Place("m.yaml", 1, 1), "f2")


class Host:
    """A crew, and a preparation that finds one of four flows started and one without its source."""

    def __init__(self, report: Report, *, goes_on: bool) -> None:
        self.report = report
        self.goes_on = goes_on
        self.resigned = 0
        self.judged: list[Problem] | None = None
        self.may_redo = True
        self.capped = False
        self.plans: list[FlowPlan] = []

    async def resign(self, *, lacking: bool) -> None:
        assert lacking
        self.resigned += 1

    def work(self) -> Iterator[FlowPlan]:
        return iter(self.plans)

    async def planned(self, totals: Totals) -> None: ...
    async def left(self) -> tuple[bool, bool]:
        return True, False

    async def look(self) -> Survey:
        assert self.report.surveyed() == (0, 0, 0, 0, 0, 0), "what was counted before is not counted twice"
        self.report.put_surveyed((1, 0, 1, 5, 500, 1))
        return Survey(problems=[GONE], lacking={"f2"}, lacking_inputs=1, flows=4)

    async def judge(self, found: Survey) -> Survey | None:
        self.judged = found.problems
        return found if self.goes_on or not found.problems else None


def plan_of(name: str, action: Action) -> FlowPlan:
    flow = Flow(name, "t", None, {}, None, Place("m.yaml", 1, 1), lambda: iter(()))
    return FlowPlan(flow, action, FlowFacts(name, flow_id="id-1"), b"", b"", Tally(), (), lambda: iter(()))


def lead_of(*, goes_on: bool) -> tuple[Lead, Host, Report]:
    report = Report("m.yaml", "sandbox")
    host = Host(report, goes_on=goes_on)
    return Lead(*cast(Any, (host, host, host, host, None, Reporter(report, SILENT, SystemClock())))), host, report


async def test_run_that_hands_the_lead_on_counts_what_it_did_before_and_nothing_else() -> None:
    lead, host, report = lead_of(goes_on=False)
    report.put_surveyed((2, 1, 0, 7, 700, 0))
    await lead.prepare(alone=False)
    assert host.resigned == 1
    assert (lead.lacks, lead.prepared, host.judged) == (True, False, None)
    assert report.surveyed() == (2, 1, 0, 7, 700, 0)
    assert report.exit_code == 0
    lead.say_lacking()  # no run has them
    assert report.surveyed() == (1, 0, 1, 5, 500, 1)
    assert (lead.failed, report.exit_code) == (True, 4)


async def test_run_that_is_alone_ends_with_what_it_lacks() -> None:
    lead, host, report = lead_of(goes_on=False)
    await lead.prepare(alone=True)
    assert (host.resigned, host.judged, lead.failed) == (0, [GONE], True)
    assert report.surveyed() == (1, 0, 1, 5, 500, 1)


async def test_run_that_goes_on_leaves_what_it_lacks_to_whoever_takes_it_from_the_queue() -> None:
    lead, host, report = lead_of(goes_on=True)
    await lead.prepare(alone=False)
    assert (host.resigned, host.judged, lead.failed, lead.prepared) == (0, [], False, True)
    assert report.surveyed() == (1, 0, 0, 5, 500, 0)


async def test_run_that_may_not_pay_again_leaves_what_was_asked_for_and_says_so() -> None:
    """Others have begun anew while it was away, and may have paid for it."""
    lead, host, report = lead_of(goes_on=True)
    host.plans = [plan_of("new", Action.NEW), plan_of("again", Action.REDO), plan_of("rest", Action.RESUME)]
    await lead.prepare(alone=True)
    host.may_redo = False
    assert [job.name for job in lead.some_jobs()] == ["new", "rest"]
    await lead.planned()
    await lead.planned()
    (problem,) = report.problems
    assert "it pays for no flow again" in problem.message
    assert report.exit_code == 12
