"""`${NAME}` from the environment and `{placeholders}` from rows: what is replaced, and what never is."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.core.model import Flow, Input, Problem, TextSource
from batcher.manifest import load
from batcher.manifest.environment import Data, pieces, resolve
from batcher.manifest.findings import Unfit
from batcher.manifest.template import Name, parse

from .conftest import Desk, labels, walk

NAMES = st.text(string.ascii_letters + string.digits + " _-äß日", min_size=1, max_size=12).filter(str.strip)


def test_references_are_resolved_in_every_string_value_but_not_in_keys(desk: Desk) -> None:
    manifest = desk.load(
        """
        version: 1
        batch: ${BATCH}
        endpoint: ${URL:-https://example.org}/v1/
        limits: {rate: "${RATE:-3/s}"}
        defaults: {additional: {shop: "${SHOP}"}}
        flows:
        - name: a-${SHOP}
          template: ${T:-t}
          parameters: {"${SHOP}": ["${SHOP}", "$$ $ 5$ $x"]}
          inputs: ["${SHOP}.png", {text: "for $$5", additional: "${EMPTY:-none}"}]
        """,
        {"BATCH": "b", "SHOP": "main", "EMPTY": ""},
    )
    (flow,) = manifest.flows()
    assert isinstance(flow, Flow)
    assert (manifest.batch, manifest.endpoint, manifest.limits.rate_per_s) == ("b", "https://example.org/v1", 3.0)
    assert (flow.name, flow.template, flow.additional) == ("a-main", "t", {"shop": "main"})
    assert flow.parameters == {"${SHOP}": ["main", "$ $ 5$ $x"]}
    path, text = flow.inputs()
    assert isinstance(path, Input)
    assert isinstance(text, Input)
    assert (path.label, text.source, text.additional) == ("main.png", TextSource("for $5"), "none")


def test_a_value_from_the_environment_is_data(desk: Desk) -> None:
    desk.write("in[1]/x{stem}.png")
    desk.write("in1/wrong.png")
    env = {"DIR": "in[1]", "YAML": "{a: [1", "HOLE": "{stem} {stem.__class__} }{"}
    found = desk.inputs("""[{glob: "${DIR}/*.png", additional: ["${YAML}", "${HOLE} {index}", "${N:-{stem}"]}]""", env)
    (item,) = found
    assert isinstance(item, Input)
    assert item.label == "in[1]/x{stem}.png"
    assert item.additional == ["{a: [1", "{stem} {stem.__class__} }{ 0", "{stem"]


def test_a_placeholder_cannot_come_half_from_the_environment(desk: Desk) -> None:
    problems = desk.refusal(
        'version: 1\nflows:\n- name: a\n  template: t\n  inputs: [{glob: "*", additional: "{${X}}"}]', {"X": "stem"}
    )
    assert "a single `{`" in problems[0].message


def test_without_rows_braces_are_plain_characters(desk: Desk) -> None:
    (flow,) = desk.flows(
        """
        - name: "{stem}"
          template: t
          additional: {a: "{{x}}"}
          inputs: ["{a}.png", {text: "{}"}, {file: "c[1]{{.png", additional: "{x!r}"}]
        """
    )
    assert flow.name == "{stem}"
    assert flow.additional == {"a": "{{x}}"}
    assert labels(list(flow.inputs())) == ["{a}.png", "{}", "c[1]{{.png"]


def test_a_pattern_names_its_files(desk: Desk) -> None:
    for name in ("a/b.tar.gz", "a/.hidden", "a/none", "a/dot."):
        desk.write(name)
    members = "{path}|{name}|{stem}|{suffix}|{parent}|{index}"
    found = desk.inputs(f"""[{{glob: "a/*", additional: ["{members}", "{{index}}", "{{{{{{stem}}}}}}"]}}]""")
    assert [item.additional for item in found if isinstance(item, Input)] == [
        ["a/b.tar.gz|b.tar.gz|b.tar|.gz|a|0", 0, "{b.tar}"],
        ["a/dot.|dot.|dot.||a|1", 1, "{dot.}"],
        ["a/none|none|none||a|2", 2, "{none}"],
    ]
    desk.write("top.png")
    (item,) = desk.inputs("""[{glob: "*.png", additional: "{parent}/{stem}"}]""")
    assert isinstance(item, Input)
    assert item.additional == "./top"


def test_a_lone_placeholder_keeps_the_type_of_jsonl_and_a_longer_text_spells_it(desk: Desk) -> None:
    values = [1, 1.5, True, None, "x", [1, {"a": None}], {"k": "v"}, 10**30]
    desk.write("t.jsonl", "".join(json.dumps({"v": v}) + "\n" for v in values))
    found = desk.inputs("""[{table: t.jsonl, text: prompt, additional: "{v}"}]""")
    assert [item.additional for item in found if isinstance(item, Input)] == values
    found = desk.inputs("""[{table: t.jsonl, text: "p {v}"}]""")
    assert labels(found) == ["p 1", "p 1.5", "p true", "p x", f"p {10**30}"]
    problems = [str(item) for item in found if isinstance(item, Problem)]
    assert [text[:50] for text in problems] == [
        "t.jsonl:4:1: {v} is null in this row (a text takes"[:50],
        "t.jsonl:6:1: {v} is a list in this row (a text tak"[:50],
        "t.jsonl:7:1: {v} is a mapping in this row (a text "[:50],
    ]


def test_inner_names_shadow_outer_ones_and_the_rest_is_seen_through(desk: Desk) -> None:
    desk.write("outer.csv", "id,name,path\n7,seven,nowhere\n")
    desk.write("seven/x.png")
    desk.write("7.csv", "name,file\ninner,y.png\n")
    desk.write("7.jsonl", '{"file": "z.png", "name": 1}\n{"file": "zz.png"}\n')
    (flow,) = desk.flows(
        """
        - each: {table: outer.csv}
          name: "{name}"
          template: "t-{id}"
          parameters: {n: "{id}"}
          additional: {path: "{path}"}
          inputs:
          - "{path}.png"
          - {glob: "{name}/*", additional: "{id} {name} {path}"}
          - {table: "{id}.csv", file: "{file}", additional: "{id} {name} {path}"}
          - {table: "{id}.jsonl", file: "{file}", additional: "{name}"}
        """
    )
    assert (flow.name, flow.template, flow.parameters, flow.additional) == (
        "seven", "t-7", {"n": "7"}, {"path": "nowhere"},
    )  # fmt: skip
    found = [(item.label, item.additional) for item in flow.inputs() if isinstance(item, Input)]
    assert found[1:] == [
        ("seven/x.png", "7 x.png seven/x.png"),
        ("y.png", "7 inner nowhere"),
        ("z.png", 1),
        ("zz.png", "seven"),
    ]
    assert found[0][0] == "nowhere.png"


def test_a_column_with_an_unusual_name_can_be_used_unless_it_has_syntax_in_it(desk: Desk) -> None:
    desk.write("t.csv", "a b,日本,x-y,a.b\n1,2,3,4\n")
    (item,) = desk.inputs("""[{table: t.csv, file: "{a b}{日本}{x-y}"}]""")
    assert isinstance(item, Input)
    assert item.label == "123"
    problems = desk.refusal('version: 1\nflows:\n- {name: a, template: t, inputs: [{table: t.csv, file: "{a.b}"}]}')
    assert "no plain name" in problems[0].message


def test_an_unknown_column_is_told_once_where_it_is_asked_for(desk: Desk) -> None:
    desk.write("t.csv", "sku,file\n" + "1,a.png\n" * 3)
    manifest = desk.flow(
        """
        - each: {table: t.csv}
          name: "{skuu}"
          template: t
          inputs: ["{file}", {table: t.csv, file: "{fiel}"}]
        - name: b
          template: t
          inputs:
          - {table: t.csv, file: "{fiel}", additional: {x: ["{zzz}"]}}
        """
    )
    assert [str(problem) for problem in walk(manifest)] == [
        "m.yaml:4:9: no {skuu} in t.csv (did you mean `sku`?)",
        "m.yaml:10:26: no {fiel} in t.csv (did you mean `file`?)",
        "m.yaml:10:53: no {zzz} in t.csv (there are: sku, file)",
    ]


def test_a_row_without_the_column_is_told_with_the_row(desk: Desk) -> None:
    desk.write("t.jsonl", '{"sku": 1}\n\n{"skuu": 2}\n')
    found = desk.inputs("""[{table: t.jsonl, file: "{sku}.png"}]""")
    assert labels(found) == ["1.png"]
    assert str(found[1]) == "t.jsonl:3:1: no {sku} in this row (did you mean `skuu`?)"


def test_defaults_take_part_in_an_each_flow_as_if_they_stood_there(desk: Desk) -> None:
    desk.write("a.png")
    manifest = desk.load(
        """
        version: 1
        defaults: {template: t, additional: {from: "{name}"}}
        flows:
        - {each: {glob: "*.png"}, name: "{stem}", inputs: ["{path}"]}
        - {name: plain, inputs: [a.png]}
        """
    )
    assert [flow.additional for flow in manifest.flows() if isinstance(flow, Flow)] == [
        {"from": "a.png"}, {"from": "{name}"},
    ]  # fmt: skip


@given(st.text())
def test_parsing_never_fails_but_for_an_unfit_text(text: str) -> None:
    try:
        parts = parse(text)
    except Unfit:
        return
    rebuilt = "".join(
        f"{{{part.name}}}" if isinstance(part, Name) else part.replace("{", "{{").replace("}", "}}") for part in parts
    )
    assert rebuilt == text


@given(st.lists(st.one_of(NAMES.map(Name), st.text())))
def test_what_is_escaped_is_read_back(parts: list[str | Name]) -> None:
    text = "".join(
        f"{{{part.name}}}" if isinstance(part, Name) else part.replace("{", "{{").replace("}", "}}") for part in parts
    )
    plain = "".join(f"\0{part.name}\1" if isinstance(part, Name) else part for part in parts)
    assert "".join(f"\0{part.name}\1" if isinstance(part, Name) else part for part in parse(text)) == plain


@given(st.text(), st.text().filter(lambda value: value.isprintable()))
def test_the_environment_is_never_read_again(text: str, value: str) -> None:
    literal = text.replace("$", "$$")
    resolved = resolve(f"{literal}${{X}}{literal}", {"X": value})
    assert resolved == text + value + text
    assert [piece for piece in pieces(resolved) if isinstance(piece, Data)] == ([value] if value else [])


@given(st.dictionaries(NAMES, st.text().filter(lambda t: "\0" not in t), min_size=1, max_size=5))
def test_any_row_comes_out_as_it_went_in(tmp_path_factory: pytest.TempPathFactory, row: dict[str, Any]) -> None:
    folder = Path(tmp_path_factory.mktemp("rows"))
    (folder / "t.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    template = {f"k{n}": f"{{{name}}}" for n, name in enumerate(row)}
    item = {"table": "t.jsonl", "text": "p", "additional": template}
    document = {"version": 1, "flows": [{"name": "a", "template": "t", "inputs": [item]}]}
    (folder / "m.yaml").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    (flow,) = load(folder / "m.yaml", {}).flows()
    assert isinstance(flow, Flow)
    (found,) = flow.inputs()
    assert isinstance(found, Input)
    assert found.additional == {f"k{n}": value for n, value in enumerate(row.values())}
