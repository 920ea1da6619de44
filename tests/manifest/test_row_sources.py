"""`exclude` beside `glob`: what it leaves out, and what is said when nothing is left."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.core.model import Problem
from batcher.manifest import patterns
from batcher.manifest.findings import Unfit

from .conftest import Desk, labels

FILES = ("a.png", "b_draft.png", "p/c.png", "p/d_draft.png", "p/old/e.png", "p/old/deep/f.png", "p/.hidden.png")


@pytest.fixture
def folder(desk: Desk) -> Desk:
    for name in FILES:
        desk.write(name, "x")
    return desk


@pytest.mark.parametrize(
    ("glob", "exclude", "left"),
    [
        ("**/*.png", '"**/*_draft.png"', ["a.png", "p/c.png", "p/old/deep/f.png", "p/old/e.png"]),
        ("**/*.png", "[p/old/**, ./a.png]", ["b_draft.png", "p/c.png", "p/d_draft.png"]),
        ("**/*.png", "p/*.png", ["a.png", "b_draft.png", "p/old/deep/f.png", "p/old/e.png"]),
        ("p/*.png", "'./p/[!c]*'", ["p/c.png"]),
        ("./p/.h*", "p/*", ["p/.hidden.png"]),  # a leading dot is matched by a dot only, here too
        ("*.png", "b*", ["a.png"]),
        ("*.png", "[]", ["a.png", "b_draft.png"]),
    ],
)
def test_what_exclude_matches_is_left_out(folder: Desk, glob: str, exclude: str, left: list[str]) -> None:
    assert labels(folder.inputs(f"[{{glob: '{glob}', exclude: {exclude}}}]")) == left


def test_relative_and_absolute_patterns_meet(folder: Desk) -> None:
    at = folder.folder
    assert labels(folder.inputs(f"[{{glob: 'p/*.png', exclude: '{at}/p/c*'}}]")) == ["p/d_draft.png"]
    assert labels(folder.inputs(f"[{{glob: '{at}/p/*.png', exclude: p/c*}}]")) == [f"{at}/p/d_draft.png"]


def test_index_counts_what_is_left(folder: Desk) -> None:
    found = folder.inputs("[{glob: '*.png', exclude: 'a*', additional: '{index}'}]")
    assert [item.additional for item in found if not isinstance(item, Problem)] == [0]


def test_nothing_left_is_told_as_such(folder: Desk) -> None:
    (problem,) = folder.inputs("[{glob: 'p/*.png', exclude: p/**}]")
    assert str(problem) == (
        'm.yaml:5:19: the pattern "p/*.png" matches 2 files, and `exclude` leaves none of them '
        "(correct `exclude`, or remove the input)"
    )
    assert folder.flows("- {each: {glob: '*.png', exclude: '*'}, name: '{stem}', template: t, inputs: ['{path}']}") == []


def test_each_and_columns_of_the_flow(folder: Desk) -> None:
    flows = folder.flows(
        """
        - each: {glob: "*.png", exclude: "*_draft.png"}
          name: "{stem}"
          template: t
          inputs: [{glob: "**/*.png", exclude: "**/{name}"}]
        """
    )
    assert [flow.name for flow in flows] == ["a"]
    assert labels(list(flows[0].inputs())) == ["b_draft.png", "p/c.png", "p/d_draft.png", "p/old/deep/f.png", "p/old/e.png"]


PART = st.text("ab*?[.", min_size=1, max_size=3).filter(lambda part: part != "..")  # the walk would leave the folder


@given(st.lists(st.just("**") | PART, min_size=1, max_size=3))
def test_the_matcher_takes_exactly_what_the_walk_finds(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    try:
        pattern = patterns.parse("/".join(parts))
    except Unfit:
        return
    test = pattern.matcher()
    everything = [path for path in TREE if test(path)]
    assert patterns.expand(pattern, str(_tree(tmp_path_factory))) == sorted(everything)


TREE = [f"{folder}{name}" for folder in ("", "a/", "b/", "a/b/", "a/b/a/") for name in ("aa", "ab", ".a", "b.a", "aab")]
_MADE: list[Path] = []


def _tree(factory: pytest.TempPathFactory) -> Path:
    if not _MADE:
        folder = factory.mktemp("tree")
        for path in TREE:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).touch()
        _MADE.append(folder)
    return _MADE[0]
