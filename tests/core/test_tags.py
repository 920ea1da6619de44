"""Tags come back as they went, in one spelling; sums do not depend on the order and tell multisets apart."""

from __future__ import annotations

import hashlib
import json
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from batcher.core.facts import FileStat
from batcher.core.model import ABSENT, FileSource, Input, Place, TextSource
from batcher.core.tags import (
    FlowTag,
    InputKeys,
    Multiset,
    can_carry_tag,
    canonical,
    flow_key,
    flow_spec_digest,
    generation_name,
    read_flow_tag,
    read_input_tag,
    spec_digest,
    stat_bytes,
    untagged_ident,
    with_flow_tag,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)
ELEMENTS = st.lists(st.binary(min_size=4, max_size=4), max_size=12)


def sum_of(elements: list[bytes]) -> Multiset:
    total = Multiset()
    for element in elements:
        total.add(element[:2], element[2:])
    return total


@given(ELEMENTS.flatmap(lambda items: st.tuples(st.just(items), st.permutations(items))))
def test_sum_does_not_depend_on_the_order(pair: tuple[list[bytes], list[bytes]]) -> None:
    assert sum_of(pair[0]) == sum_of(pair[1])


@given(ELEMENTS, ELEMENTS)
def test_sums_are_equal_only_for_equal_multisets(one: list[bytes], other: list[bytes]) -> None:
    assert (sum_of(one) == sum_of(other)) == (Counter(one) == Counter(other))


@given(VALUES)
def test_canonical_is_one_spelling_that_reads_back(value: object) -> None:
    spelled = canonical(value)
    assert json.loads(spelled) == value
    assert canonical(json.loads(spelled)) == spelled
    if isinstance(value, dict):
        assert canonical(dict(reversed(list(value.items())))) == spelled
    assert spelled != canonical(ABSENT)


@given(TEXT, TEXT, TEXT, st.integers(0, 10**6), st.dictionaries(TEXT, VALUES, max_size=3))
def test_flow_tag_comes_back_as_it_went(batch: str, flow: str, owner: str, build: int, own: dict) -> None:
    tag = FlowTag(batch, flow, flow_key(batch, flow).hex(), generation_name(owner, build))
    sent = json.loads(json.dumps(with_flow_tag(own, tag)))
    assert read_flow_tag(sent) == tag
    assert read_flow_tag(sent).owner == owner
    assert read_flow_tag(sent).number == build
    assert sent == {**own, "batcher": tag.json()}


@given(VALUES | st.fixed_dictionaries({"batcher": VALUES}))
def test_what_is_no_tag_reads_as_none_and_never_raises(value: object) -> None:
    assert read_flow_tag(value) is None or isinstance(value, dict)
    found = read_input_tag(value)
    assert found is None or (isinstance(value, dict) and found[0].hex() == value["batcher"]["key"])
    assert can_carry_tag(value) == isinstance(value, dict)


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32), st.dictionaries(TEXT, VALUES, max_size=3))
def test_input_tag_comes_back_as_it_went(key: bytes, sha256: bytes, own: dict) -> None:
    assert read_input_tag({**own, "batcher": {"key": key.hex(), "sha256": sha256.hex()}}) == (key, sha256)


def keys_of(flow: str, paths: list[str | None], key: str | None = None) -> list[bytes]:
    """Of inputs with these paths, one after the other; None is the prompt "A chair"."""
    own = InputKeys("b", flow)
    sources = [FileSource(path) if path else TextSource("A chair") for path in paths]
    return [own.next(Input(path or "A chair", source, None, ABSENT, Place("m"), key))
            for path, source in zip(paths, sources, strict=True)]  # fmt: skip


def test_keys_stay_what_they_are_in_the_journals_that_are_there() -> None:
    assert flow_key("b", "f").hex() == "e80af336a2a43115f9853c202b0be899"
    assert [key.hex() for key in keys_of("f", ["photos/ä.png", "photos/ä.png", None])] == [
        "26ee55c178050994dafb38cac4ae1790",
        "217a7c4855b80b06b4519b733ae3d1a3",
        "1a0ffb268f68620a9d594143df696074",
    ]
    assert [key.hex() for key in keys_of("f", ["photos/ä.png"], "sku-1")] == ["3f5fbededba60fdd225caa6cb83fd0c1"]


