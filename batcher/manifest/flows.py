"""The flows of a manifest: what each entry under `flows` says, and the `Flow`s that it becomes.

In: an entry of the tree and the defaults. Out: a `Plan`, which expands to flows as often as asked; nothing is held but
the plan. Called by `load`, which holds the plans together as `Expansion`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, Final, TypeAlias

from batcher.core.model import Flow, Input, Place, Problem, ProblemKind
from batcher.core.names import Names
from batcher.manifest.findings import Mark, Unfit, harmless, quoted
from batcher.manifest.inputs import Entry, unknown_in
from batcher.manifest.paths import Base
from batcher.manifest.row_sources import Source
from batcher.manifest.sieve import Sieve
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
    place_of: Callable[[Mark], Place]
    template_place: Callable[[], Place] | None = None  # where it is that of several flows

    def expand(self, sieve: Sieve) -> Iterator[tuple[Flow | Problem, str]]:
        """The flows, each with the label of the file that it comes from; "" where it comes from none."""
        if self.each is None:
            yield self._bind(NO_SCOPE, sieve)((), None), ""
            return
        place = partial(self.place_of, self.each.mark)
        opened = self.each.at(NO_SCOPE, self.base, place, sieve)((), dict.fromkeys(self._names(), Missing(())))
        if isinstance(opened, Problem):
            yield opened, ""
            return
        scope = opened.scope(NO_SCOPE)
        wrong = [unfit.at(self.place_of(mark)) for mark, unfit in self._unknown_names(scope)]
        yield from ((problem, "") for problem in wrong)
        make = None if wrong else self._bind(scope, sieve)
        of_file = self.each.kind == "glob"
        for found in opened.rows:
            if isinstance(found, Problem):
                yield found, ""
            elif make is not None:  # else only the table's own problems are left to tell
                row, row_place = found
                label = self.base.label(str(row[0])) if of_file else ""
                flow: Flow | Problem
                try:
                    flow = make(row, row_place)
                except Unfit as unfit:
                    flow = unfit.at(row_place or self.place)
                    if of_file:  # everything in the row comes from the file's name
                        flow = replace(flow, kind="source", input=harmless(label))
                yield flow, label

    def _bind(self, scope: Scope, sieve: Sieve) -> Make:
        name_of = bind_text(self.name, scope)
        template_of = bind_checked(self.template, scope, check_template)
        flow_id_of = bind_checked(self.flow_id, scope, check_flow_id)
        parameters_of = self.parameters.bind(scope)
        additional_of = bind(self.additional or Const(None), scope)
        inputs_of = self._bind_inputs(scope, sieve)
        own_place, template_place = self.place, self.template_place

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
                template_place,
            )

        return make

    def _bind_inputs(self, scope: Scope, sieve: Sieve) -> Callable[[Row, Place | None, str], Iterator[Input | Problem]]:
        # A list of 100,000 plain inputs is bound by naming it: they are inputs already.
        bound = [
            entry if isinstance(entry, Input) else entry.bind(scope, self.base, self.place_of, sieve) for entry in self.entries
        ]

        def inputs(row: Row, place: Place | None, flow: str) -> Iterator[Input | Problem]:
            for entry in bound:
                if isinstance(entry, Input):
                    yield entry
                else:
                    yield from entry(row, place, flow)

        if not self._keys_may_repeat():
            return inputs
        of_files = all(entry.of_files for entry in self.entries if isinstance(entry, Entry) and entry.item.key is not None)
        kind: ProblemKind = "source" if of_files and not self._keyed_inputs() else "manifest"

        def with_own_keys(row: Row, place: Place | None, flow: str) -> Iterator[Input | Problem]:
            return once_each(partial(inputs, row, place, flow), flow, kind)

        return with_own_keys

    def _keys_may_repeat(self) -> bool:
        keyed = [entry for entry in self.entries if (entry.key if isinstance(entry, Input) else entry.item.key) is not None]
        return bool(keyed) and (len(keyed) > 1 or (isinstance(keyed[0], Entry) and keyed[0].source is not None))

    def _keyed_inputs(self) -> bool:
        return any(isinstance(entry, Input) and entry.key is not None for entry in self.entries)

    def nodes(self) -> list[Node | None]:
        """What stands beside `each`; the entries have theirs."""
        parameters = self.parameters
        return [self.name, self.template, self.flow_id, parameters.own, parameters.inherited, self.additional]

    def differ_by_name_only(self) -> bool:
        """Whether the flows of `each` are the same but for their names: nothing else uses a column."""
        _, *others = self.nodes()
        entries = [entry for entry in self.entries if isinstance(entry, Entry)]
        return self.each is not None and not any(uses(*others)) and not any(entry.may_use_outer() for entry in entries)

    def _names(self) -> set[str]:
        """Every name that any string of the flow asks for."""
        nodes = self.nodes()
        for entry in self.entries:
            if isinstance(entry, Entry):
                nodes += entry.nodes()
        return {name for name, _ in uses(*nodes)}

    def _unknown_names(self, scope: Scope) -> Iterator[tuple[Mark, Unfit]]:
        yield from unknown_in(self.nodes(), scope)
        for entry in self.entries:
            if isinstance(entry, Entry):
                yield from entry.unknown_names(scope)


class Expansion:
    """All plans of a manifest: `flows()` lists the flows, the same each time, and tells repeated names."""

    def __init__(self, plans: Sequence[Plan], sieve: Sieve) -> None:
        self._plans = plans
        self._sieve = sieve
        self._alike: dict[int, int] = {}  # by number of the plan: flows that differ by their names only

    def notes(self, reasons: bool) -> list[Problem]:
        """What the latest listing of the flows has shown: see `Manifest.notes`."""
        return [*(self._of_alike() if reasons else ()), *self._sieve.notes(reasons)]

    def _of_alike(self) -> Iterator[Problem]:
        for number, count in self._alike.items():
            message = f"{count:,} flows of this `each` differ by their names only: the same inputs are paid for {count:,} times"
            yield Problem("note", message, "use a column in `inputs`, as {path} is one of a glob", self._plans[number].place)

    def flows(self) -> Iterator[Flow | Problem]:
        names, flow_ids = Names(), Names()
        looks = iter(range(MAX_COMPARED))
        for flow, label in self._all():
            if isinstance(flow, Flow):
                key = None
                if names.suspected(flow.name):
                    key = "name"
                elif flow.flow_id is not None and flow_ids.suspected(flow.flow_id):
                    key = "flow_id"
                problem = self._repetition(flow, label, key, looks) if key else None
                yield problem or flow
            else:
                yield flow

    def _all(self) -> Iterator[tuple[Flow | Problem, str]]:
        for number, plan in enumerate(self._plans):
            count = 0
            for found in plan.expand(self._sieve):
                count += isinstance(found[0], Flow)
                yield found
            if count > 1 and plan.differ_by_name_only():
                self._alike[number] = count

    def _repetition(self, flow: Flow, label: str, key: str, looks: Iterator[int]) -> Problem | None:
        """The problem of a repeated value; None where a hash was taken for another's."""
        value = getattr(flow, key)
        if next(looks, None) is None:
            return repeated(key, value, flow.place, label, None)
        all_of_it = ((other, of) for other, of in self._all() if isinstance(other, Flow))
        pair = list(islice(((other.place, of) for other, of in all_of_it if getattr(other, key) == value), 2))
        return repeated(key, value, flow.place, label, pair[0]) if len(pair) == 2 else None


