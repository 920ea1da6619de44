"""From the tree to the plans: reads every entry under `flows`, with the defaults under it, and notes what is wrong.

In: the checked trees of the manifest's files. Out: one `Plan` per entry. Called by `load`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from batcher.core.model import Input, Place
from batcher.manifest.defaults import Profiles, inherited, layered
from batcher.manifest.findings import Findings, Mark, Unfit, quoted
from batcher.manifest.flows import Parameters, Plan
from batcher.manifest.include import ManifestFile
from batcher.manifest.input_entries import check_no_tag, compile_entry, compile_source
from batcher.manifest.inputs import Entry, unknown_in
from batcher.manifest.row_sources import GLOB_COLUMNS, GLOB_ORIGIN
from batcher.manifest.template import Const, Node, Scope, Text, compile_text, compile_value
from batcher.manifest.tree import BROKEN, Map, Seq, Value
from batcher.manifest.values import check_flow_id, check_name, check_template

_GLOB_SCOPE = Scope(dict.fromkeys(GLOB_COLUMNS, 0), True, 0, GLOB_ORIGIN)
_EMPTY_SCOPE = Scope({}, True, 0, "this flow")


def plans(files: Sequence[ManifestFile], findings: Findings) -> list[Plan]:
    """One plan per entry under `flows` of each file. Where problems were noted they are not to be expanded."""
    planner = _Planner(Profiles(files, findings), findings)
    return [plan for file in files for plan in planner.plans(file)]


class _Planner:
    def __init__(self, profiles: Profiles, findings: Findings) -> None:
        self._profiles = profiles
        self._findings = findings
        self._seen: dict[tuple[str, str], Mark] = {}  # (key, value) of plain flows: where it first stands
        self._file: ManifestFile
        self._layered: dict[str | None, Map]  # per profile: what lies under a flow of this file that extends it
        self._defaults: Map  # what lies under the flow that is being read

    def plans(self, file: ManifestFile) -> Iterator[Plan]:
        self._file = file
        self._layered = {}
        self._check_tags(file.tree)
        flows = file.tree.get("flows")
        if isinstance(flows, Seq):
            for index, raw in enumerate(flows):
                if isinstance(raw, Map):
                    yield self._plan(raw, flows.marks[index + 1])

    def _check_tags(self, tree: Map) -> None:
        profiles = tree.get("profiles")
        for given in (tree.get("defaults"), *(profiles.values() if isinstance(profiles, Map) else ())):
            if isinstance(given, Map):
                check_no_tag(given.get("additional"), self._findings)

    def _under(self, raw: Map) -> Map | None:
        """What lies under a flow, merged; None where its profile is wrong."""
        extends = raw.get("extends")
        if extends is BROKEN:
            return None
        name = None if extends is None else str(extends)
        if name not in self._layered:
            profiles = self._profiles.under(raw)
            if profiles is None:
                return None
            self._layered[name] = layered((*self._file.defaults, *profiles))
        return self._layered[name]

    def _plan(self, raw: Map, mark: int) -> Plan:
        active = raw.get("each") is not None
        under = self._under(raw)
        self._defaults = under if under is not None else layered(self._file.defaults)
        each_raw = raw.get("each")
        each = compile_source(each_raw, self._findings, active=False) if isinstance(each_raw, Map) else None
        name = self._text(raw, "name", check_name, active)
        template, flow_id = self._template(raw, mark, active, profile_known=under is not None)
        parameters = self._parameters(raw, template, flow_id, active)
        additional = self._additional(raw, flow_id, active)
        entries = self._entries(raw, active)
        self._check_unique(raw, mark, "name", name, active)
        self._check_unique(raw, mark, "flow_id", flow_id, active)
        plan = Plan(
            name or Const(""), template, flow_id, parameters, additional, entries, each,
            self._findings.place(mark), self._file.base, self._findings.place, self._place_of_template(raw, template, active),
        )  # fmt: skip
        self._check_names(plan, active)
        return plan

    def _text(self, raw: Map, key: str, check: Callable[[str], str], active: bool) -> Const | Text | None:
        text = raw.get(key)
        return self._checked(text, raw.mark(key), check, active) if isinstance(text, str) else None

    def _checked(self, text: str, mark: Mark, check: Callable[[str], str], active: bool) -> Const | Text:
        node = compile_text(text, mark, self._findings, active=active)
        if isinstance(node, Const):
            try:
                check(str(node.value))
            except Unfit as unfit:
                self._findings.add(mark, unfit.message, unfit.hint)
        return node

    def _template(
        self, raw: Map, mark: int, active: bool, profile_known: bool
    ) -> tuple[Const | Text | None, Const | Text | None]:
        """The flow's template, or the flow id that it is given instead."""
        flow_id = self._text(raw, "flow_id", check_flow_id, active)
        if raw.get("flow_id") is not None:
            for key in ("extends", "template", "parameters", "additional"):
                if raw.get(key) is not None and raw[key] is not BROKEN:
                    self._findings.add(
                        raw.key_mark(key),
                        f"`{key}` cannot be given with `flow_id`: that flow exists already",
                        "leave it out" + (", or put it on the inputs" if key == "additional" else ""),
                    )
            return None, flow_id
        template, template_mark = inherited(self._defaults, raw, "template")
        if isinstance(template, str):
            return self._checked(template, template_mark, check_template, active), None
        if template is None and profile_known:
            self._findings.add(mark, "this flow has neither `template` nor `flow_id`", "add one, or a default template")
        return None, None

    def _place_of_template(self, raw: Map, template: Const | Text | None, active: bool) -> Callable[[], Place] | None:
        """Where it stands, where several flows may have it from there."""
        if not isinstance(template, Const) or ("template" in raw and not active):
            return None
        return partial(self._findings.place, inherited(self._defaults, raw, "template")[1])

    def _parameters(self, raw: Map, template: Const | Text | None, flow_id: Const | Text | None, active: bool) -> Parameters:
        own = self._value(raw.get("parameters"), raw.mark("parameters"), active) or Const({})
        if flow_id is not None:
            return Parameters(Const({}), Const({}), None)
        of = self._defaults.get("template")
        value, mark = inherited(self._defaults, raw, "parameters")
        # Parameters belong to a template; without one in the defaults they are meant for every flow.
        other = isinstance(of, str) and isinstance(template, Const) and template.value != of
        both = own if other else self._value(value, mark, active) or Const({})
        return Parameters(own, both, str(of) if isinstance(of, str) and not other else None)

    def _additional(self, raw: Map, flow_id: Const | Text | None, active: bool) -> Node | None:
        check_no_tag(raw.get("additional"), self._findings)
        if flow_id is not None:
            return None
        value, mark = inherited(self._defaults, raw, "additional")
        return self._value(value, mark, active)

    def _value(self, value: Value, mark: Mark, active: bool) -> Node | None:
        return compile_value(value, mark, self._findings, active=active) if isinstance(value, Map) else None

    def _entries(self, raw: Map, active: bool) -> tuple[Input | Entry, ...]:
        inputs = raw.get("inputs")
        if not isinstance(inputs, Seq):
            return ()
        made = (
            compile_entry(item, inputs.marks[index + 1], self._file.base, self._findings, active=active)
            for index, item in enumerate(inputs)
        )
        return tuple(entry for entry in made if entry is not None)

    def _check_unique(self, raw: Map, flow_mark: int, key: str, node: Const | Text | None, active: bool) -> None:
        if not isinstance(node, Const):
            return
        mark, value = raw.mark(key), str(node.value)
        if active:
            if raw["each"] is not BROKEN:
                what = f"with `each`, a `{key}` must differ from flow to flow"
                self._findings.add(mark, what, 'use a placeholder, like "{stem}"')
            return
        first = self._seen.get((key, value))
        if first is None:
            self._seen[key, value] = mark
        else:
            mark = mark if mark != first else flow_mark  # an alias stands elsewhere than its name
            what = f"the flow name {quoted(value)}" if key == "name" else f"the flow id {quoted(value)}"
            self._findings.add(
                mark,
                f"{what} is repeated",
                "names are unique in a manifest" if key == "name" else "put its inputs together into one flow",
                flow=value if key == "name" else None,
                first=first,
            )

    def _check_names(self, plan: Plan, active: bool) -> None:
        """Notes placeholders that are known to name nothing before any table is opened."""
        if not active:
            known: Scope | None = _EMPTY_SCOPE
        else:
            known = _GLOB_SCOPE if plan.each and plan.each.kind == "glob" else None
        if known is None:
            return
        wrong = list(unknown_in(plan.nodes(), known))
        for entry in plan.entries:
            if isinstance(entry, Entry):
                wrong += entry.unknown_names(known)
        for mark, unfit in wrong:
            self._findings.add(mark, unfit.message, unfit.hint)
