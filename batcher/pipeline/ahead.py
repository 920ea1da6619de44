"""Looking ahead: while some flows are planned, the sources of the next ones are looked at.

In: the manifest's flows, in their order. Out: the same, as `FlowInputs`. Made once for each planner, and called in its thread:
without it that thread would wait for the look at each file, one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from ..core.facts import FileStat, FlowFacts
from ..core.model import Flow, Input, Problem
from ..journal.ports import JournalView
from .ports import ImageLook, Seen, Sources

STEP: Final = 500  # inputs whose facts are asked for in one query
AHEAD: Final = 64  # flows whose first images are looked at together
AHEAD_INPUTS: Final = 4


@dataclass(slots=True)
class FlowInputs:
    """A flow with its first inputs, what has been seen of them, and the rest of them, to be walked once. `on_service`: how
    many inputs the journal has that are, or may be, there."""

    flow: Flow
    items: Sequence[Input | Problem]
    seen: Sequence[Seen | None]
    rest: Iterator[Input | Problem]
    facts: FlowFacts | None = None
    on_service: int = 0


class LookAhead:
    """`only`: the flows that are planned."""

    def __init__(
        self, journal: JournalView, sources: Sources, images: ImageLook | None, only: Callable[[str], bool]
    ) -> None:
        self._journal = journal
        self._sources = sources
        self._images = images
        self._only = only

    def flows(self, items: Iterator[Flow | Problem]) -> Iterator[FlowInputs | Problem]:
        """Those of them that are planned, with their first inputs; while some are planned, those of the next are looked at."""
        if self._images is not None:
            items = self._images_first(items, self._images)
        before = self._some(items)
        self._looked(before)()
        while before:
            following = self._some(items)
            look = self._looked(following)
            yield from before
            look()
            before = following

    def _looked(self, flows: Sequence[FlowInputs | Problem]) -> Callable[[], None]:
        """Look at the first inputs of these beside what is done until the function is called, which waits for what was seen."""
        known = [one for one in flows if isinstance(one, FlowInputs)]
        seen = self._ahead([(flow.items, flow.facts is None or not flow.facts.is_started) for flow in known])

        def take() -> None:
            for flow, found in zip(known, seen(), strict=True):
                flow.seen = found

        return take

    def flow(self, flow: Flow) -> FlowInputs:
        """One flow, of which nothing has been seen yet."""
        inputs = self.inputs_of(flow)
        self._know([inputs])
        return inputs

    @staticmethod
    def inputs_of(flow: Flow) -> FlowInputs:
        """The same without what the journal knows of it."""
        rest = iter(flow.inputs())
        items = list(islice(rest, STEP))
        return FlowInputs(flow, items, [None] * len(items), rest)

    def _know(self, flows: Sequence[FlowInputs]) -> None:
        """Ask the journal for what it knows of them, all at once."""
        rows = self._journal.flows_named([one.flow.name for one in flows])
        counts = self._journal.counts(list(rows))
        for one in flows:
            one.facts, one.on_service = rows.get(one.flow.name), counts.get(one.flow.name, 0)

    def steps(self, inputs: FlowInputs, *, inside: bool) -> Iterator[Iterable[tuple[Input | Problem, Seen | None]]]:
        """A flow's inputs, many at a time; while some are planned, the next ones are looked at, and `inside` where that is
        wanted."""
        items, seen = inputs.items, inputs.seen
        if items and not any(seen):  # nobody has looked: in a store, one after the other would take a while
            (seen,) = self._ahead([(items, inside)])()
        while items:
            following = list(islice(inputs.rest, STEP))
            ahead = self._ahead([(following, inside)])
            yield zip(items, seen, strict=True)
            items, (seen,) = following, ahead()

    def _some(self, items: Iterator[Flow | Problem]) -> list[FlowInputs | Problem]:
        """The next ones: flows until they have enough inputs to be looked at together."""
        found: list[FlowInputs | Problem] = []
        inputs = 0
        for item in items:
            if isinstance(item, Problem):
                found.append(item)
            elif self._only(item.name):
                flow = self.inputs_of(item)
                inputs += len(flow.items)
                found.append(flow)
            if inputs >= STEP or len(found) >= STEP:
                break
        self._know([one for one in found if isinstance(one, FlowInputs)])
        return found

    def _ahead(self, groups: list[tuple[Sequence[Input | Problem], bool]]) -> Callable[[], list[list[Seen | None]]]:
        """Look at inputs, and `inside` those of a group where that is wanted, beside what is done until what was seen is asked
        for: as many groups, with None for what is no input."""
        asked = [(item, inside) for items, inside in groups for item in items if isinstance(item, Input)]
        taken = self._sources.ahead(asked)

        def get() -> list[list[Seen | None]]:
            found = iter(taken())
            return [[next(found) if isinstance(item, Input) else None for item in items] for items, _ in groups]

        return get

    def _images_first(self, items: Iterator[Flow | Problem], images: ImageLook) -> Iterator[Flow | Problem]:
        """The same flows; the first images of new ones are looked at together, for a flow by itself often has but one."""
        while step := list(islice(items, AHEAD)):
            found: list[tuple[Input, FileStat, str]] = []
            meant = [flow for flow in step if isinstance(flow, Flow) and self._only(flow.name)]
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
