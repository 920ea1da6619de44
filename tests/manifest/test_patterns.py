"""Patterns: what they match, in which order, and what they never follow."""

from __future__ import annotations

import fnmatch
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.api import MemoryJournal, load_manifest
from batcher.core.model import Flow, Input, Problem
from batcher.manifest import patterns
from batcher.manifest.findings import Unfit

from .conftest import Desk, labels


def expand(pattern: str, folder: Path) -> list[str]:
    return patterns.expand(patterns.parse(pattern), str(folder))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "a.png", "b.PNG", ".hidden.png", "c[1].png", "sub/a.png", "sub/deep/a.png", "sub/deep/b.jpg",
        ".git/a.png", "sub/.cache/a.png", "日本.png", "-dash.png", "x y.png",
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "sub" / "link.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "sub" / "broken.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "sub" / "itself.png").symlink_to("itself.png")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.png", ["-dash.png", "a.png", "c[1].png", "x y.png", "日本.png"]),
        (".*.png", [".hidden.png"]),
        ("?.[pP][nN][gG]", ["a.png", "b.PNG"]),
        ("[!a].PNG", ["b.PNG"]),
        ("[^a].PNG", ["b.PNG"]),
        ("c[[]1].png", ["c[1].png"]),
        ("sub/*", ["sub/a.png", "sub/broken.png", "sub/itself.png", "sub/link.png"]),
        ("sub/**", ["sub/a.png", "sub/broken.png", "sub/deep/a.png", "sub/deep/b.jpg", "sub/itself.png", "sub/link.png"]),
        ("**/a.png", ["a.png", "sub/a.png", "sub/deep/a.png"]),
        ("**/**/deep/**/a.png", ["sub/deep/a.png"]),
        ("**/deep/*", ["sub/deep/a.png", "sub/deep/b.jpg"]),
        ("*/a.png", ["loop/a.png", "sub/a.png"]),
        ("loop/sub/a.png", ["loop/sub/a.png"]),
        (".git/*", [".git/a.png"]),
        ("./sub//./a.png", ["sub/a.png"]),
        ("sub/../a.p*", ["sub/../a.png"]),
        ("a.png", ["a.png"]),
        ("folder.png", []),
        ("nowhere/*", []),
        ("a.png/*", []),
        ("*.gif", []),
        ("[a-b].*", ["a.png", "b.PNG"]),
        ("[]-]dash.png", ["-dash.png"]),
    ],
)
def test_a_pattern_matches_files_sorted_by_path(tree: Path, pattern: str, found: list[str]) -> None:
    assert expand(pattern, tree) == found


def test_an_absolute_pattern_gives_absolute_paths(tree: Path) -> None:
    assert expand(f"{tree}/sub/deep/*.png", tree) == [f"{tree}/sub/deep/a.png"]


