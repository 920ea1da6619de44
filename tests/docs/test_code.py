"""What makes the code easy to find one's way in: no name stands for two things, and nothing is long."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import batcher

ROOT: Final = Path(batcher.__file__).parent
MODULE_LINES: Final = 300
FUNCTION_LINES: Final = 40


def modules() -> Iterator[tuple[Path, str]]:
    found = sorted(ROOT.rglob("*.py"))
    assert len(found) > 300
    for path in found:
        yield path.relative_to(ROOT), path.read_text()


def test_a_class_has_its_name_to_itself() -> None:
    """Outside the sandbox, which plays another program's part and has its own `Flow`, `Reply` and `Template`."""
    where: dict[str, set[str]] = defaultdict(set)
    for path, text in modules():
        if path.parts[0] != "sandbox":
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    where[node.name].add(str(path))
    assert {name: paths for name, paths in where.items() if len(paths) > 1} == {}


def test_modules_and_functions_are_short() -> None:
    long = [f"{path}: {len(text.splitlines())}" for path, text in modules() if len(text.splitlines()) > MODULE_LINES]
    for path, text in modules():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                lines = node.end_lineno - node.lineno + 1
                if lines > FUNCTION_LINES:
                    long.append(f"{path}: {node.name}: {lines}")
    assert long == []
