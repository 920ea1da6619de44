"""`did you mean …?`: the closest known name, within bounds."""

from __future__ import annotations

import ast
import time
from pathlib import Path

import batcher
from batcher.core.suggestion import CHARS, NAMES, closest, did_you_mean


def test_the_closest_name_is_suggested_as_it_is_spelled() -> None:
    assert did_you_mean("inputz", ["inputs", "limits"]) == "did you mean inputs?"
    assert did_you_mean("suffx", ["stem", "suffix"], spell=lambda name: f"{{{name}}}") == "did you mean {suffix}?"


def test_without_one_something_else_is_said() -> None:
    assert did_you_mean("zzz", ["inputs"], "there are inputs") == "there are inputs"
    assert did_you_mean("zzz", []) == ""
    assert closest("chair", ["lamp"]) is None


def test_a_wilder_guess_can_be_asked_for() -> None:
    assert closest("lamp.yml", ["batcher.yaml"]) is None
    assert closest("lamp.yml", ["batcher.yaml"], 0.5) == "batcher.yaml"


def test_many_names_and_long_ones_take_no_time() -> None:
    began = time.monotonic()
    assert closest("x" * CHARS * 1000, (f"{'y' * 200}{n}" for n in range(1_000_000))) is None
    assert closest("last", [*(f"{n:05}" for n in range(NAMES)), "last"]) is None, "beyond the bound nothing is compared"
    assert time.monotonic() - began < 2


def test_nobody_else_compares_names() -> None:
    home = Path(batcher.__file__).parent
    asking = {
        str(path.relative_to(home)) for path in home.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import) and node.names[0].name == "difflib"
    }  # fmt: skip
    assert asking == {"core/suggestion.py"}
