"""The documentation against the code: what is not documented, or documented and not there, is a failing test."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

import batcher
from batcher.cli import COMMANDS, GROUPS, cli
from batcher.cli.reference import ENVIRONMENT, EXIT_CODES, commands, flags, sections
from batcher.cli.topics import TOPICS
from batcher.core.exit_codes import ExitCode
from batcher.manifest import load
from batcher.manifest.keys_base import Shape
from batcher.sandbox.faults import EFFECTS
from batcher.sandbox.readings import Readings
from tests.e2e.conftest import PNG, environment

from .pages import TEXTS, blocks

SOURCES = sorted(Path(batcher.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("name", COMMANDS)
def test_command_and_its_flags_are_explained(name: str) -> None:
    command = commands()[name]
    assert command.help, f"give `{name}` a docstring: it is its help"
    for flag in flags(command):
        assert flag.about, f"give {flag.text} of `batcher {name}` a help="
    assert len(COMMANDS[name]) < 100
    assert re.search(rf"`batcher {name}\b", TEXTS["docs/reference.md"])


def test_groups_name_commands_that_are_there() -> None:
    assert {name for names in GROUPS.values() for name in names} <= set(COMMANDS)


def shapes(of: type = Shape) -> Iterator[type]:
    for shape in of.__subclasses__():
        yield shape
        yield from shapes(shape)


def test_every_key_of_the_manifest_is_explained_with_an_example() -> None:
    text = TOPICS["manifest"].text()
    listed = {(section.title, key.name) for section in sections() for key in section.keys}
    assert len(listed) == sum(len(shape.model_fields) for shape in set(shapes()))  # type: ignore[attr-defined]
    for shape in shapes():
        for name in shape.model_fields:  # type: ignore[attr-defined]
            assert re.search(rf"^    {name}: \(", text, re.MULTILINE), f"{name} of {shape.__name__}"
    # Mappings with keys of their own, and what has one value only.
    structure = {"version", "flows", "defaults", "profiles", "limits", "each", "notify", "command"}
    missing = {(section.title, key.name) for section in sections() for key in section.keys if not key.example}
    assert {name for _, name in missing} <= structure, "give these keys examples=[…] in manifest/keys*.py"


def test_examples_of_keys_are_ones_that_load(tmp_path: Path) -> None:
    for section in sections():
        for key in section.keys:
            if not key.example or section.title not in ("manifest", "limits", "defaults", "flows: -") or key.name == "include":
                continue
            value = yaml.safe_load(key.example)
            flow = {"name": "f", "template": "t", "inputs": [{"text": "x"}]}
            document = {"version": 1, "profiles": {"fine": {}}, "flows": [flow]}
            if section.title == "flows: -":
                if key.name == "flow_id":
                    del flow["template"]
                flow[key.name] = value
            elif section.title == "manifest":
                document[key.name] = value
            else:
                document[section.title] = {key.name: value}
                if key.name == "max_cost":  # in the unit of that one
                    document[section.title]["price_per_start"] = "0.40 EUR"
            (tmp_path / "m.yaml").write_text(yaml.safe_dump(document))
            assert list(load(tmp_path / "m.yaml", {}).flows()), f"{section.title}: {key.name}"


def test_every_exit_code_is_explained() -> None:
    topic = TOPICS["exit-codes"].text()
    assert all(re.search(rf"^{code}\b", topic, re.MULTILINE) for code, *_ in EXIT_CODES)
    exits = {int(code) for path in SOURCES for code in re.findall(r"(?:sys\.exit|code =) ?\(?(\d+)\b", path.read_text())}
    assert exits - {128} <= set(ExitCode)  # and the number of the signal


def test_every_variable_that_is_read_is_explained() -> None:
    pattern = r"""environ(?:\.get\(|\[)["'](\w+)["']|envvar=["'](\w+)["']|getenv\(["'](\w+)["']"""
    read = {next(filter(None, found)) for path in SOURCES for found in re.findall(pattern, path.read_text(encoding="utf-8"))}
    internal = {"COMP_WORDS", "COMP_CWORD"}  # what a shell says when it asks for completions
    listed = {name for name, _ in ENVIRONMENT}
    assert read - internal <= listed, "put it into ENVIRONMENT of cli/reference.py"
    assert {"GENERIO_API_KEY", "BATCHER_ENDPOINT", "NO_COLOR"} <= read


def test_every_fault_and_reading_is_explained() -> None:
    text = TOPICS["faults"].text()
    assert all(f"  {word} " in text for word in (*EFFECTS, *(name for name, *_ in Readings.table())))


@pytest.mark.parametrize("name", [*TOPICS, *COMMANDS])
def test_help_tells_about_it_in_eighty_columns(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["help", name], prog_name="batcher", standalone_mode=False)
    shown = capsys.readouterr().out
    assert shown.count("\n") > 2
    assert max(map(len, shown.splitlines())) <= 80


def test_help_lists_every_command_and_topic(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["help"], prog_name="batcher", standalone_mode=False)
    shown = capsys.readouterr().out
    assert all(re.search(rf"^  {name} ", shown, re.MULTILINE) for name in (*COMMANDS, *TOPICS))
    cli.main(["--help"], prog_name="batcher", standalone_mode=False)
    shown = capsys.readouterr().out
    assert all(re.search(rf"^  {name} ", shown, re.MULTILINE) for name in COMMANDS)


@pytest.mark.parametrize("wrong", [["rnu"], ["help", "manifset"], ["run", "--onyl", "x", "m.yaml"]])
def test_slips_are_told_with_what_was_meant(wrong: list[str]) -> None:
    with pytest.raises(click.UsageError) as caught:
        cli.main(wrong, prog_name="batcher", standalone_mode=False)
    assert "did you mean" in caught.value.format_message().lower()


def test_topics_that_the_messages_name_are_there() -> None:
    for path in SOURCES:
        for name in re.findall(r"batcher help ([a-z][a-z-]+)", path.read_text(encoding="utf-8")):
            assert name in TOPICS or name in COMMANDS, f"{path.name}: batcher help {name}"


def test_the_screens_of_the_readme_are_what_is_shown(tmp_path: Path) -> None:
    """Its commands, typed as they stand; figures aside, the screens are the same."""
    (tmp_path / "photos").mkdir()
    for number in range(200):
        (tmp_path / "photos" / f"chair-{number:03}.png").write_bytes(PNG + b"%d" % number * 100)
    (screen,) = blocks(TEXTS["README.md"], "console")
    shown = ""
    for line in re.findall(r"^\$ (.*)$", screen, re.MULTILINE):
        script = 'batcher() { "$PYTHON" -m batcher "$@"; }\n' + line
        env = environment(PYTHON=sys.executable, COLUMNS="80")
        result = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=50)
        assert (result.returncode, result.stderr) == (0, "")
        shown += f"$ {line}\n{result.stdout}"
    assert _without_figures(shown) == _without_figures(screen)
    assert "200 of 200 started" in shown
    names = {path.name for path in (tmp_path / "photos-results").glob("*.glb")}
    assert names == {f"chair-{number:03}.glb" for number in range(200)}


def _without_figures(text: str) -> str:
    return re.sub(r"\d[\d,.]* (?:[kMG]?B|s)\b|\d[\d,.]* requests", "N", text)


# Arguments, the hint being the last of them.
NEEDED = {"UsageError": 2, "JournalError": 2, "Locked": 2, "Stop": 3, "Unfit": 2, "Problem": 3, "_problem": 3}


def test_every_error_says_what_to_do_next() -> None:
    bare = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or ast.unparse(node.func).startswith("click."):
                continue
            needed = NEEDED.get(ast.unparse(node.func).rpartition(".")[2])
            if needed is None or any(isinstance(one, ast.Starred) for one in node.args):
                continue
            hint = node.args[needed - 1] if len(node.args) >= needed else None
            empty = isinstance(hint, ast.Constant) and not hint.value
            if empty or len(node.args) + len(node.keywords) < needed:
                bare.append(f"{path}:{node.lineno}")
    assert not bare, "give these errors a hint: what is to be done next"
