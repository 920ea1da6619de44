"""A file that is not there, and the one that was meant."""

from __future__ import annotations

import contextlib
import time
import unicodedata
from pathlib import Path

import pytest

from batcher.core.model import FileSource, Input, Place, Problem
from batcher.sources.dispatch import AllSources

NFD = unicodedata.normalize("NFD", "photos/café.png")


@pytest.mark.parametrize(
    ("written", "there", "why"),
    [
        ("photos/IMG_1.png", "photos/img_1.PNG", "capitals count"),
        ("Photos/x.png", "photos/x.png", "capitals count"),
        ("photos/x.png ", "photos/x.png", "blanks at the ends of names count"),
        ("photos/x.png", "photos/ x.png", "blanks at the ends of names count"),
        ("photos/café.png", NFD, "it is spelled in another Unicode form"),
        (NFD, "photos/café.png", "it is spelled in another Unicode form"),
        ("photos\\x.png", "photos/x.png", "folders are told apart by /"),
        ("photos\\X.png", "photos/x.png", "folders are told apart by /"),
    ],
)
def test_the_file_that_was_meant_is_named(tmp_path: Path, written: str, there: str, why: str) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / there).touch()
    if (tmp_path / written).exists():
        pytest.skip("this disk takes both names for one")
    problem = look(tmp_path, written)
    assert problem.message == f"no such file: '{written}'"
    assert problem.hint == f"did you mean '{there}'? {why}"


def test_what_is_like_nothing_there_gets_plain_advice(tmp_path: Path) -> None:
    (tmp_path / "photos" / "x.png").mkdir(parents=True)
    for written in ("photos/y.png", "photos/X.png", "nowhere/x.png", "photos/\udcff.png", "a" * 5000):
        problem = look(tmp_path, written)
        assert "did you mean" not in problem.hint


def look(folder: Path, written: str) -> Problem:
    with contextlib.closing(AllSources(0.0, time.time)) as sources:
        found = sources.look(Input(written, FileSource(f"{folder}/{written}"), None, None, Place("m.yaml", 1, 1)))
    assert isinstance(found, Problem)
    assert found.kind == "source"
    return found
