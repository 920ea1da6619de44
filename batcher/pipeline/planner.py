"""The plan: every flow of the manifest held against the journal and the sources, one at a time.

In: manifest, a view of the journal, sources, options. Out: a stream of `FlowPlan`s and of Problems that belong to no flow.
Synchronous, for a thread of its own; called by `plan` and `run` to check everything, and by the producer to do it (a
million inputs are not held in between: what does not fit is looked at again). It reads, and writes nothing.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Final

from ..core.facts import FileStat, FlowFacts, InputFacts
from ..core.lifecycle import FlowState, InputState
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
    elsewhere,
)
from ..core.tags import InputKeys, flow_spec_digest, spec_digest, stat_bytes
from ..journal.ports import JournalView
from .ports import ImageLook, Seen, Sources

STEP: Final = 500  # inputs whose facts are asked for in one query
KEEP: Final = 32_768  # inputs and flows whose plans are kept from the check to the work: some 20 MB
AHEAD: Final = 64  # flows whose first images are looked at together
AHEAD_INPUTS: Final = 4
_CHANGES: Final = (Change.NEW, Change.DIFFERS)

TemplateTypes = Mapping[str, "tuple[str, ...] | None"]  # a template's name → the types it takes, as it spells them


@dataclass(slots=True)
class _Begun:
    """A flow with its first inputs, what has been seen of them, and the rest of them, to be walked once. `on_service`: how
    many inputs the journal has that are, or may be, there."""

    flow: Flow
    items: Sequence[Input | Problem]
    seen: Sequence[Seen | None]
    rest: Iterator[Input | Problem]
    facts: FlowFacts | None = None
    on_service: int = 0


def _is_started(facts: FlowFacts | None) -> bool:
    return facts is not None and facts.state is FlowState.STARTED


class Planner:
    """`templates` is asked only when a flow is not done: a run that has nothing to do sends nothing."""

    def __init__(
        self, manifest: Manifest, journal: JournalView, sources: Sources, options: Options,
        templates: Callable[[], TemplateTypes | None], images: ImageLook | None = None,
    ) -> None:  # fmt: skip
        self.manifest = manifest
        self._journal = journal
        self._sources = sources
        self._options = options
        self.templates = templates
        self._images = images
        self._kept: list[FlowPlan] | None = None  # everything that has work; None: it was too much to keep

    def flows(self) -> Iterator[FlowPlan | Problem]:
        """Every flow that the options let through, in the manifest's order."""
        kept: list[FlowPlan] = []
        room = KEEP
        items = self.manifest.flows()
        for item in self._walk(items if self._images is None else self._looked_ahead(items, self._images)):
            if isinstance(item, Problem):
                yield item
                continue
            plan = self._look(item, room)
            if plan.action.works:
                room -= plan.tally.total + 1
                if room > 0:
                    kept.append(plan)
            yield plan
        self._kept = kept if room > 0 else None

    def _walk(self, items: Iterator[Flow | Problem]) -> Iterator[_Begun | Problem]:
        """The flows that the options let through, with their first inputs; while some are planned, those of the next ones
        are looked at."""
        before = self._some(items)
        while before:
            following = self._some(items)
            flows = [one for one in following if isinstance(one, _Begun)]
            seen = self._ahead([(flow.items, not _is_started(flow.facts)) for flow in flows])
            yield from before
            for flow, found in zip(flows, seen(), strict=True):
                flow.seen = found
            before = following

    def _ahead(self, groups: list[tuple[Sequence[Input | Problem], bool]]) -> Callable[[], list[list[Seen | None]]]:
        """Look at inputs, and `inside` those of a group where that is wanted, beside what is done until what was seen is asked
        for: as many groups, with None for what is no input."""
        asked = [(item, inside) for items, inside in groups for item in items if isinstance(item, Input)]
        taken = self._sources.ahead(asked)

        def get() -> list[list[Seen | None]]:
            found = iter(taken())
            return [[next(found) if isinstance(item, Input) else None for item in items] for items, _ in groups]

        return get

    def _some(self, items: Iterator[Flow | Problem]) -> list[_Begun | Problem]:
        """The next ones: flows until they have enough inputs to be looked at together."""
        found: list[_Begun | Problem] = []
        inputs = 0
        for item in items:
            if isinstance(item, Problem):
                found.append(item)
            elif self._options.only(item.name):
                flow = self._begin(item)
                inputs += len(flow.items)
                found.append(flow)
            if inputs >= STEP or len(found) >= STEP:
                break
        self._know([one for one in found if isinstance(one, _Begun)])
        return found

    @staticmethod
    def _begin(flow: Flow) -> _Begun:
        rest = iter(flow.inputs())
        items = list(islice(rest, STEP))
        return _Begun(flow, items, [None] * len(items), rest)

    def _know(self, flows: Sequence[_Begun]) -> None:
        """Ask the journal for what it knows of them, all at once."""
        rows = self._journal.flows_named([one.flow.name for one in flows])
        counts = self._journal.counts(list(rows))
        for one in flows:
            one.facts, one.on_service = rows.get(one.flow.name), counts.get(one.flow.name, 0)

    def work(self) -> Iterator[FlowPlan | Problem]:
        """What has work, as it was looked at last where that could be kept, or else looked at now. Once after `flows`."""
        kept, self._kept = self._kept, None
        if kept is None:
            yield from self.flows()
            return
        kept.reverse()
        while kept:
            plan = kept.pop()
            # What was deleted or adopted since may have turned out to be started: the row tells, and is cheap to ask for.
            yield plan if self._journal.flow(plan.flow.name) == plan.facts else self.flow(plan.flow)

    def _looked_ahead(self, items: Iterator[Flow | Problem], images: ImageLook) -> Iterator[Flow | Problem]:
        """The same flows; the first images of new ones are looked at together, for a flow by itself often has but one."""
        while step := list(islice(items, AHEAD)):
            found: list[tuple[Input, FileStat, str]] = []
            meant = [flow for flow in step if isinstance(flow, Flow) and self._options.only(flow.name)]
            known = self._journal.flows_named([flow.name for flow in meant])
            for flow in meant:
                if flow.name not in known:
                    for source in islice(flow.inputs(), AHEAD_INPUTS):
                        file_stat = source if isinstance(source, Problem) else self._sources.look(source)
                        if isinstance(source, Input) and isinstance(file_stat, FileStat):
                            mime = self._sources.mime(source, None)
                            if not isinstance(mime, Problem):
                                found.append((source, file_stat, mime))
            images.look(found)  # what is wrong is told when its flow's turn comes
            yield from step

    def flow(self, flow: Flow) -> FlowPlan:
        """One flow, looked at now."""
        begun = self._begin(flow)
        self._know([begun])
        return self._look(begun, 0)

    def _look(self, begun: _Begun, room: int) -> FlowPlan:
        flow, facts = begun.flow, begun.facts
        sent = flow_spec_digest(flow.template, flow.parameters, flow.additional)
        if facts is not None and _is_started(facts):
            looked = None if elsewhere(facts, flow.flow_id) else self._quick(begun, sent)
            done = looked is not None and looked[0] == facts.stat_digest
            if done and not self._options.checksum and not self._options.redo(flow.name):
                assert looked is not None  # by `done`
                tally = Tally(total=looked[1], total_bytes=looked[2], same=looked[1], sent=looked[1], sent_bytes=looked[2])
                return FlowPlan(flow, Action.DONE, facts, sent, facts.stat_digest, tally, (), lambda: iter(()))
            begun = replace(self._begin(flow), facts=facts, on_service=begun.on_service)
        return self._detailed(begun, sent, room)

    def _quick(self, begun: _Begun, sent: bytes) -> tuple[bytes, int, int] | None:
        """(digest of the file stats, inputs, bytes); None where a source is at fault."""
        hashed = hashlib.blake2b(sent, digest_size=16)
        count = size = 0
        for item, seen in chain.from_iterable(self._steps(begun, inside=False)):
            file_stat = item if isinstance(item, Problem) else self._sources.look(item, seen)
            if isinstance(file_stat, Problem) or isinstance(item, Problem):
                return None
            count += 1
            size += file_stat.size
            hashed.update(stat_bytes(item, file_stat))
        return hashed.digest(), count, size

    def _detailed(self, begun: _Begun, sent: bytes, room: int) -> FlowPlan:
        flow, facts = begun.flow, begun.facts
        started = _is_started(facts)
        sourceless = started or (facts is not None and facts.state is FlowState.STARTING)  # all of them were sent
        compared = facts is not None and facts.state is not FlowState.PLANNED
        problems: list[Problem] = []
        waiting = False
        tally = Tally()
        stat_digest = hashlib.blake2b(sent, digest_size=16)
        kept: list[InputPlan] = []
        for item in self._inputs(begun, facts):
            if isinstance(item, Problem):
                tally.faulty += 1
                if item.kind == "waiting":
                    waiting = True
                elif not (sourceless and item.kind == "source"):
                    problems.append(replace(item, flow=flow.name))
                continue
            size = item.stat.size
            encoded = size if item.mime == "text/plain" else 4 * ((size + 2) // 3)
            tally.total += 1
            tally.total_bytes += size
            tally.total_encoded += encoded
            stat_digest.update(stat_bytes(item.input, item.stat))
            if tally.total < room:
                kept.append(item)
            match item.change:
                case Change.NEW:
                    tally.new += 1
                    tally.new_bytes += size
                    tally.new_encoded += encoded
                    tally.resent += item.facts is not None and item.facts.resent
                case Change.DIFFERS:
                    tally.differs += 1
                case _:
                    tally.same += 1
                    if item.facts is not None and item.facts.state is InputState.ACCEPTED:
                        tally.sent += 1
                        tally.sent_bytes += size
            if compared and item.change in _CHANGES and len(tally.changes) < CHANGES_KEPT:
                tally.changes.append((item.change, item.input.label))
        if not started:
            problems += self._of_template(flow)
        if not tally.total and not problems and not waiting and not started:
            problems.append(Problem("manifest", "the flow has no inputs", "add some", flow.place, flow.name))
        tally.removed = max(0, begun.on_service - tally.there)
        action = decide(facts, sent, tally, begun.on_service, bool(problems), waiting, self._options, flow.flow_id)
        if facts is not None and flow.flow_id is not None and flow.flow_id == facts.flow_id:
            action = self._of_given(flow, action, problems)
        whole = len(kept) == tally.total

        def inputs() -> Iterator[InputPlan | Problem]:
            return iter(kept) if whole else self.inputs(flow, facts)

        file_stat = stat_digest.digest() if not problems and not waiting else b""
        return FlowPlan(flow, action, facts, sent, file_stat, tally, tuple(problems), inputs)

    def _of_given(self, flow: Flow, action: Action, problems: list[Problem]) -> Action:
        """A flow that was given by its id is never deleted, and can be started once."""
        hint = "make a new flow on the service and name its id"
        if action is Action.REBUILD:
            message = f"its inputs changed after they were sent, and batcher does not delete the flow {flow.flow_id}"
            problems.append(Problem("unsettled", message, hint, flow.place, flow.name))
            return Action.BLOCKED
        if action is Action.REDO and self._options.redo(flow.name):
            message = f"the flow {flow.flow_id} was started, and can be started once"
            problems.append(Problem("manifest", message, hint, flow.place, flow.name))
            return Action.BLOCKED
        return Action.CHANGED if action is Action.REDO else action

    def _of_template(self, flow: Flow) -> list[Problem]:
        known = self.templates() if flow.template is not None else None
        if known is None or flow.template in known:
            return []
        near = difflib.get_close_matches(flow.template or "", known, 1)
        hint = f"did you mean {near[0]}?" if near else f"it offers {', '.join(sorted(known))}"
        return [Problem("manifest", f"the service has no template {flow.template}", hint, flow.place, flow.name)]

    def inputs(self, flow: Flow, facts: FlowFacts | None) -> Iterator[InputPlan | Problem]:
        """Every input of the flow, with its change; those whose flow's state is PLANNED are all new."""
        return self._inputs(self._begin(flow), facts)

    def _inputs(self, begun: _Begun, facts: FlowFacts | None) -> Iterator[InputPlan | Problem]:
        flow = begun.flow
        types = None
        if flow.template is not None and not _is_started(facts):
            types = (self.templates() or {}).get(flow.template)
        asked = facts is not None and facts.state is not FlowState.PLANNED
        input_keys = InputKeys(self.manifest.batch, flow.name)
        for step in self._steps(begun, inside=True):
            looked: list[tuple[Input, Seen | None, bytes, FileStat] | Problem] = []
            for item, seen in step:
                file_stat = item if isinstance(item, Problem) else self._sources.look(item, seen)
                if isinstance(file_stat, Problem) or isinstance(item, Problem):
                    looked.append(file_stat if isinstance(file_stat, Problem) else item)  # type: ignore[arg-type]
                    continue
                looked.append((item, seen, input_keys.next(item), file_stat))
            keys = [one[2] for one in looked if not isinstance(one, Problem)]
            rows = self._journal.inputs(flow.name, keys) if asked else {}
            plans = (one if isinstance(one, Problem) else self._input(*one, rows.get(one[2]), types) for one in looked)
            yield from plans if self._images is None else self._looked_into(list(plans), self._images)

    def _steps(self, begun: _Begun, *, inside: bool) -> Iterator[Iterable[tuple[Input | Problem, Seen | None]]]:
        """A flow's inputs, many at a time; while some are planned, the next ones are looked at."""
        items, seen = begun.items, begun.seen
        while items:
            following = list(islice(begun.rest, STEP))
            ahead = self._ahead([(following, inside)])
            yield zip(items, seen, strict=True)
            items, (seen,) = following, ahead()

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
        types: tuple[str, ...] | None,
    ) -> InputPlan | Problem:  # fmt: skip
        mime = self._sources.mime(item, types, seen)
        if isinstance(mime, Problem):
            return mime
        meant = spec_digest(mime, item.additional)
        sha256: bytes | None = None
        found = change_of(row, meant, file_stat, None, trust=not self._options.checksum and item.source.stat_tells)
        if found is Change.HASH:
            digest = self._sources.digest(item)
            if isinstance(digest, Problem):
                return digest
            sha256 = digest
            found = change_of(row, meant, file_stat, sha256, trust=False)
        return InputPlan(item, key, file_stat, mime, meant, found, row, sha256)
