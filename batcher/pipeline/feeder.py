"""One flow's inputs: read, announced in the journal, handed to the workers.

In: a `FlowRun` that is begun, what was read of it already. Out: `Payload`s on a bounded stream, whose announcements are
durable. Made once for each run; called by the producer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ..core.bodies import Body
from ..core.facts import WATCH_S, AttemptFacts, ForgetInputs, InputFacts, PutAttempt, PutInput, Record, Watch
from ..core.lifecycle import FlowEvent, FlowState, InputEvent, InputState
from ..core.model import Problem
from ..core.planning import Action, Change, InputPlan
from ..core.tags import can_carry_tag
from ..journal.ports import Journal
from .chunks import STREAM_BYTES, Chunk, Chunks
from .flow_run import FlowRun, Payload
from .payloads import Payloads
from .reporter import Reporter
from .shutdown import Shutdown


class Feeder:
    def __init__(
        self, chunks: Chunks, journal: Journal, reporter: Reporter, shutdown: Shutdown, out: Payloads
    ) -> None:
        self._chunks = chunks
        self._journal = journal
        self._reporter = reporter
        self._shutdown = shutdown
        self._out = out

    @property
    def ready(self) -> Callable[[Payload], None]:
        """Who gets a payload whose flow is open."""
        return self._out.ready

    async def renew(self, flow: FlowRun) -> None:
        """Abandon what is on the service where the plan says so; the journal forgets it before anything is sent."""
        plan, name = flow.plan, flow.name
        records: list[Record] = []
        if plan.action is Action.REDO:
            was = flow.facts
            if was.flow_id is not None:
                records.append(PutAttempt(AttemptFacts(name, was.flow_id, was.generation, was.started_at)))
            flow.on(FlowEvent.REDO, flow_id=None, external=False)
            records.append(ForgetInputs(name))
        elif plan.action is Action.REBUILD and flow.facts.state is FlowState.CREATING:
            flow.on(FlowEvent.NOT_CREATED, settle_deadline=None)
            records += [ForgetInputs(name), Watch(self._journal.now() + WATCH_S)]
        elif plan.action is Action.REBUILD:
            self._reporter.flow_given_up(flow, "its inputs are others now", "info")
            filled = await self._journal.look(lambda journal: journal.count_inputs(name)) > 0
            records += flow.abandon(filled=filled)
        if plan.action in (Action.REDO, Action.REBUILD):
            inputs = partial(self._chunks.inputs_anew, plan.flow, flow.facts)
            flow.replan(replace(plan, inputs=inputs))
        else:  # the report has these from the survey
            flow.count(plan.tally.sent, plan.tally.sent_bytes)
        row = flow.change(spec_digest=plan.spec_digest, stat_digest=plan.stat_digest, inputs=plan.tally.total,
                          size_bytes=plan.tally.total_bytes, problem=None)  # fmt: skip
        # Not awaited where nothing was sent before: what is announced next makes it durable.
        if records:
            await self._journal.record(*records, row)
        else:
            self._journal.post(row)

    async def produce(self, flow: FlowRun, chunk: Chunk | None) -> None:
        """Read, announce, hand over. The next files are read while these are being announced, where there is room. `chunk`:
        what has been read already."""
        inputs = chunk.rest if chunk is not None and chunk.rest is not None else flow.plan.inputs()
        while self._shutdown.stop is None and not flow.failed:
            if chunk is None:
                chunk = await self._chunks.read(inputs)
            payloads, records = self._announce(flow, chunk.found)
            streamed = [payload for payload in payloads if payload.body is None]
            ahead = None if chunk.end else self._chunks.read_ahead(inputs, streams=bool(streamed))
            if records:
                await self._journal.record(*records)
            # Those that hold bytes already go first: one that waits for room must not keep them from giving theirs back.
            await self._out.put([payload for payload in payloads if payload.body is not None])
            for payload in streamed:
                await self._chunks.room_to_stream()
                await self._out.put([payload])
            if chunk.end:
                return
            chunk = await ahead if ahead is not None else None
        if chunk is not None:
            self._chunks.drop(chunk)

    def _announce(
        self, flow: FlowRun, found: list[tuple[InputPlan | None, Body | Problem | None]]
    ) -> tuple[list[Payload], list[Record]]:
        """Durable before they leave: a crash in between must read as unknown."""
        payloads: list[Payload] = []
        records: list[Record] = []
        for plan, body in found:
            if isinstance(body, Problem):
                self._reporter.flow_failed(flow, replace(body, flow=flow.name))
                continue
            assert plan is not None
            if plan.change is Change.SAME and plan.facts is not None:
                records.append(PutInput(flow.name, replace(plan.facts, sha256=plan.sha256)))
                continue
            state, resent = (InputState.PENDING, False) if plan.facts is None else (plan.facts.state, plan.facts.resent)
            row = InputFacts(plan.key, state, body.sha256 if body is not None else None, plan.spec_digest, plan.stat,
                             can_carry_tag(plan.input.additional), resent=resent).on(InputEvent.ANNOUNCE)  # fmt: skip
            records.append(PutInput(flow.name, row))
            held = body.length if body is not None else STREAM_BYTES
            payloads.append(Payload(flow, plan, row, body, held))
        return payloads, records
