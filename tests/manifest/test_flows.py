"""What a manifest becomes: the contract's example, defaults, paths, names, and the file itself."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import pytest

from batcher.core.model import ABSENT, FileSource, Flow, Input, Limits, Place, Problem
from batcher.core.names import Names
from batcher.manifest import ManifestError, load
from batcher.manifest import flows as flows_module

from .conftest import Desk, labels, walk

CONTRACT = """
version: 1
batch: autumn-chairs
endpoint: https://flows.generio.ai
defaults:
  template: model_generate_fromimage
  parameters: {quality: high, texture: true}
  additional: {campaign: autumn}
limits:
  concurrency: 16
  rate: 20/s
  bandwidth: 20MB/s
  memory: 64MiB
  timeout: 60s
  retries: 8
  settle: 15s
  min_age: 0s
flows:
- name: chairs
  inputs:
  - photos/chair-1.png
  - file: photos/chair-2.png
    mime: image/png
    additional: {sku: CH-2}
  - glob: photos/stools/**/*.webp
    additional: {sku: "{stem}"}
  - table: details.csv
    file: "photos/{file}"
    additional: {sku: "{sku}"}
- name: prompts
  template: model_generate_fromprompt
  inputs: [{text: A modern office chair}, {file: prompts/stool.txt}]
- each: {glob: "inbox/*.png"}
  name: "{stem}"
  inputs: ["{path}"]
- name: prepared
  flow_id: 6941ac784e4fd44b7afb5f4c
  inputs: [photos/door.png]
