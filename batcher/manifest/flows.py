"""The flows of a manifest: what each entry under `flows` says, and the `Flow`s that it becomes.

In: an entry of the tree and the defaults. Out: a `Plan`, which expands to flows as often as asked; nothing is held but
the plan. Called by `load`, which holds the plans together as `Expansion`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final, TypeAlias

from batcher.core.model import Flow, Input, Place, Problem
from batcher.core.names import Names
from batcher.manifest.errors import Unfit, harmless, quoted
from batcher.manifest.inputs import Entry, unknown_in
from batcher.manifest.paths import Base
from batcher.manifest.sources import Source
from batcher.manifest.template import (
    NO_SCOPE,
    Const,
    Missing,
    Node,
    Row,
    Scope,
    Text,
    bind,
    bind_checked,
    bind_text,
    uses,
)
from batcher.manifest.values import check_flow_id, check_name, check_template

MAX_COMPARED: Final = 20  # repeated names of which the first place is looked for; each look lists all flows

Make: TypeAlias = "Callable[[Row, Place | None], Flow]"  # may raise Unfit


@dataclass(frozen=True, slots=True)
class Parameters:
    """A flow's parameters. Where only the row tells the template, the defaults' count if it is `template`."""

    own: Node
    inherited: Node
    template: str | None  # the template that the inherited ones belong to; None: they belong to any

    def bind(self, scope: Scope) -> Callable[[Row, str | None], Any]:
        own, inherited, template = bind(self.own, scope), bind(self.inherited, scope), self.template
        if template is None or self.own is self.inherited:
            return lambda row, _: inherited(row)
        return lambda row, of: inherited(row) if of == template else own(row)


@dataclass(frozen=True, slots=True)
class Plan:
    """One entry under `flows`, read: one flow, or with `each` one per row."""

    name: Const | Text
    template: Const | Text | None
    flow_id: Const | Text | None
    parameters: Parameters
    additional: Node | None
    entries: tuple[Input | Entry, ...]
    each: Source | None
    place: Place
    base: Base
    place_of: Callable[[int], Place]

    def expand(self) -> Iterator[Flow | Problem]:
        if self.each is None:
            yield self._bind(NO_SCOPE)((), None)
            return
        place = self.place_of(self.each.mark)
        opened = self.each.at(NO_SCOPE, self.base, place)((), dict.fromkeys(self._names(), Missing(())))
        if isinstance(opened, Problem):
            yield opened
            return
        scope = opened.scope(NO_SCOPE)
        wrong = [unfit.at(self.place_of(mark)) for mark, unfit in self._unknown_names(scope)]
        yield from wrong
        make = None if wrong else self._bind(scope)
        for found in opened.rows:
            if isinstance(found, Problem):
                yield found
            elif make is not None:  # else only the table's own problems are left to tell
                row, row_place = found
                flow: Flow | Problem
                try:
                    flow = make(row, row_place)
                except Unfit as unfit:
                    flow = unfit.at(row_place or self.place)
                yield flow

    def _bind(self, scope: Scope) -> Make:
        name_of = bind_text(self.name, scope)
        template_of = bind_checked(self.template, scope, check_template)
        flow_id_of = bind_checked(self.flow_id, scope, check_flow_id)
        parameters_of = self.parameters.bind(scope)
        additional_of = bind(self.additional or Const(None), scope)
        inputs_of = self._bind_inputs(scope)
        own_place = self.place

        def make(row: Row, place: Place | None) -> Flow:
            name = check_name(name_of(row))
            template = template_of(row)
            return Flow(
                name,
                template,
                flow_id_of(row),
                parameters_of(row, template),
                additional_of(row),
                place or own_place,
                partial(inputs_of, row, place, name),
            )

        return make

    def _bind_inputs(self, scope: Scope) -> Callable[[Row, Place | None, str], Iterator[Input | Problem]]:
        # A list of 100,000 plain inputs is bound by naming it: they are inputs already.
        bound = [entry if isinstance(entry, Input) else entry.bind(scope, self.base, self.place_of) for entry in self.entries]

        def inputs(row: Row, place: Place | None, flow: str) -> Iterator[Input | Problem]:
            for entry in bound:
                if isinstance(entry, Input):
                    yield entry
                else:
                    yield from entry(row, place, flow)

        if not self._keys_may_repeat():
            return inputs

        def with_own_keys(row: Row, place: Place | None, flow: str) -> Iterator[Input | Problem]:
            return once_each(partial(inputs, row, place, flow), flow)

        return with_own_keys

    def _keys_may_repeat(self) -> bool:
        keyed = [entry for entry in self.entries if (entry.key if isinstance(entry, Input) else entry.item.key) is not None]
        return bool(keyed) and (len(keyed) > 1 or (isinstance(keyed[0], Entry) and keyed[0].source is not None))

    def nodes(self) -> list[Node | None]:
        """What stands beside `each`; the entries have theirs."""
        parameters = self.parameters
        return [self.name, self.template, self.flow_id, parameters.own, parameters.inherited, self.additional]

    def _names(self) -> set[str]:
        """Every name that any string of the flow asks for."""
        nodes = self.nodes()
        for entry in self.entries:
            if isinstance(entry, Entry):
                nodes += entry.nodes()
        return {name for name, _ in uses(*nodes)}

    def _unknown_names(self, scope: Scope) -> Iterator[tuple[int, Unfit]]:
        yield from unknown_in(self.nodes(), scope)
        for entry in self.entries:
            if isinstance(entry, Entry):
                yield from entry.unknown_names(scope)


class Expansion:
    """All plans of a manifest: `flows()` lists the flows, the same each time, and tells repeated names."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        self._plans = plans

    def flows(self) -> Iterator[Flow | Problem]:
        names, flow_ids = Names(), Names()
        looks = iter(range(MAX_COMPARED))
        for flow in self._all():
            if isinstance(flow, Flow):
                key = None
                if names.suspected(flow.name):
                    key = "name"
                elif flow.flow_id is not None and flow_ids.suspected(flow.flow_id):
                    key = "flow_id"
                problem = self._repetition(flow, key, looks) if key else None
                yield problem or flow
            else:
                yield flow

    def _all(self) -> Iterator[Flow | Problem]:
        for plan in self._plans:
            yield from plan.expand()

    def _repetition(self, flow: Flow, key: str, looks: Iterator[int]) -> Problem | None:
        """The problem of a repeated value; None where a hash was taken for another's."""
        value = getattr(flow, key)
        if next(looks, None) is None:
            return repeated(key, value, flow.place, None)
        same = (other for other in self._all() if isinstance(other, Flow) and getattr(other, key) == value)
        pair = list(islice(same, 2))
        return repeated(key, value, flow.place, pair[0].place) if len(pair) == 2 else None


