"""What is done about a flow that is not to be started yet: inputs are sent again, it is built anew, or a problem is said.

In: a `FlowRun`, and what the service's list of its inputs comes to. Out: rows, deletions, problems; True where the producer is
to plan it again. Made once for each run; called by the finalizer. Nothing is given up that was started.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from ..core.facts import InputFacts, PutInput, Record
from ..core.lifecycle import InputEvent, InputState
from ..core.model import Problem
from ..core.reconcile import Reconciled
from ..core.remote import RemoteFlow
from ..core.retry import Kind
from ..journal.ports import Journal
from .flow_run import FlowRun
from .orphans import Orphans
from .problems import keep_problem, problem_from_read, problem_of, started_elsewhere
from .reporter import Reporter
from .requests import Requests
from .retries import Retries
from .verifier import labels


class Repair:
    """`batch`: the batch's name. `settle_s`: so long an accepted input may be missing on the list before the list is not
    believed."""

    def __init__(
        self, requests: Requests, journal: Journal, reporter: Reporter, retries: Retries, orphans: Orphans, batch: str,
        settle_s: float,
    ) -> None:  # fmt: skip
        self._requests = requests
        self._journal = journal
        self._reporter = reporter
        self._retries = retries
        self._orphans = orphans
        self._batch = batch
        self._settle_s = settle_s

    # ---- inputs

    async def record_seen(self, flow: FlowRun, found: Reconciled) -> None:
        """What the list says of single inputs."""
        records: list[Record] = []
        for row in await self._unknown(flow, found.seen):
            records.append(PutInput(flow.name, row.on(InputEvent.ACCEPT, settle_deadline=None)))
            self._reporter.accepted(flow, row.stat.size)
        until = self._journal.now() + self._settle_s
        if self._reporter.enabled and (found.seen or found.vanished):
            await self._emit_settled(flow, found)
        # Once this is past, the list is not believed.
        vanished = await self._rows(flow, found.vanished)
        records += [PutInput(flow.name, replace(row, settle_deadline=until)) for row in vanished]
        if records:
            await self._journal.record(*records)

    async def _emit_settled(self, flow: FlowRun, found: Reconciled) -> None:
        """By their names, which only the manifest has: a walk that a log is worth."""
        seen = set(found.seen)
        for key, label in (await self._labels(flow, seen | set(found.vanished))).items():
            if key in seen:
                self._reporter.emit("input_settled", flow.name, input=label)
            else:
                self._reporter.emit("input_not_listed", flow.name, "warning", input=label)

    async def send_again(self, flow: FlowRun, keys: tuple[bytes, ...], start_after: float) -> bool:
        """These were answered with an error and are not listed; whatever comes of them, the start waits until then."""
        records: list[Record] = [
            PutInput(flow.name, row.on(InputEvent.NOT_SENT, settle_deadline=None, answered=False, resent=True))
            for row in await self._unknown(flow, keys)
        ]
        row = flow.change(start_after=max(start_after, flow.facts.start_after or 0.0))
        await self._journal.record(*records, row)
        said = flow.last_unknown
        what = f"the upload of {said[0]}" if said is not None and said[0] else "an upload"
        return await self._retries.try_again(flow, f"the service answered {what} with an error, and does not list it")

    async def refused(self, flow: FlowRun, keys: tuple[bytes, ...]) -> None:
        """The service found fault with inputs it had taken: they cannot be taken out, so the flow is built anew next time."""
        names = await self._labels(flow, set(keys))
        for key in keys:
            label = names.get(key, "")
            message = f"{label} was accepted, and then found to be in error"
            self._reporter.flow_failed(flow, Problem("refused", message, "replace the file, then run again",
                                                     flow.plan.flow.place, flow.name, label))  # fmt: skip
        if flow.facts.external:
            await keep_problem(self._journal, flow)
            return
        await self._abandon(flow, "the service found fault with inputs that it had taken")

    async def _rows(self, flow: FlowRun, keys: tuple[bytes, ...]) -> list[InputFacts]:
        """Those of these inputs that have a row."""
        if not keys:
            return []
        return list((await self._journal.look(lambda journal: journal.inputs(flow.name, keys))).values())

    async def _unknown(self, flow: FlowRun, keys: tuple[bytes, ...]) -> list[InputFacts]:
        """Those that are so still: a run that was frozen finds what the next owner has made of them, and learns of it when it
        records."""
        return [row for row in await self._rows(flow, keys) if row.state is InputState.UNKNOWN]

    async def _labels(self, flow: FlowRun, keys: set[bytes]) -> dict[bytes, str]:
        return await asyncio.to_thread(labels, self._batch, flow.plan.flow, keys)

    # ---- the flow

    async def rebuild(self, flow: FlowRun, why: str) -> bool:
        """Whether it is to be planned again; not where it turned out to be started, or was given by its id."""
        if flow.facts.external:
            message = f"{why}, and batcher deletes no flow that was given by its id"
            await self.fail(flow, problem_of(flow, message, "make a new flow and name its id"))
            return False
        flow.planned_again()
        return await self._abandon(flow, why)

    async def _abandon(self, flow: FlowRun, why: str) -> bool:
        """Whether it is to be planned again; False only where it turned out to be started. Where it could not be deleted, the
        opener creates no other before it is gone (`Orphans.delete_of`)."""
        flow_id = flow.facts.flow_id
        assert flow_id is not None
        self._reporter.flow_given_up(flow, why)
        await self._journal.record(*flow.abandon())
        self._reporter.taken_back(flow)
        started = await self._orphans.delete(flow_id, flow.name)
        if started is not None:
            flow.found_started(started)
        return started is None

    async def explain(self, flow: FlowRun) -> None:
        """The flow is gone, or takes no inputs, or cannot be listed: say what the service shows."""
        trouble, flow_id = flow.trouble, flow.facts.flow_id
        assert trouble is not None
        if trouble.kind is Kind.CONFLICT and flow_id is not None:
            found = await self._requests.flow(flow_id)
            if isinstance(found, RemoteFlow) and not found.unstarted:
                if flow.facts.external:
                    self._reporter.flow_failed(flow, started_elsewhere(flow, found))
                else:  # which finds that it is started, and takes it over as paid for
                    await self._abandon(flow, f"the service says that it is {found.state}, but batcher has not started it")
                return
        if trouble.kind is Kind.GONE:
            message = f"the service does not know the flow {flow_id}"
            hint = "another account's key? if somebody deleted it, batcher clean forgets it"
            self._reporter.flow_failed(flow, problem_of(flow, message, hint, 404))
            return
        self._reporter.flow_failed(flow, problem_from_read(trouble, flow, "the flow's inputs are not certain"))

    async def fail(self, flow: FlowRun, problem: Problem) -> None:
        """It is not started in this run; `status` says why."""
        self._reporter.flow_failed(flow, problem)
        await keep_problem(self._journal, flow)

    async def keep(self, flow: FlowRun) -> None:
        """It has failed already; `status` says why."""
        await keep_problem(self._journal, flow)
