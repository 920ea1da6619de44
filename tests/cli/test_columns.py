"""Texts in columns, as a terminal counts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.cli.columns import fit, width
from batcher.cli.readable import counted, shown


@pytest.mark.parametrize(
    ("text", "columns", "fitted"),
    [
        ("short", 8, "short"),
        ("exactly8", 8, "exactly8"),
        ("photos/chair-1.png", 11, "photo…1.png"),
        ("日本の椅子.png", 10, "日本….png"),
        ("e\u0301tude", 5, "e\u0301tude"),
        ("e\u0301" * 6, 5, "e\u0301" * 2 + "…" + "e\u0301" * 2),
        ("chair 👨\u200d👩\u200d👧.png", 10, "chair….png"),  # one picture of two columns, which is not cut apart
        ("👨\u200d👩\u200d👧👍🏽❤\ufe0f🇩🇪", 5, "👨\u200d👩\u200d👧…🇩🇪"),
    ],
)
def test_a_text_is_cut_in_its_middle(text: str, columns: int, fitted: str) -> None:
    assert fit(text, columns) == fitted


@pytest.mark.parametrize(
    ("text", "columns"),
    [("chair", 5), ("椅子", 4), ("e\u0301", 1), ("👨\u200d👩\u200d👧", 2), ("👍🏽", 2), ("❤\ufe0f", 2), ("🇩🇪", 2),
     ("\u1112\u1161\u11ab", 2), ("", 0)],
)  # fmt: skip
def test_the_width_is_what_a_terminal_takes(text: str, columns: int) -> None:
    assert width(text) == columns


@given(st.text().map(shown), st.integers(3, 40))
def test_no_text_is_wider_than_its_column(text: str, columns: int) -> None:
    assert width(fit(text, columns)) <= columns
    assert width(fit(text, columns, pad=True)) == columns


def test_counts_read_as_people_say_them() -> None:
    assert [counted(count, "input") for count in (0, 1, 2000)] == ["0 inputs", "1 input", "2,000 inputs"]
