"""`key`: an input's identity instead of its path."""

from __future__ import annotations

import pytest

from batcher.core.model import Input, Problem
from batcher.manifest import flows

from .conftest import Desk


def keys(found: list[Input | Problem]) -> list[str | None]:
    return [item.key for item in found if isinstance(item, Input)]


def test_a_key_comes_from_a_constant_a_match_a_row_or_the_flows_row(desk: Desk) -> None:
    desk.write("a.png", "x")
    desk.write("t.csv", "sku,file\nA 1,x.png\nB 2,x.png\n")
    desk.write("t.jsonl", '{"id": 7, "p": "a chair"}\n')
    found = desk.inputs(
        """[{file: x.png, key: front}, {text: a chair, key: words}, {glob: "*.png", key: "{stem}"}, x.png,
            {table: t.csv, file: "{file}", key: "{sku}"}, {table: t.jsonl, text: "{p}", key: "no {id}"}]"""
    )
    assert keys(found) == ["front", "words", "a", None, "A 1", "B 2", "no 7"]
    entry = """- {each: {table: t.csv}, name: "{sku}", template: t, inputs: [{file: x, key: "{sku}-1"}]}"""
    first, second = desk.flows(entry)
    assert [keys(list(first.inputs())), keys(list(second.inputs()))] == [["A 1-1"], ["B 2-1"]]


def test_repeated_keys_are_all_told_with_both_places(desk: Desk) -> None:
    desk.write("t.csv", "sku,file\nA,x.png\nB,y.png\nA,z.png\nB,w.png\n")
    found = desk.inputs("""[{file: front.png, key: B}, {table: t.csv, file: "{file}", key: "{sku}"}]""")
    assert keys(found) == ["B", "A"]
    assert [str(item) for item in found if isinstance(item, Problem)] == [
        f"{place}: the key {key} of {label} is repeated; it is that of {first} "
        "(keys are unique in a flow: correct one of them, or use a column that is unique)"
        for place, key, label, first in (
            ("t.csv:3:1", '"B"', "y.png", "front.png at m.yaml:5:12"),
            ("t.csv:4:1", '"A"', "z.png", "x.png at t.csv:2:1"),
            ("t.csv:5:1", '"B"', "w.png", "front.png at m.yaml:5:12"),
        )
    ]
    assert {item.flow for item in found if isinstance(item, Problem)} == {"f"}


def test_the_same_key_in_two_flows_is_no_repetition(desk: Desk) -> None:
    desk.write("t.csv", "sku\nA\n")
    entry = """{name: NAME, template: t, inputs: [{table: t.csv, file: "{sku}", key: "{sku}"}, {file: b, key: B}]}"""
    one, two = desk.flows(f"- {entry.replace('NAME', 'one')}\n- {entry.replace('NAME', 'two')}")
    assert keys(list(one.inputs())) == keys(list(two.inputs())) == ["A", "B"]


def test_many_repetitions_are_told_without_a_search_for_each(desk: Desk) -> None:
    desk.write("t.csv", "sku\n" + "A\n" * 2000)
    found = desk.inputs("""[{table: t.csv, file: "{sku}", key: "{sku}"}]""")
    assert len([item for item in found if isinstance(item, Problem)]) == 1999
    assert sum("it is that of" in str(item) for item in found) == flows.MAX_COMPARED


def test_two_keys_that_share_a_hash_are_no_repetition(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batcher.core.names.hash", lambda name: 1, raising=False)
    desk.write("t.csv", "sku\nA\nB\nC\nA\n")
    found = desk.inputs("""[{table: t.csv, file: "{sku}", key: "{sku}"}]""")
    assert keys(found) == ["A", "B", "C"]
    assert len(found) == 4


@pytest.mark.parametrize(("key", "said"), [("{a}", "the input's key is empty"), ("{b}", "201 characters"), ("{c}", "control")])
def test_a_key_that_a_row_makes_unfit_is_told_at_the_row(desk: Desk, key: str, said: str) -> None:
    desk.write("t.jsonl", '{"a": " ", "b": "' + "x" * 201 + '", "c": "\\u001b"}\n')
    (problem,) = desk.inputs(f"""[{{table: t.jsonl, file: x, key: "{key}"}}]""")
    assert str(problem).startswith("t.jsonl:1:1: ")
    assert said in str(problem)
