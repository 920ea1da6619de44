"""`include` and `profiles`: a manifest in several files, and defaults with a name."""

from __future__ import annotations

import os
from textwrap import dedent

import pytest

from batcher.core.model import FileSource, Flow, Manifest
from batcher.manifest import ManifestError, include, load

from .conftest import Desk, labels, walk


def flows(manifest: Manifest) -> dict[str, Flow]:
    return {flow.name: flow for flow in manifest.flows() if isinstance(flow, Flow)}


def told(desk: Desk, text: str) -> list[str]:
    return [str(problem) for problem in desk.refusal(dedent(text))]


# --- Profiles ---------------------------------------------------------------------------------------------------------


def test_a_profile_lies_between_the_defaults_and_the_flow(desk: Desk) -> None:
    found = flows(
        desk.load(
            """
            version: 1
            defaults: {template: t, parameters: {quality: high, texture: true, seed: 1}, additional: {a: {b: 1, c: 2}}}
            profiles:
              base: {parameters: {quality: low, texture: null}, additional: {a: {c: 3}}}
              fine: {extends: base, parameters: {seed: 2, extra: 5}}
            flows:
            - {name: plain, inputs: [a]}
            - {name: based, extends: base, inputs: [a]}
            - {name: fine, extends: fine, parameters: {extra: null, own: 1}, inputs: [a]}
            - {each: {glob: m.*}, name: "{stem}", extends: fine, additional: null, inputs: [a]}
            """
        )
    )
    assert {name: dict(flow.parameters) for name, flow in found.items()} == {
        "plain": {"quality": "high", "texture": True, "seed": 1},
        "based": {"quality": "low", "seed": 1},
        "fine": {"quality": "low", "seed": 2, "own": 1},
        "m": {"quality": "low", "seed": 2, "extra": 5},
    }
    assert [flow.additional for flow in found.values()] == [
        {"a": {"b": 1, "c": 2}},
        {"a": {"b": 1, "c": 3}},
        {"a": {"b": 1, "c": 3}},
        None,
    ]


def test_parameters_are_inherited_by_flows_of_their_own_template_only(desk: Desk) -> None:
    found = flows(
        desk.load(
            """
            version: 1
            defaults: {template: image, parameters: {quality: high}, additional: {shop: x}}
            profiles:
              words: {template: prompt, parameters: {seed: 1}}
              more: {extends: words, parameters: {texture: false}}
              back: {extends: more, template: image}
              same: {template: image, parameters: {texture: true}}
            flows:
            - {name: words, extends: words, inputs: [a]}
            - {name: more, extends: more, inputs: [a]}
            - {name: back, extends: back, inputs: [a]}
            - {name: same, extends: same, inputs: [a]}
            - {name: other, extends: more, template: optimize, inputs: [a]}
            """
        )
    )
    assert {name: (flow.template, dict(flow.parameters)) for name, flow in found.items()} == {
        "words": ("prompt", {"seed": 1}),
        "more": ("prompt", {"seed": 1, "texture": False}),
        "back": ("image", {}),
        "same": ("image", {"quality": "high", "texture": True}),
        "other": ("optimize", {}),
    }
    assert all(flow.additional == {"shop": "x"} for flow in found.values())


def test_a_problem_in_a_profile_is_told_where_the_profile_stands(desk: Desk) -> None:
    text = """
    version: 1
    profiles: {fine: {template: t, additional: {s: "{stm}"}}}
    flows: [{each: {glob: "*"}, name: "{stem}", extends: fine, inputs: [a]}]
    """
    (problem,) = told(desk, text)
    assert problem.startswith("m.yaml:3:48: no {stm}")


# --- Included files ---------------------------------------------------------------------------------------------------


def test_flows_of_included_files_come_after_the_main_ones_with_their_paths_and_places(desk: Desk) -> None:
    for name in ("more/a.png", "more/deep/b.png", "shared.png", "more/t.csv"):
        desk.write(name, "file\ndeep/b.png\n")
    desk.write("more/one.yaml", """version: 1
include: [deep/two.yaml]
flows:
- name: one
  inputs: [a.png, ../shared.png, ./deep/b.png, {glob: "*.png", additional: "{path}"}, {table: t.csv, file: "{file}"}, /x.png]
""")  # fmt: skip
    desk.write("more/deep/two.yaml", "version: 1\nflows: [{name: two, inputs: [b.png, ../../shared.png]}]\n")
    head = "version: 1\ninclude: [more/*.yaml]\ndefaults: {template: t}\n"
    manifest = desk.load(head + "flows: [{name: main, inputs: [shared.png]}]")
    found = flows(manifest)
    assert list(found) == ["main", "one", "two"]
    assert (manifest.batch, manifest.folder) == ("m", str(desk.folder))
    assert [str(flow.place) for flow in found.values()] == ["m.yaml:4:9", "more/one.yaml:4:3", "more/deep/two.yaml:2:9"]
    one = list(found["one"].inputs())
    assert labels(one) == ["more/a.png", "shared.png", "more/deep/b.png", "more/a.png", "more/deep/b.png", "/x.png"]
    assert one[3].additional == "a.png", "in an included file everything counts from its folder"
    assert str(one[4].place) == "more/t.csv:2:1"
    assert labels(list(found["two"].inputs())) == ["more/deep/b.png", "shared.png"]
    for item in (*one[:-1], *found["two"].inputs()):
        assert isinstance(item.source, FileSource)
        assert os.path.isfile(item.source.path), item.source.path
    assert walk(manifest) == []


