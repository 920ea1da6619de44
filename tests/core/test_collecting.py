"""What outputs are called, what counts as one, and when they are fetched."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.core.collecting import (
    COMPONENT_BYTES,
    POLL_S,
    End,
    Ids,
    Lack,
    NamePattern,
    Names,
    Spoiled,
    Step,
    Values,
    bytes_after,
    candidates,
    component,
    content_of,
    end_of,
    not_made_by,
    parse_name,
    part_path,
    place_of,
    poll_delay_s,
    spot,
    stands_still,
    step,
    values_of,
)
from batcher.core.errors import UsageError
from batcher.core.model import ABSENT, FileSource, Input, Place

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
    names = Names()
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
    names = Names()
    values = [values_of("f", source(label), index, "") for index, label in enumerate(labels)]
    for each in values:
        names.add(pattern.place(each))
    names.freeze()
    return [place_of(pattern, names, each, bytes([n]) * 16, 1) for n, each in enumerate(values)]


SHARED = ["a/x.png", "b/x.png", "b/X.jpg", "y.png", "x-2.png", "\u00fc.png", "u\u0308.png"]


@given(st.lists(st.sampled_from(SHARED), max_size=7, unique=True))
def test_two_inputs_never_share_a_name_even_where_case_is_ignored(labels: list[str]) -> None:
    places = named(labels, parse_name("{flow}/{stem}{suffix}"))
    assert len({spot(place) for place in places}) == len(labels)


def test_inputs_that_share_a_stem_both_get_a_short_key_and_others_none() -> None:
    pattern = parse_name("{flow}/{stem}{suffix}")
    assert named(["a/x.png", "b/X.png", "y.png"], pattern) == ["f/x-00000000", "f/X-01010101", "f/y"]
    assert named(["b/X.png", "a/x.png"], parse_name("{parent}/{stem}{suffix}")) == ["b/X", "a/x"]


def test_several_outputs_of_an_input_are_numbered_around_what_others_are_called() -> None:
    pattern = parse_name("{stem}{suffix}")
    names = Names()
    for label in ("chair.png", "chair-2.png"):
        names.add(pattern.place(values_of("f", source(label), 0, "")))
    assert names.freeze() == 0
    values = values_of("f", source("chair.png"), 0, "id")
    made = [place_of(pattern, names, values, b"k" * 16, number) for number in (1, 2, 3)]
    assert made == ["chair", "chair-2-6b6b6b6b", "chair-3"]


def test_output_without_a_source_is_named_by_its_id() -> None:
    names = Names()
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


def glb(size: int, declared: int | None = None, version: int = 2) -> tuple[bytes, int]:
    return b"glTF" + version.to_bytes(4, "little") + (declared or size).to_bytes(4, "little") + b"JSON", size


@pytest.mark.parametrize(
    ("head", "size", "declared", "found"),
    [
        (*glb(500), "model/gltf-binary", "model/gltf-binary"),
        (*glb(500), "application/json", "model/gltf-binary"),
        (*glb(500, 501), "", None),
        (*glb(500, version=7), "", None),
        (b"glTF", 4, "", None),
        (b"", 0, "model/gltf-binary", None),
        (b"\x89PNG\r\n\x1a\n", 90, "image/png", "image/png"),
        (b"\xff\xd8\xff\xe0", 90, "image/jpg", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", 90, "image/jpeg", None),
        (b"<html>", 90, "text/html; charset=utf-8", None),
        (b"random", 90, "application/json", None),
        (b"random", 90, "", None),
        (b"random", 90, "model/gltf-binary", None),
        (b"solid x", 90, "model/stl", "model/stl"),
        (b"\x93\x01random", 90, "application/octet-stream", "application/octet-stream"),
        (b"Error: asset is ", 90, "application/octet-stream", None),
        ("Fehler: nicht möglich".encode()[:16], 90, "binary/octet-stream", None),
        (b"Error: asset is ", 90, "video/x-unheard", None),
        (b"Error: asset is ", 90, "text/plain", "text/plain"),
        (b"\0\0\0\x20ftypisom", 90, "", "video/mp4"),
        (b"\0\0\0\x14ftypqt  ", 90, "video/quicktime", "video/quicktime"),
        (b"Error: asset is ", 90, "video/mp4", None),
        (b"\x1aE\xdf\xa3\x01", 90, "video/webm", "video/webm"),
        (b"Kaydara FBX Bina", 90, "application/octet-stream", "model/fbx"),
        (b"; FBX 7.3.0 proj", 90, "application/fbx", "model/fbx"),
        (b"GIF89a", 90, "image/gif", "image/gif"),
        (b"PK\x03\x04", 90, "model/vnd.usdz+zip", "model/vnd.usdz+zip"),
        (b"PK\x03\x04", 90, "application/zip", "application/zip"),
        (b"Error: asset is ", 90, "model/vnd.usdz+zip", None),
        (b"ply\nformat ascii", 90, "model/ply", "model/ply"),
        (*glb(504, 500), "model/gltf-binary", "model/gltf-binary"),
        (*glb(504, 5), "model/gltf-binary", None),
    ],
)
def test_content_is_judged_by_its_first_bytes_its_size_and_what_it_is_said_to_be(
    head: bytes, size: int, declared: str, found: str | None
) -> None:
    result = content_of(head, size, declared)
    assert isinstance(result, Spoiled) if found is None else result == found


def test_suffix_is_that_of_the_type_and_bytes_after_a_glb_are_counted() -> None:
    pattern = parse_name("{stem}{suffix}")
    endings = {"video/mp4": ".mp4", "model/fbx": ".fbx", "image/gif": ".gif", "x/y": ".bin"}
    assert {mime: pattern.ends_in(mime) for mime in endings} == endings
    assert (bytes_after(*glb(504, 500)), bytes_after(*glb(500)), bytes_after(b"GIF89a-23456", 90)) == (4, 0, 0)


def test_each_template_of_today_makes_glbs_and_of_another_every_kind_is_taken() -> None:
    for template in ("model_generate_fromprompt", "model_generate_fromimage", "model_optimize"):
        assert not_made_by(template, "model/gltf-binary") is None
        assert "makes model/gltf-binary" in not_made_by(template, "image/png").message  # type: ignore[union-attr]
    assert not_made_by("of_tomorrow", "video/mp4") is not_made_by(None, "text/plain") is None


def test_what_is_missing_is_named_where_it_can_be_told() -> None:
    lack = Lack(inputs=6, outputs=1)
    for label in ("a", "b", "c", "d", "e"):
        lack.add(label, True)
    assert (lack.missing, lack.told, lack.words) == (5, 5, "5 are missing, of a, b, c and 2 more")
    lack = Lack(inputs=3, outputs=2, unsourced=2)  # two outputs that tell of nothing may be of any
    for label in ("a", "b", "c"):
        lack.add(label, True)
    assert (lack.missing, lack.told, lack.words) == (1, 0, "1 is missing; of which inputs cannot be told")
    lack = Lack(inputs=2, outputs=4)  # one input has all of them
    lack.add("b", True)
    assert (lack.missing, lack.words) == (1, "1 is missing, of b")
    assert Lack(inputs=3, outputs=3).missing == Lack(inputs=0, outputs=2).missing == 0


def test_ids_are_a_set_however_often_each_is_listed() -> None:
    once, again, other = Ids(), Ids(), Ids()
    for ids, names in ((once, "abc"), (again, "cabbac"), (other, "abd")):
        for name in names:
            ids.add(name)
    assert once.distinct() == again.distinct() != other.distinct()
    assert len(again.distinct()) == 3


def test_states_that_nobody_knows_are_not_the_end_and_polling_eases_off() -> None:
    assert {end_of(state) for state in ("completed", "succeeded", "success", "done", "finished")} == {End.COMPLETED}
    assert {end_of(state) for state in ("failed", "error", "errored", "expired", "timeout", "timed-out")} == {End.FAILED}
    assert {end_of(state) for state in ("aborted", "cancelled", "canceled")} == {End.ABORTED}
    assert step("succeeded") is step("completed") is Step.FETCH
    assert step("failed") is step("canceled") is step("aborted") is Step.FETCH_APART
    assert {step(state) for state in ("created", "starting", "running", "aborting", "", "post-processing")} == {Step.WAIT}
    rng = random.Random(1)
    assert all(0.8 * POLL_S[n] <= poll_delay_s(n, rng) <= 1.2 * POLL_S[n] for n in range(len(POLL_S)))
    assert poll_delay_s(10_000, rng) <= 36.0


@pytest.mark.parametrize(
    ("state", "finished", "progress", "unchanged_s", "over", "found"),
    [
        ("archived", True, 0.3, 59, False, False),
        ("archived", True, 0.3, 60, False, True),
        ("archived", False, 1.0, 60, False, True),
        ("archived", False, 0.9, 9999, True, False),
        ("archived", True, 0.3, 0, True, True),
        ("archived", False, 1.0, 0, True, False),
        ("running", True, 1.0, 9999, True, False),
        ("completed", True, 1.0, 9999, True, False),
    ],
)
def test_unknown_state_that_stands_still_at_its_end_is_waited_for_no_longer(
    state: str, finished: bool, progress: float, unchanged_s: float, over: bool, found: bool
) -> None:
    assert stands_still(state, finished, progress, unchanged_s, over) is found


def test_part_lies_beside_its_place() -> None:
    assert part_path("a/b", "f", "x").startswith("a/.")
    assert part_path("b", "f", "x") != part_path("b", "fx", "")
