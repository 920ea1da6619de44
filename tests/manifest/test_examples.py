"""The examples in `manifests/`, the schema beside them, and what becomes of them when they are mutilated."""

from __future__ import annotations

import copy
import json
import random
import re
import struct
from pathlib import Path
from typing import Any

import pytest
import yaml

from batcher.core.model import FileSource, Flow, Input, Problem
from batcher.manifest import ManifestError, load, schema

from .conftest import walk

FOLDER = Path(__file__).parents[2] / "manifests"
EXAMPLES = sorted(FOLDER.glob("*.yaml"))
ENV = {"FLOW_ID": "6941ac784e4fd44b7afb5f4c"}
MAGIC = {
    ".png": rb"\x89PNG\r\n\x1a\n", ".jpg": rb"\xff\xd8\xff", ".webp": rb"RIFF....WEBP",
    ".tiff": rb"II\*\0", ".glb": rb"glTF\x02", ".txt": rb"[A-Z]",
}  # fmt: skip


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_expands_to_real_files_without_a_problem(path: Path) -> None:
    manifest = load(path, ENV)
    assert walk(manifest) == []
    found = [item for flow in manifest.flows() if isinstance(flow, Flow) for item in flow.inputs()]
    assert found
    for item in found:
        assert isinstance(item, Input)
        if isinstance(item.source, FileSource):
            data = Path(item.source.path).read_bytes()
            assert re.match(MAGIC[Path(item.source.path).suffix], data, re.DOTALL)
            assert len(data) < 8000


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_names_its_schema_in_the_first_line(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=manifest.schema.json\n")


def test_the_quickstart_needs_no_key_and_no_environment() -> None:
    manifest = load(FOLDER / "quickstart.yaml", {})
    assert manifest.endpoint == "sandbox"
    assert 3 <= sum(1 for _ in manifest.flows()) <= 8


def test_the_glb_holds_what_its_header_says() -> None:
    data = (FOLDER / "models" / "stool.glb").read_bytes()
    magic, version, length, json_length = struct.unpack("<4sIII", data[:16])
    assert (magic, version, length) == (b"glTF", 2, len(data))
    document = json.loads(data[20 : 20 + json_length])
    (binary_length,) = struct.unpack("<I", data[20 + json_length :][:4])
    assert document["buffers"][0]["byteLength"] == binary_length == len(data) - 28 - json_length


@pytest.mark.parametrize("page", ["README.md", "docs/manifest.md", "docs/cron.md"])
def test_the_manifests_in_the_documentation_load(tmp_path: Path, page: str) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (FOLDER.parent / page).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "one.yaml").write_text("version: 1\nflows: []\n")
    for block in blocks:
        (tmp_path / "m.yaml").write_text(block, encoding="utf-8")
        assert load(tmp_path / "m.yaml", {}).flows


def test_every_page_with_a_manifest_is_tried_above() -> None:
    pages = {path.name for path in (FOLDER.parent / "docs").glob("*.md") if "```yaml" in path.read_text(encoding="utf-8")}
    assert pages == {"manifest.md", "cron.md", "hosts.md"}  # the last has one for Kubernetes


def test_the_schema_beside_the_examples_is_the_current_one() -> None:
    assert json.loads((FOLDER / "manifest.schema.json").read_text(encoding="utf-8")) == schema()


def test_the_schema_describes_every_member() -> None:
    made = schema()
    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "pydantic" not in json.dumps(made)
    for shape in (made, *made["$defs"].values()):
        assert shape["additionalProperties"] is False
        assert shape["description"]
        for name, member in shape["properties"].items():
            if name not in ("defaults", "limits", "each", "notify", "command"):  # these refer to a described shape
                assert "description" in json.dumps(member), name


# --- Mutants ----------------------------------------------------------------------------------------------------------

JUNK: list[Any] = [
    None, True, 0, -1, 1.5, "", " ", "x", "{x}", "{", "${", "${NOPE}", "$$", "../..", "a\0b", "*", "[", "data:,",
    [], [[]], [None], {}, {"a": 1}, {"glob": 1}, {"table": "t.csv"}, {"batcher": 1}, "NO", 10**30, "\x1b[31m", "t.csv",
]  # fmt: skip


def nodes(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(deeper for key, item in inner for deeper in nodes(item, (*path, key)))]


def mutant(document: Any, rng: random.Random) -> Any:
    """The document with one to three of its nodes dropped, repeated, retyped, renamed or moved."""
    document = copy.deepcopy(document)
    for _ in range(rng.randint(1, 3)):
        paths = [path for path in nodes(document) if path]
        if not paths:
            return document
        *owner_path, key = rng.choice(paths)
        owner = document
        for step in owner_path:
            owner = owner[step]
        match rng.choice(("drop", "repeat", "retype", "retype", "rename", "move")):
            case "drop":
                del owner[key]
            case "repeat" if isinstance(owner, list):
                owner.append(owner[key])  # written as an alias where it is a container
            case "rename" if isinstance(owner, dict):
                value = owner.pop(key)
                owner[rng.choice([str(key)[:-1], f"{key}s", "api_key", "batcher", "<<", "each", "glob", "日"])] = value
            case "move":
                owner[key] = copy.deepcopy(
                    rng.choice([document, *(document.values() if isinstance(document, dict) else ())])
                )
            case _:
                owner[key] = rng.choice(JUNK)
    return document


def repeat_a_line(text: str, rng: random.Random) -> str:
    lines = text.splitlines()
    at = rng.randrange(len(lines))
    lines.insert(rng.choice([at, rng.randrange(len(lines))]), lines[at])
    return "\n".join(lines)


def break_a_character(text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text))
    return (
        text[:at]
        + rng.choice(["", "{", "}", "[", "]", ":", "'", '"', "*", "&", "!", "\t", "\n", "%", "\u2028"])
        + text[at + 1 :]
    )


@pytest.mark.parametrize("seed", range(15))
def test_a_mutant_loads_or_is_refused_with_every_problem_placed(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    (tmp_path / "t.csv").write_text("x,y\n1,2\n")
    for path in (*FOLDER.glob("*.csv"), *FOLDER.glob("*.jsonl")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    outcomes = set()
    for path in EXAMPLES:
        text = path.read_text(encoding="utf-8")
        document = yaml.safe_load(text)
        mutants = [yaml.safe_dump(mutant(document, rng), allow_unicode=True) for _ in range(8)]
        mutants += [repeat_a_line(text, rng) for _ in range(3)]
        mutants += [break_a_character(text, rng) for _ in range(3)]
        for mutated in mutants:
            outcomes.add(_outcome(mutated))
    assert outcomes == {"loaded", "refused"}


def _outcome(text: str) -> str:
    Path("m.yaml").write_text(text, encoding="utf-8")
    try:
        manifest = load("m.yaml", ENV)
    except ManifestError as error:
        problems, outcome = list(error.problems), "refused"
    else:
        problems, outcome = walk(manifest), "loaded"
    assert problems or outcome == "loaded"
    assert outcome == "loaded" or len(set(problems)) == len(problems)
    for problem in problems:
        _check(problem)
    return outcome


def _check(problem: Problem) -> None:
    assert problem.place is not None
    assert problem.kind in ("manifest", "source")
    text = str(problem)
    assert text.isprintable()
    assert len(text) < 500
    assert not re.search(r"pydantic|Traceback|validation|type=|Input should|dict\b|NoneType|<class", text), text