def test_what_moves_into_an_included_file_keeps_its_labels(desk: Desk) -> None:
    desk.write("more/one.yaml", "version: 1\nflows: [{name: f, template: t, inputs: [../photos/a.png, b.png]}]\n")
    moved = flows(desk.load("version: 1\ninclude: [more/one.yaml]"))["f"]
    before = flows(desk.load("version: 1\nflows: [{name: f, template: t, inputs: [photos/a.png, more/b.png]}]"))["f"]
    assert labels(list(moved.inputs())) == labels(list(before.inputs()))


def test_defaults_reach_down_and_profiles_are_known_everywhere(desk: Desk) -> None:
    desk.write("x/one.yaml", """version: 1
defaults: {parameters: {seed: 1}, additional: {from: one}}
profiles: {fine: {parameters: {quality: high}}}
flows: [{name: one, extends: fast, inputs: [a]}]
""")  # fmt: skip
    manifest = desk.load(
        """
        version: 1
        include: [x/one.yaml]
        defaults: {template: t, parameters: {seed: 0, texture: true}}
        profiles: {fast: {parameters: {quality: low}}}
        flows: [{name: main, extends: fine, inputs: [a]}]
        """
    )
    found = flows(manifest)
    assert dict(found["main"].parameters) == {"seed": 0, "texture": True, "quality": "high"}
    assert dict(found["one"].parameters) == {"seed": 1, "texture": True, "quality": "low"}
    assert (found["main"].additional, found["one"].additional) == (None, {"from": "one"})


def test_problems_of_all_files_are_told_in_one_go_at_their_places(desk: Desk) -> None:
    desk.write("x/bad.yaml", """version: 1
batch: other
limits: {rate: often}
profiles: {p: {}}
flows:
- name: main
  template: t
  inputs: [{flie: a}, "", {file: a, mime: png}]
""")  # fmt: skip
    desk.write("x/text.yaml", "version: 1\nflows: [}\n")
    desk.write("x/latin.yaml", b"version: 1\n# caf\xe9\n")
    desk.write("x/empty.yaml", "")
    desk.write("x/list.yaml", "- a")
    desk.write("x/none.yaml", "version: 1\n")
    found = told(
        desk,
        """
        version: 1
        include: [x/bad.yaml, x/text.yaml, x/latin.yaml, x/empty.yaml, x/list.yaml, x/none.yaml, ./x/none.yaml]
        profiles: {p: {}}
        flows: [{name: main, template: t, inputs: [a]}, {name: last, inputs: [a]}]
        """,
    )
    assert [problem.split(" (")[0] for problem in found] == [
        'm.yaml:3:90: "x/none.yaml" is included already, at m.yaml:3:77',
        "m.yaml:5:49: this flow has neither `template` nor `flow_id`",
        "x/bad.yaml:2:1: `batch` may not stand in an included file",
        "x/bad.yaml:3:1: `limits` may not stand in an included file",
        'x/bad.yaml:4:12: the profile "p" is repeated; it first stands at m.yaml:4:12',
        'x/bad.yaml:6:9: the flow name "main" is repeated; it first stands at m.yaml:5:16',
        "x/bad.yaml:8:13: unknown key `flie` in an input",
        "x/bad.yaml:8:23: the path is empty",
        'x/bad.yaml:8:43: "png" is no MIME type',
        "x/text.yaml:2:9: this is not YAML: did not find expected node content",
        "x/latin.yaml:2:6: the manifest is not UTF-8: the byte 0xe9 at offset 16",
        "x/empty.yaml:1:1: the manifest is empty",
        "x/list.yaml:1:1: a manifest is a mapping, not a list",
        "x/none.yaml:1:1: `flows` is missing",
    ]


def test_files_that_include_one_another_are_refused(desk: Desk) -> None:
    desk.write("a/b.yaml", "version: 1\ninclude: [../c.yaml]\n")
    desk.write("c.yaml", "version: 1\ninclude: [a/b.yaml]\n")
    (problem,) = told(desk, "version: 1\ninclude: [a/b.yaml]")
    assert problem == "c.yaml:2:11: the manifest includes itself: a/b.yaml → c.yaml → a/b.yaml (take one of these out)"


def test_names_that_each_makes_are_unique_over_all_files(desk: Desk) -> None:
    desk.write("one.png")
    desk.write("x/one.yaml", "version: 1\nflows: [{name: one, template: t, inputs: [a]}]\n")
    entry = "- {each: {glob: '*.png'}, name: '{stem}', template: t, inputs: [a]}"
    manifest = desk.load(f"version: 1\ninclude: [x/one.yaml]\nflows:\n{entry}\n")
    (problem,) = walk(manifest)
    assert str(problem).startswith('x/one.yaml:2:9: the flow name "one" is repeated; it first stands at m.yaml:4:3')


def test_deep_nesting_is_refused_and_the_environment_is_data(desk: Desk) -> None:
    for number in range(include.MAX_NESTING + 2):
        desk.write(f"{number}.yaml", f"version: 1\ninclude: [{number + 1}.yaml]\n")
    assert "more than 20 deep" in told(desk, "version: 1\ninclude: [0.yaml]")[0]
    desk.write("[x]*.yaml", "version: 1\nflows: []\n")
    desk.load("version: 1\ninclude: ['${NAME}.yaml']", {"NAME": "[x]*"})


@pytest.mark.parametrize("spelled", ["sub/m.yaml", "ABSOLUTE"])
def test_an_included_file_is_shown_as_the_main_one_is_spelled(desk: Desk, spelled: str) -> None:
    desk.write("sub/x/one.yaml", "version: 2\nflows: []\n")
    path = desk.write("sub/m.yaml", "version: 1\ninclude: [x/one.yaml]\n")
    name = spelled if spelled != "ABSOLUTE" else str(path)
    with pytest.raises(ManifestError) as caught:
        load(name, {})
    assert str(caught.value).startswith(f"{os.path.dirname(name)}/x/one.yaml:1:10: `version` must be 1")