"""


def test_the_contracts_example_is_read_as_it_says(desk: Desk) -> None:
    desk.write("details.csv", "file,sku\nc.png,CH-3\n")
    for name in ("photos/stools/x/b.webp", "photos/stools/a.webp", "inbox/new.png"):
        desk.write(name)
    manifest = desk.load(CONTRACT)
    assert (manifest.name, manifest.path) == ("m.yaml", str(desk.folder / "m.yaml"))
    assert (manifest.folder, manifest.batch) == (str(desk.folder), "autumn-chairs")
    assert manifest.endpoint == "https://flows.generio.ai"
    assert manifest.limits == Limits(16, 20.0, 20e6, 64 << 20, 60.0, 8, 15.0, 0.0)
    assert walk(manifest) == []
    found = {flow.name: flow for flow in manifest.flows() if isinstance(flow, Flow)}
    assert list(found) == ["chairs", "prompts", "new", "prepared"]
    chairs, prompts, new, prepared = found.values()
    quality = {"quality": "high", "texture": True}
    campaign = {"campaign": "autumn"}
    assert (chairs.template, chairs.parameters, chairs.additional) == ("model_generate_fromimage", quality, campaign)
    assert (prompts.template, prompts.parameters, prompts.additional) == ("model_generate_fromprompt", {}, campaign)
    assert (new.template, new.parameters, new.additional) == ("model_generate_fromimage", quality, campaign)
    assert (prepared.template, prepared.parameters, prepared.additional) == (None, {}, None)
    assert prepared.flow_id == "6941ac784e4fd44b7afb5f4c"
    photos = f"{desk.folder}/photos"
    assert list(chairs.inputs()) == [
        Input("photos/chair-1.png", FileSource(f"{photos}/chair-1.png"), None, ABSENT, Place("m.yaml", 21, 5)),
        Input("photos/chair-2.png", FileSource(f"{photos}/chair-2.png"), "image/png", {"sku": "CH-2"}, Place("m.yaml", 22, 5)),
        Input("photos/stools/a.webp", FileSource(f"{photos}/stools/a.webp"), None, {"sku": "a"}, Place("m.yaml", 25, 5)),
        Input("photos/stools/x/b.webp", FileSource(f"{photos}/stools/x/b.webp"), None, {"sku": "b"}, Place("m.yaml", 25, 5)),
        Input("photos/c.png", FileSource(f"{photos}/c.png"), None, {"sku": "CH-3"}, Place("details.csv", 2, 1)),
    ]
    assert labels(list(prompts.inputs())) == ["A modern office chair", "prompts/stool.txt"]
    assert labels(list(new.inputs())) == ["inbox/new.png"]
    assert (new.place, chairs.place) == (Place("m.yaml", 33, 3), Place("m.yaml", 19, 3))


def test_streams_are_the_same_each_time_and_lazy(desk: Desk) -> None:
    desk.write("t.csv", "n\n" + "".join(f"f{number}\n" for number in range(1000)))
    manifest = desk.flow("""- {each: {table: t.csv}, name: "{n}", template: t, inputs: ["{n}.png", {text: hello}]}""")
    first = list(islice(manifest.flows(), 3))
    assert first == list(islice(manifest.flows(), 3))
    flow = first[2]
    assert isinstance(flow, Flow)
    assert list(flow.inputs()) == list(flow.inputs())
    assert labels(list(flow.inputs())) == ["f2.png", "hello"]
    assert sum(1 for _ in manifest.flows()) == 1000


# --- Defaults ---------------------------------------------------------------------------------------------------------


def with_defaults(desk: Desk, defaults: str, flow: str) -> Flow:
    text = f"version: 1\ndefaults: {defaults}\nflows:\n- {{name: f, inputs: [a], {flow}}}\n"
    (found,) = desk.load(text).flows()
    assert isinstance(found, Flow)
    return found


@pytest.mark.parametrize(
    ("defaults", "flow", "parameters", "additional"),
    [
        ("{template: t, additional: {a: {x: 1, y: 2}, b: [1]}}", "additional: {a: {y: 3, z: 4}, b: [2]}", {},
         {"a": {"x": 1, "y": 3, "z": 4}, "b": [2]}),
        ("{template: t, additional: {a: 1, b: 2}}", "additional: {a: null}", {}, {"b": 2}),
        ("{template: t, additional: {a: {x: 1, y: 2}}}", "additional: {a: {x: null}}", {}, {"a": {"y": 2}}),
        ("{template: t, additional: {a: 1}}", "additional: null", {}, None),
        ("{template: t, additional: {a: 1}}", "additional: {a: {b: 2}}", {}, {"a": {"b": 2}}),
        ("{template: t, additional: {a: {b: 2}}}", "additional: {a: 1}", {}, {"a": 1}),
        ("{template: t}", "additional: {a: null}", {}, {"a": None}),
        ("{template: t}", "additional: {}", {}, {}),
        ("{template: t, parameters: {q: 1, r: 2}}", "parameters: {q: 3}", {"q": 3, "r": 2}, None),
        ("{template: t, parameters: {q: 1, r: 2}}", "parameters: {q: null}", {"r": 2}, None),
        ("{template: t, parameters: {q: 1}}", "parameters: null", {}, None),
        ("{template: t, parameters: {q: 1}}", "template: t", {"q": 1}, None),
        ("{template: t, parameters: {q: 1}}", "template: u", {}, None),
        ("{template: t, parameters: {q: 1}}", "template: u, parameters: {s: 1}", {"s": 1}, None),
        ("{parameters: {q: 1}}", "template: u, parameters: {s: 1}", {"q": 1, "s": 1}, None),
        ("{template: t, parameters: {q: 1}, additional: {a: 1}}", "flow_id: x", {}, None),
        ("{template: t, parameters: {q: 1}}", "template: null, flow_id: x", {}, None),
        ("null", "template: t", {}, None),
    ],
)  # fmt: skip
def test_defaults_are_merged_under_a_flow(desk: Desk, defaults: str, flow: str, parameters: object, additional: object) -> None:
    found = with_defaults(desk, defaults, flow)
    assert (found.parameters, found.additional) == (parameters, additional)


def test_a_removed_template_leaves_none(desk: Desk) -> None:
    (problem,) = desk.refusal("version: 1\ndefaults: {template: t}\nflows:\n- {name: f, template: null, inputs: [a]}\n")
    assert "neither `template` nor `flow_id`" in problem.message


def test_where_rows_name_the_template_the_defaults_parameters_go_to_their_own_only(desk: Desk) -> None:
    desk.write("t.csv", "n,t\n1,own\n2,other\n")
    manifest = desk.load(
        """
        version: 1
        defaults: {template: own, parameters: {q: 1}}
        flows:
        - {each: {table: t.csv}, name: "{n}", template: "{t}", parameters: {n: "{n}"}, inputs: [a]}
        """
    )
    assert [(flow.template, flow.parameters) for flow in manifest.flows() if isinstance(flow, Flow)] == [
        ("own", {"q": 1, "n": "1"}),
        ("other", {"n": "2"}),
    ]


# --- Inputs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spelled", "label"),
    [
        ("c[1].png", "c[1].png"), ("-dash.png", "-dash.png"), ("日本.png", "日本.png"), ("~", "~"), ("~/a", "~/a"),
        ("a b.png", "a b.png"), ("a\nb", "a\nb"), (" a ", " a "), ("*.png", "*.png"), ("$HOME", "$HOME"),
        ("./a.png", "a.png"), ("x/./y//z", "x/y/z"), ("../a", "../a"), ("x/../a", "x/../a"), ("..", ".."),
        (".hidden", ".hidden"), ("a.", "a."), ("a/", "a/"), ("x./y", "x./y"), ("x./.", "x."), (".", "."),
    ],
)  # fmt: skip
def test_a_plain_string_is_a_path_and_never_a_pattern(desk: Desk, spelled: str, label: str) -> None:
    literal = '"' + spelled.replace("\n", "\\n") + '"'
    for entry in (literal, f"{{file: {literal}}}"):
        (found,) = desk.inputs(f"[{entry}]")
        assert isinstance(found, Input)
        assert (found.label, found.source) == (label, FileSource(f"{desk.folder}/{label}"))


def test_absolute_paths_stay_as_they_are_and_links_are_not_followed(desk: Desk) -> None:
    (desk.folder / "link").symlink_to("/")
    for spelled, path in (("/x//y", "/x/y"), ("link/a", f"{desk.folder}/link/a")):
        (found,) = desk.inputs(f"[{spelled}]")
        assert isinstance(found, Input)
        assert found.source == FileSource(path)


@pytest.mark.parametrize("value", ["null", "1", "text", "[1, {a: null}]", "{a: {batcher: 1}}", "true", "''", "{}"])
def test_an_inputs_additional_is_any_json_value(desk: Desk, value: str) -> None:
    import yaml

    (found,) = desk.inputs(f"[{{file: a, additional: {value}}}]")
    assert isinstance(found, Input)
    assert found.additional == yaml.safe_load(value)
    (found,) = desk.inputs("[{file: a}]")
    assert isinstance(found, Input)
    assert found.additional is ABSENT


def test_the_same_file_twice_is_allowed_and_a_label_is_short(desk: Desk) -> None:
    found = desk.inputs(f"[a.png, a.png, {{text: {'x' * 100}}}]")
    assert labels(found) == ["a.png", "a.png", "x" * 60]


def test_what_rows_bring_is_checked_as_what_is_written(desk: Desk) -> None:
    desk.write("t.jsonl", '{"n": "a", "m": "png", "x": {"batcher": 1}, "p": "data:,"}\n')
    found = desk.inputs(
        """
    - {table: t.jsonl, file: "{n}", mime: "{m}"}
    - {table: t.jsonl, file: "{n}", additional: "{x}"}
    - {table: t.jsonl, text: "{p}"}
    - {table: t.jsonl, file: "{n}", additional: {x: "{x}"}}
    """
    )
    assert [str(item).split(" (")[0] for item in found if isinstance(item, Problem)] == [
        't.jsonl:1:1: "png" is no MIME type',
        "t.jsonl:1:1: `additional` may not hold the member `batcher`",
        "t.jsonl:1:1: the prompt begins with `data:`",
    ]
    assert labels(found) == ["a"]


# --- Names ------------------------------------------------------------------------------------------------------------


def test_names_and_ids_repeated_by_rows_are_told_with_both_places(desk: Desk) -> None:
    desk.write("t.csv", "n,i\na,1\nb,2\na,3\nplain,4\nc,2\n,5\n" + "x" * 201 + ",6\nd,../7\n")
    manifest = desk.flow(
        """
        - {name: plain, template: t, inputs: [a]}
        - {each: {table: t.csv}, name: "{n}", flow_id: "{i}", inputs: [a]}
        - {name: b, template: t, inputs: [a]}
        """
    )
    found = list(manifest.flows())
    assert [flow.name for flow in found if isinstance(flow, Flow)] == ["plain", "a", "b"]
    assert [str(item).split(" (")[0] for item in found if isinstance(item, Problem)] == [
        't.csv:4:1: the flow name "a" is repeated; it first stands at t.csv:2:1',
        't.csv:5:1: the flow name "plain" is repeated; it first stands at m.yaml:3:3',
        't.csv:6:1: the flow "2" is given twice; it first stands at t.csv:3:1',
        "t.csv:7:1: the flow's name is empty",
        "t.csv:8:1: the flow's name has 201 characters",
        't.csv:9:1: "../7" is no flow\'s id',
        'm.yaml:5:3: the flow name "b" is repeated; it first stands at t.csv:3:1',
    ]


def test_many_repetitions_do_not_list_all_flows_each_time(desk: Desk) -> None:
    desk.write("t.csv", "n\n" + "same\n" * 3000)
    manifest = desk.flow("""- {each: {table: t.csv}, name: "{n}", template: t, inputs: [a]}""")
    problems = walk(manifest)
    assert len(problems) == 2999
    assert sum("first stands" in problem.message for problem in problems) == flows_module.MAX_COMPARED


def test_a_hash_that_two_names_share_is_no_repetition(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Names, "suspected", lambda self, name: True)
    assert [flow.name for flow in desk.flows("- {name: a, template: t, inputs: [x]}")] == ["a"]


def test_names_keeps_what_it_was_given() -> None:
    names = Names()
    given = [f"name-{number}" for number in range(20_000)]
    assert not any(names.suspected(name) for name in given)
    assert all(names.suspected(name) for name in given)


# --- The file and its settings ----------------------------------------------------------------------------------------


def refused(path: str | Path, **options: str) -> str:
    with pytest.raises(ManifestError) as caught:
        load(path, {}, **options)
    (problem,) = caught.value.problems
    assert problem.kind == "manifest"
    assert problem.hint
    return str(problem)


def test_a_manifest_that_cannot_be_opened_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(desk.folder / "pipe.yaml")
    large = desk.write("large.yaml")
    os.truncate(large, 100_000_001)
    assert refused("gone.yaml").startswith("gone.yaml: there is no such manifest")
    assert "is a folder" in refused(desk.folder)
    assert "no regular file" in refused("pipe.yaml")
    assert "100,000,001 bytes" in refused("large.yaml")
    assert "empty" in refused("")
    assert "NUL" in refused("a\0b")
    assert "cannot be read: Not a directory" in refused("large.yaml/x")
    desk.write("m.yaml", "version: 1\nflows: []")
    monkeypatch.setattr("builtins.open", _refuse)
    assert "cannot be read: Permission denied" in refused("m.yaml")


def _refuse(path: str, *_: object) -> None:
    raise PermissionError(13, "Permission denied", path)


def test_the_name_is_kept_as_it_was_spelled(desk: Desk) -> None:
    desk.write("sub/a.b.yaml", "version: 1\nflows: [{name: f, template: t, inputs: [x]}]")
    manifest = load(Path("./sub/../sub/a.b.yaml"), {})
    assert (manifest.name, manifest.batch) == ("sub/../sub/a.b.yaml", "a.b")
    assert manifest.path == f"{desk.folder}/sub/a.b.yaml"
    (flow,) = manifest.flows()
    assert flow.place == Place("sub/../sub/a.b.yaml", 1 + 1, 9)


def test_a_file_name_that_gives_no_batch_asks_for_one(desk: Desk) -> None:
    name = "x" * 150 + ".yaml"
    desk.write(name, "version: 1\nflows: []")
    assert "add `batch:`" in refused(name)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("sandbox", "sandbox"), ("https://h", "https://h"), ("https://H.example/v1//", "https://h.example/v1"),
        ("http://localhost:8000/", "http://localhost:8000"), ("https://h:443", "https://h"), ("http://h:80/x", "http://h/x"),
        ("http://[::1]:9", "http://[::1]:9"), ("HTTPS://h:80", "https://h:80"), ("https://h/%20/", "https://h/%20"),
    ],
)  # fmt: skip
def test_an_endpoint_has_one_spelling_and_can_be_overridden(desk: Desk, given: str, kept: str) -> None:
    assert desk.load(f"version: 1\nendpoint: '{given}'\nflows: []").endpoint == kept
    assert desk.load("version: 1\nendpoint: https://other\nflows: []", endpoint=given).endpoint == kept


@pytest.mark.parametrize(
    "given",
    ["", "h", "ftp://h", "https://", "https://u:s3cret@h", "https://s3cret@h", "https://h?s3cret", "https://h#s3cret",
     "https://h:port", "https://h:99999", "https://u:s3cret@h:x", "http://[::1", "https://h/a b", "Sandbox", "//h"],
)  # fmt: skip
def test_a_wrong_endpoint_is_refused_without_showing_a_secret(desk: Desk, given: str) -> None:
    desk.write("m.yaml", "version: 1\nflows: []")
    assert "s3cret" not in refused("m.yaml", endpoint=given)
    (problem,) = desk.refusal(f"version: 1\nendpoint: '{given}'\nflows: []")
    assert "s3cret" not in str(problem)


@pytest.mark.parametrize(
    ("rest", "alike"),
    [
        ('inputs: ["{path}"]', False),
        ('inputs: [{file: in/a.png, additional: {of: "{stem}"}}]', False),
        ('parameters: {seed: "{index}"}, inputs: [in/a.png]', False),
        ('inputs: [{glob: "in/{stem}*"}]', False),
        ("inputs: [in/a.png]", True),
        ('inputs: [{glob: "in/*"}]', True),
    ],
)
def test_flows_of_each_that_are_alike_but_for_their_names_are_noted(desk: Desk, rest: str, alike: bool) -> None:
    for name in ("in/a.png", "in/b.png"):
        desk.write(name, "x")
    manifest = desk.load(f"version: 1\nflows:\n- {{each: {{glob: 'in/*'}}, name: '{{stem}}', template: t, {rest}}}")
    assert len(list(manifest.flows())) == 2
    notes = [str(note) for note in manifest.notes(True)]
    said = ("2 flows of this `each` differ by their names only: the same inputs are paid for 2 times "
            "(use a column in `inputs`, as {path} is one of a glob)")  # fmt: skip
    assert [note.split(": ", 1)[1] for note in notes] == [said] * alike
    assert not manifest.notes(False)
