"""Texts in columns, as a terminal counts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.cli.columns import counted, fit, width


@pytest.mark.parametrize(
    ("text", "columns", "fitted"),
    [
        ("short", 8, "short"),
        ("exactly8", 8, "exactly8"),
        ("photos/chair-1.png", 11, "photo…1.png"),
        ("日本の椅子.png", 10, "日本….png"),
        ("e\u0301tude", 5, "e\u0301tude"),
        ("a\x1b[2J", 20, "a\\x1b[2J"),
    ],
)
def test_a_text_is_cut_in_its_middle(text: str, columns: int, fitted: str) -> None:
    assert fit(text, columns) == fitted


@given(st.text(), st.integers(3, 40))
def test_no_text_is_wider_than_its_column(text: str, columns: int) -> None:
    assert width(fit(text, columns)) <= columns
    assert width(fit(text, columns, pad=True)) == columns
    assert fit(text, columns).isprintable()


def test_counts_read_as_people_say_them() -> None:
    assert [counted(count, "input") for count in (0, 1, 2000)] == ["0 inputs", "1 input", "2,000 inputs"]
