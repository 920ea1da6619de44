"""Texts: what is a prompt and what is none."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from batcher.core.facts import FileStat
from batcher.core.model import Problem
from batcher.sources.dispatch import AllSources

from .conftest import content, plan, source


@pytest.mark.parametrize("content", [b"", b"  \n", b"\xff\xfe", b"data:x"])
def test_prompt_that_is_none_is_a_problem(sources: AllSources, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.txt"
    path.write_bytes(content)
    assert isinstance(sources.mime(source(path), ("text/plain",)), Problem)


@pytest.mark.parametrize(
    ("text", "message"),
    [(" \n", "the prompt text is empty"), ("", "the prompt text is empty"), ("data:x", "the prompt text starts with data:")],
)
def test_text_in_the_manifest_that_is_no_prompt_is_a_problem(sources: AllSources, text: str, message: str) -> None:
    problem = sources.mime(source(None, text), None)
    assert isinstance(problem, Problem)
    assert (problem.kind, problem.message, str(problem.place)) == ("source", message, "m:1:1")


def test_text_is_sent_as_a_plain_string_whether_from_a_file_or_the_manifest(sources: AllSources, tmp_path: Path) -> None:
    text = 'a "chair" in rosé\n'
    (tmp_path / "p.txt").write_text(text, encoding="utf-8")
    for item in (source(None, text), source(tmp_path / "p.txt")):
        one = plan(sources, item, ("text/plain",))
        sha256 = hashlib.sha256(text.encode())
        tag = {"key": (b"k" * 16).hex(), "sha256": sha256.hexdigest()}
        assert one.stat.size == len(text.encode())
        assert json.loads(content(sources.body(one))) == {"data": text, "additional": {"batcher": tag}}
        assert sources.digest(item) == sha256.digest()
    assert sources.look(source(None, text)) == FileStat(len(text.encode()))


def test_long_text_is_encoded_at_once(sources: AllSources) -> None:
    one = plan(sources, source(None, "long " * 100_000))
    assert sources.small(one)
    assert json.loads(content(sources.body(one)))["data"] == "long " * 100_000
