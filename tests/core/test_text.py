"""Text of others: on one line, bounded, and nothing that a terminal would obey."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.core.text import OBEYED, escaped, harmless, shortened

ANY = st.text(st.characters())  # halves of characters, too, as in names of files that are not UTF-8


@given(ANY)
def test_escaped_text_is_printable_and_what_was_printable_stays(text: str) -> None:
    assert escaped(text).isprintable()
    assert escaped(text) == text or not text.isprintable()
    assert not re.search(f"[\n{OBEYED}]", escaped(text))


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain 日本 é", "plain 日本 é"), ("\x1b[1m", "\\x1b[1m"), ("a\nb\t", "a\\nb\\t"), ("\u202eabc", "\\u202eabc"),
     ("\udcff", "\\udcff"), ("\U000e0001", "\\U000e0001")],
)  # fmt: skip
def test_spelling_of_what_is_not_printable(text: str, shown: str) -> None:
    assert escaped(text) == shown


@given(ANY, st.integers(1, 20))
def test_shortened_text_is_bounded_and_says_that_it_was_cut(text: str, most: int) -> None:
    found = shortened(text, most)
    assert len(found) <= most
    assert found == text if len(text) <= most else found == text[: most - 1] + "…"


def test_escapes_do_not_count_against_the_length() -> None:
    assert harmless("\x1b" * 5, 3) == "\\x1b\\x1b…"
