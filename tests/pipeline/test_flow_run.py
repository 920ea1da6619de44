"""Who may change a flow that is under way: the table in `FlowRun`'s docstring, held against the code."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

from batcher.core.facts import FileStat, InputFacts
from batcher.core.lifecycle import FlowEvent, FlowState, IllegalTransition
from batcher.core.model import ABSENT, FileSource, Flow, Input
from batcher.core.planning import Action, Change, FlowPlan, InputPlan, Tally
from batcher.pipeline import flow_run
from batcher.pipeline.flow_run import FlowRun, Payload

from .batch import HERE

ROW = re.compile(r"^ +([a-z_]+) {2,}([a-z_]+(?:, [a-z_]+)*)$", re.MULTILINE)


def flow(settled: list[FlowRun], ready: list[Payload] | None = None) -> FlowRun:
    spec = Flow("chairs", "model_generate_fromimage", None, {}, None, HERE, lambda: iter(()))
    plan = FlowPlan(spec, Action.NEW, None, b"", b"", Tally(), (), lambda: iter(()))
    return FlowRun(plan, (ready if ready is not None else []).append, settled.append)


def payload(one: FlowRun, number: int = 0) -> Payload:
    source = Input(f"{number}.png", FileSource(f"{number}.png"), None, ABSENT, HERE)
    plan = InputPlan(source, bytes([number]) * 16, FileStat(1, 1, 1), "image/png", b"", Change.NEW, None)
    return Payload(one, plan, InputFacts(plan.key), None, 0)


def table() -> dict[str, set[str]]:
    """Method → the modules that may call it."""
    return {method: set(modules.split(", ")) for method, modules in ROW.findall(FlowRun.__doc__ or "")}


def calls(methods: set[str]) -> dict[str, set[str]]:
    """Method → the modules that call it on something that is named `flow`."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in Path(flow_run.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in methods:
                name = getattr(node.value, "id", getattr(node.value, "attr", ""))
                if name == "flow":
                    found[node.attr].add(path.stem)
    return found


def test_each_change_is_made_by_the_modules_that_the_table_names_and_by_no_other() -> None:
    public = {name for name in vars(FlowRun) if not name.startswith("_")}
    methods = {name for name in public if callable(getattr(FlowRun, name)) and name not in FlowRun.__slots__}
    assert set(table()) == methods
    assert calls(methods) == table()


def test_nothing_is_changed_past_the_methods() -> None:
    one = flow([])
    for name, value in vars(FlowRun).items():
        if isinstance(value, property):
            with pytest.raises(AttributeError):
                setattr(one, name, None)
    with pytest.raises(IllegalTransition):
        one.on(FlowEvent.ANNOUNCE_START)
    assert one.facts.state is FlowState.PLANNED


def test_flow_is_handed_on_once_whichever_change_is_the_last() -> None:
    def opened(one: FlowRun) -> None:
        one.opening_ended()

    def produced(one: FlowRun) -> None:
        one.produced()

    def came_back(one: FlowRun) -> None:
        one.came_back()

    for changes in ([opened, produced, came_back], [came_back, opened, produced], [produced, came_back, opened]):
        settled: list[FlowRun] = []
        one = flow(settled)
        one.hand_on(payload(one))
        for number, change in enumerate(changes, 1):
            change(one)
            one.pass_on()
            assert len(settled) == (number == len(changes))


def test_payloads_reach_the_workers_in_order_once_their_flow_is_open() -> None:
    ready: list[Payload] = []
    one = flow([], ready)
    payloads = [payload(one, number) for number in range(3)]
    one.hand_on(payloads[0])
    one.hand_on(payloads[1])
    assert ready == []
    one.opening_ended()
    one.hand_on(payloads[2])
    assert ready == payloads