def once_each(walk: Callable[[], Iterator[Input | Problem]], flow: str) -> Iterator[Input | Problem]:
    """The inputs of a flow, with a Problem in the place of each whose `key` an earlier one has. 16 to 32 bytes per key."""
    keys = Names()
    looks = iter(range(MAX_COMPARED))
    for index, item in enumerate(walk()):
        if isinstance(item, Input) and item.key is not None and keys.suspected(item.key):
            yield _repeated_key(item, index, walk, flow, looks) or item
        else:
            yield item


def _repeated_key(
    item: Input, index: int, walk: Callable[[], Iterator[Input | Problem]], flow: str, looks: Iterator[int]
) -> Problem | None:
    """The problem of a repeated key; None where a hash was taken for another's."""
    message = f"the key {quoted(item.key)} of {harmless(item.label)} is repeated"
    if next(looks, None) is not None:
        before = islice(walk(), index)
        first = next((other for other in before if isinstance(other, Input) and other.key == item.key), None)
        if first is None:
            return None
        message += f"; it is that of {harmless(first.label)} at {first.place}"
    hint = "keys are unique in a flow: correct one of them, or use a column that is unique"
    return Problem("manifest", message, hint, item.place, flow, harmless(item.label))


def repeated(key: str, value: str, place: Place, first: Place | None) -> Problem:
    """The problem of a name, or a flow id, that two flows have."""
    before = f"; it first stands at {first}" if first else ""
    if key == "name":
        return Problem(
            "manifest", f"the flow name {quoted(value)} is repeated{before}", "names are unique in a manifest", place, value
        )
    return Problem("manifest", f"the flow {quoted(value)} is given twice{before}", "put its inputs together", place)
