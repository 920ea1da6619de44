"""The log's lines and files: bounded, its owner's only, harmless, without a key."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import pytest

from batcher.reporting import log as module
from batcher.reporting.log import Log, open_log


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def opened(path: Path) -> closing[Log]:
    return closing(open_log(str(path), "json", str, pytest.fail))


def test_files_are_bounded_and_their_owners_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILE_BYTES", 2000)
    monkeypatch.setattr(module, "FILES_KEPT", 2)
    path = tmp_path / "log"
    before = os.umask(0)
    try:
        with opened(path) as log:
            for number in range(200):
                log.emit("input_accepted", "info", {"flow": "f", "number": number})
    finally:
        os.umask(before)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["log", "log.1", "log.2"]
    assert all(file.stat().st_size <= 2000 and file.stat().st_mode & 0o777 == 0o600 for file in files)
    kept = [line["number"] for file in reversed(files) for line in lines(file)]
    assert kept == list(range(kept[0], 200)), "none is lost or cut where a file ends"


def test_two_runs_with_one_log_lose_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILE_BYTES", 4000)
    path = tmp_path / "log"
    with opened(path) as first, opened(path) as second:
        for number in range(100):
            (first if number % 3 else second).emit("x", "info", {"number": number})
    found = {line["number"] for file in tmp_path.iterdir() for line in lines(file)}
    assert found == set(range(100))
    assert len(list(tmp_path.iterdir())) < 6


@pytest.mark.parametrize("form", ["json", "text"])
def test_lines_are_cleaned_whole(tmp_path: Path, form: str) -> None:
    path = tmp_path / "log"
    with closing(open_log(str(path), form, lambda line: line.replace("secret", "[key]"), pytest.fail)) as log:
        log.emit("problem", "error", {"message": "it said secret\nand\udcff\u202e", "counts": {"a": 1}, "secret": None})
    (line,) = path.read_text().splitlines()
    assert "[key]" in line
    assert "secret" not in line
    if form == "json":
        assert line.isascii()
        found = json.loads(line)
        assert list(found)[:3] == ["time", "level", "event"]
        assert (found["level"], found["message"]) == ("ERROR", "it said [key]\nand\udcff\u202e")
        assert found["time"].endswith("+00:00")
    else:
        assert " ERROR   problem message=" in line
        assert "counts=a:1" in line


def test_a_log_that_cannot_be_put_aside_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILE_BYTES", 500)
    said: list[str] = []
    path = tmp_path / "log"
    (tmp_path / "log.1").mkdir()
    (tmp_path / "log.1" / "full").touch()
    with closing(open_log(str(path), "json", str, said.append)) as log:
        for number in range(50):
            log.emit("x", "info", {"number": number})
    assert len(said) == 1
    assert f"the log {path} cannot be written" in said[0]
    assert path.stat().st_size <= 500