def test_a_path_that_matches_in_several_ways_is_found_once(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "a" / "a"
    deep.mkdir(parents=True)
    (deep / "x").touch()
    assert expand("**/a/**/x", tmp_path) == ["a/a/a/x"]


def test_links_to_folders_are_followed_and_no_folder_twice(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for path in (inside / "real" / "a.png", outside / "deep" / "b.png", inside / ".hidden" / "c.png"):
        path.parent.mkdir(parents=True)
        path.touch()
    for name, target in {
        "again": "real", "away": outside, "b-away": outside, "loop": ".", "up": "..", "seen": ".hidden", "gone": "nowhere",
    }.items():  # fmt: skip
        (inside / name).symlink_to(target)
    (outside / "back").symlink_to(inside)
    (outside / "deep" / "round").symlink_to(outside)
    assert expand("**/*.png", inside) == ["away/deep/b.png", "real/a.png", "seen/c.png"]
    assert patterns.Walk(patterns.parse("**/*.png"), str(inside)).upwards == ["up"]
    assert expand("*/*.png", inside) == ["again/a.png", "real/a.png", "seen/c.png"], "as it was"


def test_links_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "c"), ("c", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").touch()
        (tmp_path / name / f"to-{other}").symlink_to(tmp_path / other)
    assert expand("a/**", tmp_path) == ["a/to-b/to-c/x.png", "a/to-b/x.png", "a/x.png"]


def test_folders_may_be_deeper_than_python_recurses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    depth = sys.getrecursionlimit() + 100
    monkeypatch.chdir(tmp_path)
    for _ in range(depth):
        os.mkdir("d")
        os.chdir("d")
    try:
        assert expand("**/*.png", tmp_path) == []
    finally:
        for _ in range(depth):  # pytest's own cleaning recurses
            os.chdir("..")
            os.rmdir("d")


def test_a_folder_that_cannot_be_read_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(patterns.os, "scandir", refuse)
    (problem,) = desk.inputs("""[{glob: "in/*.png"}]""")
    assert isinstance(problem, Problem)
    assert problem.kind == "source"
    assert "cannot be read: Permission denied" in problem.message


def test_a_folder_below_that_cannot_be_read_keeps_nothing_else_back(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.write("in/a.png")
    desk.write("in/secret/b.png")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path.rstrip("/").endswith("secret"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(patterns.os, "scandir", refuse)
    manifest = desk.flow("""- {each: {glob: "in/**/*.png"}, name: "{stem}", template: t, inputs: ["{path}"]}""")
    problem, flow = manifest.flows()
    assert isinstance(problem, Problem)
    assert problem.kind == "source"
    assert '"in/secret/" cannot be read' in problem.message
    assert isinstance(flow, Flow)
    assert flow.name == "a"


def test_a_folder_that_a_pattern_names_and_is_not_there_is_the_sources_fault(desk: Desk) -> None:
    desk.write("photos/new/a.png")
    desk.write("file")
    cases = {
        "phtos/*.png": ('there is no folder "phtos/"', "did you mean photos/?"),
        "photos/New/*.png": ('there is no folder "photos/New/"', "did you mean photos/new/?"),
        "photos/old/**/*.png": ('there is no folder "photos/old/"', "correct the pattern, make the folder, or mount"),
        "file/*.png": ('"file" is no folder', "correct the pattern"),
        "/nowhere-at-all/*.png": ('there is no folder "/nowhere-at-all/"', ""),
    }
    for pattern, (message, hint) in cases.items():
        each = desk.flow(f"- {{each: {{glob: '{pattern}'}}, name: '{{stem}}', template: t, inputs: ['{{path}}']}}")
        for found in (each.flows(), desk.inputs(f"[{{glob: '{pattern}'}}]")):
            (problem,) = found
            assert isinstance(problem, Problem)
            assert (problem.kind, problem.message) == ("source", message)
            assert problem.hint.startswith(hint)


def test_a_pattern_of_one_row_that_matches_nothing_is_that_rows_fault(desk: Desk) -> None:
    desk.write("t.csv", "dir\na\nb\n")
    desk.write("a/x.png")
    desk.write("b/x.gif")
    good, bad = desk.flows("""- {each: {table: t.csv}, name: "{dir}", template: t, inputs: [{glob: "{dir}/*.png"}]}""")
    assert labels(list(good.inputs())) == ["a/x.png"]
    (problem,) = bad.inputs()
    assert isinstance(problem, Problem)
    assert problem.kind == "source"


def test_files_that_name_one_flow_are_told_both(desk: Desk) -> None:
    desk.write("in/a.jpg")
    desk.write("in/a.png")
    first, problem = desk.flow("""- {each: {glob: "in/*"}, name: "{stem}", template: t, inputs: ["{path}"]}""").flows()
    assert isinstance(first, Flow)
    assert isinstance(problem, Problem)
    assert (problem.kind, problem.flow, problem.input) == ("source", "a", "in/a.png")
    assert "in/a.png" in problem.message
    assert "in/a.jpg" in problem.message
    _, problem = desk.inputs("""[{glob: "in/*", key: "{stem}"}]""")
    assert isinstance(problem, Problem)
    assert problem.kind == "source"


def test_a_file_whose_name_names_no_flow_is_its_own_fault(desk: Desk) -> None:
    desk.write("in/a.png")
    desk.write("in/b\x07.png")
    found = list(desk.flow("""- {each: {glob: "in/*"}, name: "{stem}", template: t, inputs: ["{path}"]}""").flows())
    assert [one.name if isinstance(one, Flow) else one.kind for one in found] == ["a", "source"]


def test_a_name_that_is_not_utf8_is_told_and_the_rest_is_found(desk: Desk) -> None:
    desk.write("a.png")
    Path(os.fsdecode(os.fsencode(desk.folder) + b"/b\xff\x1b.png")).touch()
    good, bad = desk.inputs("""[{glob: "*.png"}]""")
    assert isinstance(good, Input)
    assert isinstance(bad, Problem)
    assert good.label == "a.png"
    assert r"b\xff\x1b.png" in bad.message
    assert bad.kind == "source"
    str(bad).encode()


def test_a_pattern_that_matches_nothing_is_told_for_inputs_and_fine_for_each(desk: Desk) -> None:
    (desk.folder / "in").mkdir()
    assert desk.flows("""- {each: {glob: "in/*.png"}, name: "{stem}", template: t, inputs: ["{path}"]}""") == []
    (problem,) = desk.inputs("""[{glob: "in/*.png"}]""")
    assert str(problem).startswith('m.yaml:5:19: the pattern "in/*.png" matches no file')
    assert isinstance(problem, Problem)
    assert (problem.kind, problem.flow) == ("manifest", "f")
    (problem,) = desk.inputs("""[{glob: "in/*.{png,jpg}"}]""")
    assert "one input per pattern" in str(problem)


def test_a_value_in_a_pattern_matches_only_itself(desk: Desk) -> None:
    desk.write("t.csv", "dir\na[1]\n*\n")
    for name in ("a[1]/x.png", "*/y.png", "a1/z.png"):
        desk.write(name)
    flows = desk.flows("""- {each: {table: t.csv}, name: "{dir}", template: t, inputs: [{glob: "{dir}/*.png"}]}""")
    assert [labels(list(flow.inputs())) for flow in flows] == [["a[1]/x.png"], ["*/y.png"]]


@given(st.text(st.sampled_from("ab*?[]!-^.{}\\"), min_size=1, max_size=8), st.text(st.sampled_from("ab-]^."), max_size=6))
def test_names_match_as_in_fnmatch(pattern: str, name: str) -> None:
    try:
        (component,) = patterns.parse(pattern).components
    except (Unfit, ValueError):
        return  # refused, or of two components
    plain = pattern.replace("[^", "[!")  # fnmatch knows one of the two spellings
    expected = fnmatch.fnmatchcase(name, plain) and (not name.startswith(".") or pattern.startswith("."))
    found = component.matches(name) if component.matches else name == pattern
    assert bool(found) == expected


@given(st.text(min_size=1).filter(lambda t: "/" not in t and "\0" not in t and t not in (".", "..")))
def test_an_escaped_name_matches_itself(name: str) -> None:
    (component,) = patterns.parse(patterns.escape(name)).components
    assert component.matches(name) if component.matches else component.name == name


def test_many_files_are_found_in_little_time(tmp_path: Path) -> None:
    for number in range(20_000):
        (tmp_path / f"f{number}.png").touch()
    began = time.monotonic()
    found = expand("*.png", tmp_path)
    assert len(found) == 20_000
    assert time.monotonic() - began < 2  # 0.02 s where nothing else runs


def test_manifest_that_knows_the_results_keeps_what_the_flags_said(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("version: 1\nlimits: {concurrency: 7}\nflows: [{each: {glob: '*.png'}, name: '{stem}',"
                                     " template: t, inputs: ['{path}']}]\n")  # fmt: skip
    loaded = load_manifest(tmp_path / "m.yaml")
    loaded = replace(loaded, limits=replace(loaded.limits, concurrency=3, retries=1), endpoint="http://127.0.0.1:1")
    known = loaded.knowing(MemoryJournal())
    assert (known.limits, known.endpoint) == (loaded.limits, loaded.endpoint)
