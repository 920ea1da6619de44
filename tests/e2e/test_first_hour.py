"""The first hour: slips are told with a way out, help is at hand, completion completes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from batcher.cli import output
from batcher.reporting.progress import style_of

from .conftest import batcher, write_batch

pytestmark = pytest.mark.slow

SANDBOX = ("--endpoint", "sandbox")


@pytest.mark.parametrize(("command", "flag"), [("run", "--only"), ("run", "--redo"), ("plan", "--only"), ("plan", "--redo")])
def test_flow_that_is_not_there_is_a_slip_and_nothing_is_written(tmp_path: Path, command: str, flag: str) -> None:
    write_batch(tmp_path, 2, 1)
    result = batcher(tmp_path, command, "m.yaml", *SANDBOX, flag, "f11", flag, "f0")
    assert result.returncode == 2, result.stderr
    assert f"{flag} f11: there is no such flow (did you mean f1?)" in result.stderr
    assert json.loads(batcher(tmp_path, "status", "m.yaml", *SANDBOX, "--json").stdout)["journal"] == []


def test_flow_that_is_not_there_is_not_collected(tmp_path: Path) -> None:
    write_batch(tmp_path, 2, 1)
    assert batcher(tmp_path, "run", "m.yaml", *SANDBOX, "--only", "f1").returncode == 0
    result = batcher(tmp_path, "collect", "m.yaml", *SANDBOX, "--to", "out", "--only", "f12")
    assert result.returncode == 2, result.stderr
    assert "--only f12: there is no such flow (did you mean f1?)" in result.stderr
    assert batcher(tmp_path, "collect", "m.yaml", *SANDBOX, "--to", "out", "--only", "f1").returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], "did you mean batcher.yaml?"),
        (["run", "photos"], "did you mean photos/batcher.yaml?"),
        (["plan", "photos/bacher.yml"], "did you mean photos/batcher.yaml?"),
        (["plan", "none/at-all"], "`batcher init FOLDER`"),
        (["status", "void"], "`batcher init void`"),
        (["photos"], "did you mean batcher init photos?"),
        (["batcher.yaml"], "did you mean batcher run batcher.yaml?"),
    ],
)
def test_manifest_that_was_meant_is_named(tmp_path: Path, words: list[str], said: str) -> None:
    for folder in ("photos", "void"):
        (tmp_path / folder).mkdir()
    for path in ("batcher.yaml", "another.yaml", "photos/batcher.yaml", "photos/a.yaml"):
        (tmp_path / path).write_text("version: 1\nflows: []\n")
    result = batcher(tmp_path, *words)
    assert result.returncode == 2
    assert said in result.stderr


class Stream(io.StringIO):
    def __init__(self, tty: bool) -> None:
        super().__init__()
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty


def test_colour_is_for_terminals_that_can_and_each_stream_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert output.color(Stream(True))
    assert not output.color(Stream(False))
    monkeypatch.setattr("sys.stderr", Stream(True))
    assert style_of("auto", False, output.dumb()) == "bar"
    monkeypatch.setenv("NO_COLOR", "1")
    assert not output.color(Stream(True))
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not output.color(Stream(True))
    assert style_of("auto", False, output.dumb()) == "plain"