def test_sums_stay_what_they_are_in_the_journals_that_are_there() -> None:
    """Values as they were computed before a file and a text became kinds of source."""
    place, photo, long = Place("m", 1, 1), FileSource("/in/photos/ä.png"), "long " * 30
    items = {
        "362bb658f814a8ee": Input("photos/ä.png", photo, None, ABSENT, place),
        "fcbfd1be84f9f95f": Input("photos/ä.png", photo, "image/png", {"sku": "é", "n": [1, None]}, place),
        "bd8166e98fc3a9a6": Input("../up/a b.glb", FileSource("/up/a b.glb"), None, None, place),
        "ba687142c32276c8": Input("photos/ä.png", photo, None, ABSENT, place, "sku-1"),
        "196dabcd27dffd79": Input("A chair", TextSource("A chair"), None, ABSENT, place),
        "2b49938e63df0d47": Input(long[:60], TextSource(long), None, {"a": 1}, place),
        "5693b4b8482cf3c3": Input("A chair", TextSource("A chair"), None, "plain", place, "k"),
    }
    file_stat = FileStat(7, 1_700_000_000_123_456_789, 4711)
    for expected, item in items.items():
        assert hashlib.sha256(stat_bytes(item, file_stat)).hexdigest()[:16] == expected
    same_name = Input("A chair", FileSource("/in/A chair"), None, ABSENT, place)
    keys = InputKeys("b", "f")
    assert [keys.next(item).hex() for item in (*items.values(), same_name)] == [
        "26ee55c178050994dafb38cac4ae1790", "217a7c4855b80b06b4519b733ae3d1a3", "25f88c66e449ea13c343d979d591dfeb",
        "3f5fbededba60fdd225caa6cb83fd0c1", "1a0ffb268f68620a9d594143df696074", "b9b48aa0db47afcb6effcd258f78ebf1",
        "78856e0dd1494f1a42602c08a7022ee4", "1a8aeedd43155e868c3415f43d84a7db",
    ]  # fmt: skip
    huge = FileStat(1 << 40, -5, (1 << 63) - 1)
    assert stat_bytes(same_name, huge) == b"A chair\x001099511627776\x00-5\x009223372036854775807\x00None\x00\n"
    specs = [("image/png", ABSENT), ("image/png", None), ("text/plain", {"b": 1, "a": "ü"})]
    assert [spec_digest(mime, additional).hex() for mime, additional in specs] == [
        "fec066c1677f9dff6ce7ee3c2bae3da4", "2d9e41876090d871d4e449077491dc30", "84804140604a7efcd82a7661c46fb047",
    ]  # fmt: skip
    assert flow_spec_digest("t", {"q": 1}, {"c": "x"}).hex() == "3c0f1378c3c843abb8abbb4d782c8971"


@given(st.lists(st.tuples(TEXT.filter(bool), TEXT.filter(bool), st.integers(0, 5)), min_size=2, max_size=8, unique=True))
def test_keys_tell_batch_flow_path_and_occurrence_apart(names: list[tuple[str, str, int]]) -> None:
    keys = {keys_of(flow, [path] * (occurrence + 1))[-1] for flow, path, occurrence in names}
    assert len(keys) == len(names)
    assert flow_key("ab", "c") != flow_key("a", "bc")


@given(VALUES, VALUES)
def test_meanings_and_idents_are_equal_only_for_equal_values(one: object, other: object) -> None:
    same = canonical(one) == canonical(other)
    assert (spec_digest("image/png", one) == spec_digest("image/png", other)) == same
    assert (untagged_ident(b"s" * 32, one) == untagged_ident(b"s" * 32, other)) == same
    assert spec_digest("image/png", ABSENT) != spec_digest("image/png", {})


def test_build_that_is_none_of_ours_has_no_number() -> None:
    for build in ("", "owner", "owner-", "owner-x", "owner-١", "owner-²", "owner-1 ", "owner-" + 5000 * "9"):
        assert FlowTag("b", "f", "k", build).number == 0
