"""The plan: every flow of the manifest held against the journal and the sources, one at a time.

In: manifest, a view of the journal, sources, options. Out: a stream of `FlowPlan`s and of Problems that belong to no flow.
Synchronous, for a thread of its own; called by `plan` and `run` to check everything, and by the producer to do it (a
million inputs are not held in between: what does not fit is looked at again). It reads, and writes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Final

from ..core.facts import FileStat, FlowFacts, InputFacts
from ..core.lifecycle import FlowState
from ..core.media import TEXT, plain_type
from ..core.model import Flow, Input, Manifest, Problem
from ..core.planning import (
    CHANGES_KEPT,
    Action,
    Change,
    FlowPlan,
    InputPlan,
    Options,
    Tally,
    change_of,
    decide,
    digest_sent,
    elsewhere,
    is_comparable,
    of_external,
)
from ..core.suggestion import did_you_mean
from ..core.tags import InputKeys, flow_spec_digest, spec_digest, stat_bytes
from ..journal.ports import JournalView
from .ahead import FlowInputs, LookAhead
from .ports import ImageLook, Seen, Sources

SOME_KEPT: Final = 256  # inputs of one flow whose plans are kept, where a few flows are looked at
KEEP: Final = 32_768  # inputs and flows whose plans are kept from the check to the work: some 20 MB
_CHANGES: Final = (Change.NEW, Change.DIFFERS)

TemplateTypes = Mapping[str, "tuple[str, ...] | None"]  # a template's name → the types it takes, as it spells them


@dataclass(slots=True)
class _Walked:
    """What a walk over the inputs of one flow has found. `kept`: their plans, where there is room for all of them."""

    stat_hash: Any  # of hashlib; it has no type of its own there
    tally: Tally = field(default_factory=Tally)
    problems: list[Problem] = field(default_factory=list)
    gone: list[Problem] = field(default_factory=list)  # sources at fault of a flow that is started, and needs them no longer
    waiting: bool = False  # a source is too young
    kept: list[InputPlan] = field(default_factory=list)


class Planner:
    """`templates` is asked only when a flow is not done, or is to be compared with what may be paid for again and a file does
    not tell its type: a run that has nothing to do sends nothing."""

    def __init__(
        self, manifest: Manifest, journal: JournalView, sources: Sources, options: Options,
        templates: Callable[[], TemplateTypes | None], images: ImageLook | None = None,
    ) -> None:  # fmt: skip
        self.manifest = manifest
        self._journal = journal
        self._sources = sources
        self._options = options
        self._templates = templates
        self._images = images
        self._ahead = LookAhead(journal, sources, images, options.only)
        self._bad_ends: Set[str] | None = None  # ids of flows that failed or were aborted, once they were asked for
        self._kept: list[FlowPlan] | None = None  # everything that has work; None: it was too much to keep

    @property
    def options(self) -> Options:
        return self._options

    def of_all(self) -> Planner:
        """The same for every flow, whichever the options choose."""
        options = replace(self._options, only=lambda name: True)
        return Planner(self.manifest, self._journal, self._sources, options, self._templates, self._images)

    def flows(self) -> Iterator[FlowPlan | Problem]:
        """Every flow that the options let through, in the manifest's order."""
        kept: list[FlowPlan] = []
        room = KEEP
        for item in self._ahead.flows(self.manifest.flows()):
            if isinstance(item, Problem):
                yield item
                continue
            plan = self._look(item, room)
            if plan.action.works or plan.lacks_sources:
                # Of one with more inputs than there is room for, only they are looked at again, when they are sent.
                room -= plan.tally.total + 1 if plan.tally.total < room else 1
                if room > 0:
                    kept.append(plan)
            yield plan
        self._kept = kept if room > 0 else None

    def work(self) -> Iterator[FlowPlan | Problem]:
        """What has work, or would have it where its sources are. As it was looked at last where that could be kept, or else
        looked at now. Once after `flows`."""
        kept, self._kept = self._kept, None
        if kept is None:
            yield from self.flows()
            return
        kept.reverse()
        while kept:
            plan = kept.pop()
            # What was deleted or adopted since may have turned out to be started: the row tells, and is cheap to ask for.
            yield plan if self._journal.flow(plan.flow.name) == plan.facts else self.flow(plan.flow)

    def flow(self, flow: Flow) -> FlowPlan:
        """One flow, looked at now."""
        return self._look(self._ahead.flow(flow), 0)

    def some(self, flows: Sequence[Flow]) -> list[FlowPlan]:
        """These flows, looked at now, together: the journal is asked for all of them at once."""
        looked = self._ahead.flows(iter(flows))
        return [self._look(inputs, SOME_KEPT) for inputs in looked if not isinstance(inputs, Problem)]

    def _look(self, inputs: FlowInputs, room: int) -> FlowPlan:
        flow, facts = inputs.flow, inputs.facts
        sent = flow_spec_digest(flow.template, flow.parameters, flow.additional)
        if facts is not None and facts.is_started:
            looked = None if elsewhere(facts, flow.flow_id) else self._quick(inputs, sent)
            if looked is not None and self._is_done(facts, looked[0]):
                tally = Tally(total=looked[1], total_bytes=looked[2], same=looked[1], sent=looked[1], sent_bytes=looked[2])
                return FlowPlan(flow, Action.DONE, facts, sent, facts.stat_digest, tally, (), lambda: iter(()))
            inputs = replace(self._ahead.inputs_of(flow), facts=facts, on_service=inputs.on_service)
        return self._detailed(inputs, sent, room)

    def _quick(self, inputs: FlowInputs, sent: bytes) -> tuple[bytes, int, int] | None:
        """(digest of the file stats, inputs, bytes); None where a source is at fault."""
        hashed = hashlib.blake2b(sent, digest_size=16)
        count = size = 0
        for item, seen in chain.from_iterable(self._ahead.steps(inputs, inside=False)):
            file_stat = item if isinstance(item, Problem) else self._sources.look(item, seen)
            if isinstance(file_stat, Problem) or isinstance(item, Problem):
                return None
            count += 1
            size += file_stat.size
            hashed.update(stat_bytes(item, file_stat))
        return hashed.digest(), count, size

    def _is_done(self, facts: FlowFacts, stat_digest: bytes) -> bool:
        """Whether its file stats are enough to tell that there is nothing to do."""
        same = facts.stat_digest == stat_digest and not self._options.checksum
        return (same or not is_comparable(facts)) and not self._options.redoes(facts) and not self._failed(facts)

    def _failed(self, facts: FlowFacts | None) -> bool:
        """Whether it is to be paid for again as one that failed. By its id, so that no attempt is paid for twice; one that was
        given by its id can be started once."""
        if not self._options.redo_failed or facts is None or not facts.is_started or facts.external:
            return False
        if self._bad_ends is None:
            self._bad_ends = self._journal.bad_ends().keys()
        return facts.flow_id in self._bad_ends

    def _detailed(self, inputs: FlowInputs, sent: bytes, room: int) -> FlowPlan:
        """With every input held against its row. `room`: inputs whose plans may be kept."""
        flow, facts = inputs.flow, inputs.facts
        started = facts is not None and facts.is_started
        walked = self._walked(inputs, sent, room)
        tally, problems, waiting = walked.tally, walked.problems, walked.waiting
        if not started:
            problems += self._of_template(flow)
        if not tally.total and not problems and not waiting and not started:
            problems.append(Problem("manifest", "the flow has no inputs", "add some", flow.place, flow.name))
        if facts is not None and started and not is_comparable(facts):
            tally.take_for_sent()
        tally.removed = max(0, inputs.on_service - tally.there)
        action = decide(facts, sent, tally, inputs.on_service, bool(problems), waiting, self._options, flow.flow_id,
                        failed=self._failed(facts))  # fmt: skip
        if facts is not None and flow.flow_id is not None and flow.flow_id == facts.flow_id:
            action = of_external(flow, facts, action, self._options, problems)
        if action is Action.REDO and walked.gone:  # to be paid for again it needs them
            problems += walked.gone
            action = Action.BLOCKED
        elif action is Action.REDO and waiting:
            action = Action.WAITING
        whole = len(walked.kept) == tally.total
        kept = walked.kept if whole else []  # a part of them is of no use

        def walk() -> Iterator[InputPlan | Problem]:
            return iter(kept) if whole else self.inputs(flow, facts)

        stat_digest = walked.stat_hash.digest() if not problems and not waiting else b""
        return FlowPlan(flow, action, facts, sent, stat_digest, tally, tuple(problems), walk)

    def _walked(self, inputs: FlowInputs, sent: bytes, room: int) -> _Walked:
        facts = inputs.facts
        # All of them were sent: what has become of their sources since matters no more.
        sourceless = facts is not None and facts.maybe_paid
        compared = facts is not None and facts.state is not FlowState.PLANNED
        found = _Walked(hashlib.blake2b(sent, digest_size=16))
        tally = found.tally
        for item in self._inputs(inputs, facts):
            if isinstance(item, Problem):
                tally.faulty += 1
                if item.kind == "waiting":
                    found.waiting = True
                elif sourceless and item.kind == "source":
                    found.gone.append(replace(item, flow=inputs.flow.name))
                else:
                    found.problems.append(replace(item, flow=inputs.flow.name))
                continue
            tally.count(item)
            found.stat_hash.update(stat_bytes(item.input, item.stat))
            if tally.total < room:
                found.kept.append(item)
            if compared and item.change in _CHANGES and len(tally.changes) < CHANGES_KEPT:
                tally.changes.append((item.change, item.input.label))
        return found

    def _of_template(self, flow: Flow) -> list[Problem]:
        known = self._templates() if flow.template is not None else None
        if known is None or flow.template in known:
            return []
        hint = did_you_mean(flow.template or "", known, f"it offers {', '.join(sorted(known))}")
        message = f"the service has no template {flow.template}"
        if flow.template_place is not None:  # the same one for each flow that has it from there; it is told once
            return [Problem("manifest", message, hint, flow.template_place())]
        return [Problem("manifest", message, hint, flow.place, flow.name)]

    def inputs(self, flow: Flow, facts: FlowFacts | None) -> Iterator[InputPlan | Problem]:
        """Every input of the flow, with its change; those whose flow's state is PLANNED are all new."""
        return self._inputs(self._ahead.inputs_of(flow), facts)

    def _inputs(self, inputs: FlowInputs, facts: FlowFacts | None) -> Iterator[InputPlan | Problem]:
        flow = inputs.flow
        started = facts is not None and facts.is_started
        types = None if started else self._types(flow)
        untold = self._types_where_untold(flow, facts) if started else None
        asked = facts is not None and facts.state is not FlowState.PLANNED
        input_keys = InputKeys(self.manifest.batch, flow.name)
        for step in self._ahead.steps(inputs, inside=True):
            looked: list[tuple[Input, Seen | None, bytes, FileStat] | Problem] = []
            for item, seen in step:
                file_stat = item if isinstance(item, Problem) else self._sources.look(item, seen)
                if isinstance(file_stat, Problem) or isinstance(item, Problem):
                    looked.append(file_stat if isinstance(file_stat, Problem) else item)  # type: ignore[arg-type]
                    continue
                looked.append((item, seen, input_keys.next(item), file_stat))
            keys = [one[2] for one in looked if not isinstance(one, Problem)]
            rows = self._journal.inputs(flow.name, keys) if asked else {}
            plans = (one if isinstance(one, Problem) else self._input(*one, rows.get(one[2]), types, untold) for one in looked)
            yield from plans if self._images is None else self._looked_into(list(plans), self._images)

    def _types(self, flow: Flow) -> tuple[str, ...] | None:
        return (self._templates() or {}).get(flow.template) if flow.template is not None else None

    def _types_where_untold(self, flow: Flow, facts: FlowFacts | None) -> Callable[[], tuple[str, ...] | None]:
        """What the template of a started flow takes, for a file that does not tell its type. It was sent as a text, for no
        other can be sent so; the service is asked where the flow may be paid for again."""
        again = self._options.resubmit_changed or (facts is not None and self._options.redoes(facts)) or self._failed(facts)
        return lambda: self._types(flow) if again else (TEXT,)

    @staticmethod
    def _looked_into(plans: list[InputPlan | Problem], images: ImageLook) -> Iterator[InputPlan | Problem]:
        """The same, with a Problem for each new image that is not fit: what was sent already is the service's to judge."""
        new = [plan for plan in plans if isinstance(plan, InputPlan) and plan.change is Change.NEW]
        found = iter(images.look([(plan.input, plan.stat, plan.mime) for plan in new]))
        for plan in plans:
            problem = next(found) if isinstance(plan, InputPlan) and plan.change is Change.NEW else None
            yield problem or plan

    def _input(
        self, item: Input, seen: Seen | None, key: bytes, file_stat: FileStat, row: InputFacts | None,
        types: tuple[str, ...] | None, untold: Callable[[], tuple[str, ...] | None] | None,
    ) -> InputPlan | Problem:  # fmt: skip
        """`untold`: the types, where they are asked for only if it does not tell its own."""
        mime = self._sources.mime(item, types, seen)
        if isinstance(mime, Problem) and untold is not None:
            mime = self._sources.mime(item, untold(), seen)
        if isinstance(mime, Problem):
            return mime
        plain = plain_type(mime)
        meant = spec_digest(plain, item.additional)
        sent = digest_sent(row, meant, plain, mime, item.additional)
        sha256: bytes | None = None
        found = change_of(row, sent, file_stat, None, trust=not self._options.checksum and item.source.stat_tells)
        if found is Change.HASH:
            digest = self._sources.digest(item)
            if isinstance(digest, Problem):
                return digest
            sha256 = digest
            found = change_of(row, sent, file_stat, sha256, trust=False)
        return InputPlan(item, key, file_stat, mime, meant, found, row, sha256)
