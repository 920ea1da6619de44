"""YAML: the core schema of 1.2, positions, and bounds on what a text may unfold into."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import pytest
import yaml

from batcher.core.model import Flow
from batcher.manifest import document

from .conftest import Desk, walk

FLOW = "version: 1\nflows:\n- name: a\n  template: t\n  inputs: [x]\n"


def parameters(desk: Desk, text: str, **env: str) -> Any:
    (flow,) = desk.load(f"{FLOW}  parameters: {text}\n", env).flows()
    assert isinstance(flow, Flow)
    return dict(flow.parameters)


@pytest.fixture(params=["CSafeLoader", "SafeLoader"])
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "LOADER", getattr(yaml, request.param))


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, word) for word in ("NO", "yes", "on", "off", "y", "n", "TrUe", "nULL", "None")),
        *((word, word) for word in ("12:30:45", "2024-01-01", "2024-01-01T10:00:00Z", "1_000", "1e", "0b1", "1.5.", "+")),
        *((word, None) for word in ("", "~", "null", "Null", "NULL")),
        *((word, True) for word in ("true", "True", "TRUE")),
        *((word, False) for word in ("false", "False", "FALSE")),
        *(("-7", -7), ("0", 0), ("0x", "0x"), ("0o8", "0o8")),
        *(("1.5", 1.5), ("-0.05", -0.05), ("1.0", 1.0), ("1e-07", 1e-07), ("1.2.3", "1.2.3")),
        *(("'true'", "true"), ('"1"', "1"), ("'~'", "~"), ('"\\u65e5"', "日")),
        ("123456789012345678901234567890", 123456789012345678901234567890),
    ],
)
def test_plain_scalars_follow_the_core_schema(desk: Desk, text: str, value: Any) -> None:
    found = parameters(desk, f"{{k: {text}}}" if text else "{k: }")["k"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(
    ("text", "sent"),
    [
        *(("0012", "12"), ("00", "0"), ("-07", "-7"), ("+7", "7"), ("-0", "0"), ("0x1F", "31"), ("0o17", "15")),
        *(("1.10", "1.1"), ("1.", "1.0"), (".5", "0.5"), ("-.5E-1", "-0.05"), ("12E5", "1200000.0"), ("+1.5", "1.5")),
        ("0.12345678901234567890", "0.12345678901234568"),
    ],
)
def test_number_that_would_be_sent_as_another_text_is_refused(desk: Desk, text: str, sent: str) -> None:
    start = FLOW.replace("inputs: [x]", "inputs: [{file: x, additional: [%s]}]")
    for manifest, place in (
        (f"{FLOW}  parameters: {{k: {text}}}\n", "m.yaml:6:19"),
        (f"{FLOW}  additional:\n    k: {{l: {text}}}\n", "m.yaml:7:12"),
        (f"defaults: {{parameters: {{k: {text}}}}}\n{FLOW}", "m.yaml:1:28"),
        (start % text, "m.yaml:5:35"),
        (start % f"&n {text}" + "- {name: b, template: t, additional: {k: *n}, inputs: [y]}\n", "m.yaml:5:35"),
    ):
        problem, *others = desk.refusal(manifest)
        assert str(problem) == f"{place}: {text} would be sent as {sent} (quote it if it is a text, or write {sent})"
        assert [str(other.place) for other in others] == (["m.yaml:6:42"] if "&n" in manifest else [])
    assert parameters(desk, f"{{k: '{text}', l: {sent}}}") == {"k": text, "l": json.loads(sent)}


def test_number_of_a_setting_may_be_spelled_as_one_likes(desk: Desk) -> None:
    manifest = desk.load(f"limits: {{concurrency: 016, timeout: 1.50}}\n{FLOW}")
    assert (manifest.limits.concurrency, manifest.limits.timeout_s) == (16, 1.5)


@pytest.mark.usefixtures("loader")
def test_words_that_yaml_1_1_misread_stay_names(desk: Desk) -> None:
    for word in ("NO", "yes", "on", "12:30:45", "2024-01-01", "1_000"):
        (flow,) = desk.load(FLOW.replace("name: a", f"name: {word}")).flows()
        assert isinstance(flow, Flow)
        assert flow.name == word
    assert parameters(desk, "{yes: 1, on: 2, NO: 3}") == {"yes": 1, "on": 2, "NO": 3}


@pytest.mark.usefixtures("loader")
def test_plain_aliases_are_read_and_values_are_plain(desk: Desk) -> None:
    text = "version: 1\nflows:\n- &a {name: a, template: t, parameters: &p {x: [1, {y: 2}]}, inputs: [x]}\n"
    first, second = desk.load(text + "- {name: b, template: t, parameters: *p, inputs: [x]}\n").flows()
    assert isinstance(first, Flow)
    assert isinstance(second, Flow)
    assert first.parameters == second.parameters == {"x": [1, {"y": 2}]}
    assert type(second.parameters) is dict
    assert type(second.parameters["x"]) is list
    assert type(second.parameters["x"][1]) is dict
    (problem,) = desk.refusal(text + "- *a\n")
    assert "repeated" in problem.message
    assert str(problem.place) == "m.yaml:4:3"


@pytest.mark.usefixtures("loader")
def test_positions_are_those_of_the_node_in_nested_errors(desk: Desk) -> None:
    (problem,) = desk.refusal(FLOW + "  additional:\n    a:\n    - b: 1\n      日本: .inf\n")
    assert str(problem.place) == "m.yaml:9:11"


@pytest.mark.usefixtures("loader")
def test_an_empty_manifest_is_told(desk: Desk) -> None:
    for text in ("", "\n\n", "# nothing but a comment\n", "\ufeff"):
        (problem,) = desk.refusal(text)
        assert "empty" in problem.message
        assert problem.place is not None
    (problem,) = desk.refusal("---\n")
    assert "not null" in problem.message


def test_a_byte_order_mark_is_no_part_of_the_text(desk: Desk) -> None:
    assert desk.load(b"\xef\xbb\xbf" + FLOW.encode()).batch == "m"
    (problem,) = desk.refusal(b"\xef\xbb\xbfversion: 2\nflows: []")
    assert str(problem.place) == "m.yaml:1:10"


def test_what_is_not_utf8_is_told_with_its_offset(desk: Desk) -> None:
    (problem,) = desk.refusal(b"version: 1\nbatch: caf\xe9\n")
    assert "0xe9 at offset 21" in problem.message
    assert str(problem.place) == "m.yaml:2:11"
    (problem,) = desk.refusal("version: 1\n".encode("utf-16"))
    assert "UTF-16" in problem.message


@pytest.mark.parametrize("char", ["\0", "\x07", "\x1b", "\x7f", "\ufffe"])
def test_control_characters_are_refused_at_their_place(desk: Desk, char: str) -> None:
    (problem,) = desk.refusal(f"version: 1\nbatch: a{char}b\n")
    assert str(problem.place) == "m.yaml:2:9"
    assert f"U+{ord(char):04X}" in problem.message


def laughs(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


BOMBS = {
    "billion laughs": FLOW + "  parameters:\n" + "\n".join("    " + line for line in laughs(12).splitlines()),
    "quadratic": FLOW + "  parameters:\n    a: &a [" + "x, " * 20_000 + "]\n    b: [" + "*a, " * 20_000 + "]",
    "recursive list": "a: &a [*a]",
    "recursive mapping": "a: &a {b: {c: *a}}",
    "deep flow": FLOW + "  parameters: {a: " + "[" * 100_000 + "]" * 100_000 + "}",
    "deep mapping": FLOW + "  parameters: " + "{a: " * 50_000 + "}" * 50_000,
    "deep blocks": FLOW + "  parameters:\n" + "".join(" " * n + "a:\n" for n in range(4, 1500)),
    "deep by aliases": FLOW
    + "  parameters:\n    a0: &a0 [[[[[[[[[[x]]]]]]]]]]\n"
    + "".join(f"    a{n}: &a{n} [[[[[[[[[[*a{n - 1}]]]]]]]]]]\n" for n in range(1, 12)),
    "digits": FLOW + "  parameters: {a: " + "9" * 1_000_000 + "}",
    "hexadecimal digits": FLOW + "  parameters: {a: 0x" + "f" * 1_000_000 + "}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_in_bounded_time_and_memory(desk: Desk, name: str) -> None:
    tracemalloc.start()
    began = time.monotonic()
    try:
        problems = desk.refusal(BOMBS[name])
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert time.monotonic() - began < 5
    assert peak_bytes < 100 << 20
    assert all(problem.place and problem.place.line for problem in problems)
    assert all(len(str(problem)) < 400 for problem in problems)


def test_a_scalar_of_10_mb_is_a_value_like_any_other(desk: Desk) -> None:
    assert len(parameters(desk, "{a: '" + "x" * 10_000_000 + "'}")["a"]) == 10_000_000
    (problem,) = desk.refusal(FLOW.replace("name: a", "name: " + "x" * 10_000_000))
    assert len(str(problem)) < 300


def test_ordinary_nesting_and_shared_values_are_no_bombs(desk: Desk) -> None:
    nested = "[" * 90 + "]" * 90
    assert parameters(desk, f"{{a: {nested}}}")
    shared = "\n".join(f"  - {{file: f{n}.png, additional: *s}}" for n in range(2000))
    text = FLOW.replace("inputs: [x]", "additional: &s {" + ", ".join(f"k{n}: v" for n in range(20)) + "}\n  inputs:")
    (flow,) = desk.load(text + shared).flows()
    assert isinstance(flow, Flow)
    assert sum(1 for _ in flow.inputs()) == 2000


def test_the_garbage_collector_is_left_as_it_was(desk: Desk) -> None:
    import gc

    desk.load(FLOW)
    assert gc.isenabled()
    desk.refusal("version: 2")
    assert gc.isenabled()


def test_positions_of_members_are_looked_up_only_where_one_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    real = document.members_of
    monkeypatch.setattr(document, "members_of", lambda *asked: looked.append(asked[1]) or real(*asked))
    desk.write("t.csv", "n,f\none,a.png\ntwo,b.png\n")
    text = (
        "version: 1\ndefaults: {template: t, parameters: {a: {b: 1}}}\nflows:\n"
        "- {name: a, parameters: {a: {c: 2}}, inputs: [x, {file: y, additional: {q: [1]}}, {glob: '*.csv'}]}\n"
        "- {each: {table: t.csv}, name: '{n}', inputs: ['{f}', {table: t.csv, text: '{f}'}]}\n"
    )
    assert walk(desk.load(text)) == []
    assert looked == []
    told = walk(desk.load(text + "- {each: {table: t.csv}, name: 'x{n}', inputs: [{file: '{nope}', key: '{neither}'}]}\n"))
    assert [str(problem.place) for problem in told] == ["m.yaml:6:56", "m.yaml:6:71"]
    assert looked == [0]  # once, however many are told


def test_an_unknown_alias_as_a_key_says_no_more_than_that(desk: Desk) -> None:
    (problem,) = desk.refusal(FLOW + "  parameters: {*nobody : 1, b: {c: 2}}\n")
    assert str(problem.place) == "m.yaml:6:16"
    assert "nothing is anchored" in problem.message