def once_each(
    walk: Callable[[], Iterator[Input | Problem]], flow: str, kind: ProblemKind = "manifest"
) -> Iterator[Input | Problem]:
    """The inputs of a flow, with a Problem (of this kind) in the place of each whose `key` an earlier one has. 16 to 32 bytes
    per key."""
    keys = Names()
    looks = iter(range(MAX_COMPARED))
    for index, item in enumerate(walk()):
        if isinstance(item, Input) and item.key is not None and keys.suspected(item.key):
            problem = _repeated_key(item, index, walk, flow, looks)
            yield replace(problem, kind=kind) if problem is not None else item
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


def repeated(key: str, value: str, place: Place, label: str, first: tuple[Place, str] | None) -> Problem:
    """The problem of a name, or a flow id, that two flows have. `label`: of the file that the second one comes from, which
    is then at fault, "" for none; `first`: the same of the first one, with its place."""
    if label and key == "name":
        before = f"that of {harmless(first[1]) or first[0]} is the same" if first else "another one is the same"
        message = f"the flow name {quoted(value)} of {harmless(label)} is repeated: {before}"
        hint = "rename one of the files, or tell them apart in `name`, with {name} or {path}"
        return Problem("source", message, hint, place, value, harmless(label))
    before = f"; it first stands at {first[0]}" if first else ""
    if first and first[1]:
        before += f", of {harmless(first[1])}"
    if key == "name":
        return Problem(
            "manifest", f"the flow name {quoted(value)} is repeated{before}", "names are unique in a manifest", place, value
        )
    return Problem("manifest", f"the flow {quoted(value)} is given twice{before}", "put its inputs together", place)
