"""What outputs are called: safe, apart from each other, and the same each time."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.core.errors import UsageError
from batcher.core.model import ABSENT, FileSource, Input, Place, TextSource
from batcher.core.output_names import (
    COMPONENT_BYTES,
    NamePattern,
    Places,
    Values,
    candidates,
    component,
    parse_name,
    part_path,
    path_digest,
    place_of,
    values_of,
)

HERE = Place("m.yaml", 1, 1)
NASTY = st.one_of(
    st.text(max_size=400),
    st.sampled_from(["..", ".", "", "../../etc/passwd", "/abs", "a\0b", "CON", "nul.txt", "com1", "a/../..", "x\n\x1b[2J", "~",
                     "C:\\x", "aux ", "lpt¹", "\ud800", "failed", "results", ".hidden", "a. ", "-rf", "\u202e", "é" * 300]),
)  # fmt: skip
PATTERNS = ["{flow}/{stem}{suffix}", "{parent}/{name}{suffix}", "{stem}", "{index}-{asset_id}.glb", "x/{flow}-{parent}{suffix}"]


def source(label: str) -> Input:
    return Input(label, FileSource("/" + label), None, ABSENT, HERE)


def assert_safe(path: str) -> None:
    """Relative, below the folder, and harmless on every file system and terminal."""
    assert path
    assert path.isprintable()
    assert not re.search(r'[<>:"\\|?*]', path)
    for name in path.split("/"):
        assert name not in ("", ".", "..")
        assert not name.endswith((" ", "."))
        assert len(name.encode()) <= 255
        assert not re.fullmatch(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", name, re.IGNORECASE)


@given(st.sampled_from(PATTERNS), NASTY, NASTY, NASTY, st.integers(1, 9), st.booleans())
def test_no_name_ever_leaves_the_folder(text: str, flow: str, label: str, asset: str, number: int, known: bool) -> None:
    pattern = parse_name(text)
    values = values_of(flow, source(label) if known else None, 3, asset)
    names = Places()
    names.freeze()
    place = place_of(pattern, names, values, bytes(16) if known else None, number)
    ids = asset.encode(errors="replace").decode()
    for path in candidates(place, pattern.ends_in("model/gltf-binary"), "f", ids):
        assert_safe(path)
        assert not path.startswith(".")
        assert path.split("/")[0].casefold() not in ("failed", "results.csv", "results.jsonl")


@given(NASTY)
def test_component_is_stable_and_long_ones_stay_apart(text: str) -> None:
    name = component(text)
    assert_safe(name)
    assert component(name) == name
    assert len(name.encode()) <= COMPONENT_BYTES + 1
    assert component("x" * 300 + "a") != component("x" * 300 + "b")


def named(labels: list[str], pattern: NamePattern) -> list[str]:
    names = Places()
    values = [values_of("f", source(label), index, "") for index, label in enumerate(labels)]
    for each in values:
        names.add(pattern.place(each))
    names.freeze()
    return [place_of(pattern, names, each, bytes([n]) * 16, 1) for n, each in enumerate(values)]


SHARED = ["a/x.png", "b/x.png", "b/X.jpg", "y.png", "x-2.png", "\u00fc.png", "u\u0308.png"]


@given(st.lists(st.sampled_from(SHARED), max_size=7, unique=True))
def test_two_inputs_never_share_a_name_even_where_case_is_ignored(labels: list[str]) -> None:
    places = named(labels, parse_name("{flow}/{stem}{suffix}"))
    assert len({path_digest(place) for place in places}) == len(labels)


def test_inputs_that_share_a_stem_both_get_a_short_key_and_others_none() -> None:
    pattern = parse_name("{flow}/{stem}{suffix}")
    assert named(["a/x.png", "b/X.png", "y.png"], pattern) == ["f/x-00000000", "f/X-01010101", "f/y"]
    assert named(["b/X.png", "a/x.png"], parse_name("{parent}/{stem}{suffix}")) == ["b/X", "a/x"]


def test_several_outputs_of_an_input_are_numbered_around_what_others_are_called() -> None:
    pattern = parse_name("{stem}{suffix}")
    names = Places()
    for label in ("chair.png", "chair-2.png"):
        names.add(pattern.place(values_of("f", source(label), 0, "")))
    assert names.freeze() == 0
    values = values_of("f", source("chair.png"), 0, "id")
    made = [place_of(pattern, names, values, b"k" * 16, number) for number in (1, 2, 3)]
    assert made == ["chair", "chair-2-6b6b6b6b", "chair-3"]


def test_output_without_a_source_is_named_by_its_id() -> None:
    names = Places()
    names.freeze()
    for text, place in (("{flow}/{stem}{suffix}", "f/id7"), ("{flow}{suffix}", "f-id7"), ("{asset_id}.bin", "id7")):
        assert place_of(parse_name(text), names, values_of("f", None, 0, "id7"), None, 1) == place


def test_pattern_has_plain_variables_braces_and_an_ending_of_its_own() -> None:
    values = Values("f", "x", "x.png", "a/b", "4", "id")
    for text, place, ending in (
        ("{parent}/{index}-{name}{suffix}", "a/b/4-x.png", ".glb"),
        ("{{{stem}}}.model.glb", "{x}.model", ".glb"),
        ("{stem}", "x", ""),
        ("out/{flow}-{parent}{suffix}", "out/f-a_b", ".glb"),
        ("failed/{stem}{suffix}", "_failed/x", ".glb"),
        ("results.csv", "_results", ".csv"),
    ):
        pattern = parse_name(text)
        assert (pattern.place(values), pattern.ends_in("model/gltf-binary")) == (place, ending)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{stm}", "did you mean {stem}"),
        ("{qqqq}", "there are {flow} {stem}"),
        ("{stem.x}", "there is no variable"),
        ("{stem", "write {{ for a brace"),
        ("../{stem}", "`..` part"),
        ("a//{stem}", "empty"),
        ("/{stem}", "leave the folder"),
        ("{flow}/", "empty"),
        ("", "empty"),
        ("{flow}/{suffix}", "names no file"),
        ("{suffix}-{stem}", "belongs at the end"),
    ],
)
def test_wrong_pattern_is_told_with_what_would_be_right(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        parse_name(text)


def test_part_lies_beside_its_place() -> None:
    assert part_path("a/b", "f", "x").startswith("a/.")
    assert part_path("b", "f", "x") != part_path("b", "fx", "")


def test_suffix_is_that_of_the_type() -> None:
    pattern = parse_name("{stem}{suffix}")
    endings = {"video/mp4": ".mp4", "model/fbx": ".fbx", "image/gif": ".gif", "x/y": ".bin"}
    assert {mime: pattern.ends_in(mime) for mime in endings} == endings


def test_output_of_a_text_is_called_after_all_of_its_label() -> None:
    text = Input("a/b chair.v2", TextSource("a/b chair.v2 in red"), None, ABSENT, HERE)
    assert values_of("f", text, 4, "id") == Values("f", "a/b chair.v2", "a/b chair.v2", "", "4", "id")
