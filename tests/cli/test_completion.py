"""Completion in real shells: what stands at the prompt after a tab, and that nothing else ever does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import get_completion_class

from batcher.cli import cli
from batcher.cli.completing import NAMES_MAX
from batcher.cli.shells import ASKED
from tests.e2e.conftest import batcher, environment

from . import books

MANIFEST = """version: 1
endpoint: sandbox
defaults: {template: model_generate_fromimage}
flows:
- {name: chair-red, inputs: [a.png]}
- {name: chair-blue, inputs: [a.png]}
- {name: "with space", inputs: [a.png]}
- {name: "a:b:c", inputs: [a.png]}
- {name: "a,b", inputs: [a.png]}
- {name: "*[x]$HOME'q", inputs: [a.png]}
"""


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with manifests, and the command on the PATH."""
    (tmp_path / "m.yaml").write_text(MANIFEST)
    (tmp_path / "my other.yml").write_text(MANIFEST)
    (tmp_path / "broken.yaml").write_text("flows: [")
    (tmp_path / "photo.png").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "batcher"
    command.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m batcher \"$@\"\n")
    command.chmod(0o755)
    return tmp_path


def shell(desk: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = environment(PATH=f"{desk / 'bin'}:{os.environ['PATH']}", HOME=str(desk), TERM="dumb")
    return subprocess.run(words, cwd=desk, env=env, capture_output=True, text=True, timeout=50, check=False)


BASH = r"""
eval "$(batcher completion bash)"
compopt() { :; }
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_batcher_completion batcher "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}"
"""


def in_bash(desk: Path, *words: str) -> list[str]:
    result = shell(desk, "bash", "--norc", "-c", BASH, "bash", "batcher", *words)
    assert (result.returncode, result.stderr) == (0, "")
    return sorted(result.stdout.splitlines())


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["run", ""], ["bin", "broken.yaml", "folder", "m.yaml", "my other.yml"]),
        (["run", "my\\ other.yml", "--redo", "w"], ["with\\ space"]),
        (["run", "m.yaml", "--only", "\\*"], ["\\*\\[x\\]\\$HOME\\'q"]),
        (["run", "m.yaml", "--redo", "'w"], ["with space"]),
        (["no-such-command", "x"], [""]),
    ],
    ids=lambda words: " ".join(words),
)
def test_bash_completes(desk: Path, words: list[str], found: list[str]) -> None:
    assert in_bash(desk, *words) == found


def asked(monkeypatch: pytest.MonkeyPatch, desk: Path, words: list[str], name: str = "bash") -> list[str]:
    """The values that the command answers with, in this process."""
    monkeypatch.chdir(desk)
    monkeypatch.setenv("COMP_WORDS", "\n".join(["batcher", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    kind = get_completion_class(name)
    assert kind is not None
    return [line.split("\t")[1] for line in kind(cli, {}, "batcher", ASKED).complete().splitlines()]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["st"], ["status"]),
        (["run", "m.yaml", "--keep"], ["--keep-going"]),
        (["plan", "m.yaml", "--only", "chair-"], ["chair-red", "chair-blue"]),
        (["plan", "m.yaml", "--only", "chair-red", "--only", "chair-"], ["chair-blue"]),
        (["plan", "--only", "chair-b"], []),
        (["run", "m.yaml", "--only", "=", "chair-b"], ["chair-blue"]),
        (["run", "m.yaml", "--only", "="], ["chair-red", "chair-blue", "with space", "a:b:c", "a,b", "*[x]$HOME'q"]),
        (["run", "m.yaml", "--only", "a:"], ["a:b:c"]),
        (["run", "m.yaml", "--only", "a", ":", "b"], ["b:c"]),
        (["run", "broken.yaml", "--only", ""], []),
        (["run", "none.yaml", "--only", ""], []),
        (["run", "m.yaml", "--progress", "p"], ["plain"]),
        (["run", "m.yaml", "--log-file", "x"], ["x"]),
        (["help", "exi"], ["exit-codes"]),
        (["completion", "f"], ["fish"]),
    ],
    ids=lambda words: " ".join(words),
)
def test_words_are_completed(monkeypatch: pytest.MonkeyPatch, desk: Path, words: list[str], found: list[str]) -> None:
    assert asked(monkeypatch, desk, words) == found


def test_names_come_from_the_journal_too(monkeypatch: pytest.MonkeyPatch, desk: Path) -> None:
    books.write(desk, ["chair-old", "stool-old"])
    (desk / "m.yaml").write_text(MANIFEST)
    assert asked(monkeypatch, desk, ["run", "m.yaml", "--only", "chair-"]) == ["chair-old", "chair-red", "chair-blue"]


@pytest.mark.long  # how far one second leads depends on the machine
def test_a_huge_manifest_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch, desk: Path) -> None:
    rows = "\n".join(f"row-{n}" for n in range(100_000))
    (desk / "rows.csv").write_text(f"name\n{rows}\n")
    flow = "- {each: {table: rows.csv}, name: '{name}', template: x, inputs: [{text: a chair}]}\n"
    (desk / "huge.yaml").write_text(f"version: 1\nflows:\n{flow}")
    assert len(asked(monkeypatch, desk, ["run", "huge.yaml", "--only", "row-"])) <= NAMES_MAX
    monkeypatch.setattr("batcher.cli.completing.NAMES_S", 0.0)
    assert asked(monkeypatch, desk, ["run", "huge.yaml", "--only", "row-99"]) == []


ZSH = r"""
autoload -U compinit; compinit -D -u
eval "$(batcher completion zsh)"
_describe() { print -l -- ${described%%:*} }
compadd() { print -l -- $plain }
_files() { print -r -- "files $*" }
words=("$@"); CURRENT=$#
_batcher_completion
"""


@pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh here")
@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["st"], ["status"]),
        (["run", ""], ["files -g *.(yaml|yml)"]),
        (["run", "m.yaml", "--only", "a:"], ["a:b:c"]),
    ],
    ids=lambda words: " ".join(words),
)
def test_zsh_completes(desk: Path, words: list[str], found: list[str]) -> None:
    result = shell(desk, "zsh", "-f", "-c", ZSH, "zsh", "batcher", *words)
    assert result.stderr == ""
    assert result.stdout.splitlines() == found


@pytest.mark.skipif(not shutil.which("fish"), reason="no fish here")
@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("batcher stat", ["status"]),
        ("batcher run m.yaml --only a,", ["a,b"]),
        ("batcher run m.yaml --only with", ["with space"]),
    ],
)
def test_fish_completes(desk: Path, line: str, found: list[str]) -> None:
    result = shell(desk, "fish", "--no-config", "-c", f"batcher completion fish | source; complete -C '{line}'")
    assert result.stderr == ""
    assert sorted(line.partition("\t")[0] for line in result.stdout.splitlines()) == found


def test_a_shell_that_is_not_known_is_told(tmp_path: Path) -> None:
    result = batcher(tmp_path, "completion", "tcsh")
    assert result.returncode == 2
    assert "'bash', 'zsh', 'fish'" in result.stderr
