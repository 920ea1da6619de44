"""What may not be read says so, with its path, and ends with 2: it is neither missing nor a bug."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Service, batcher, environment, write_batch

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def open_again(tmp_path: Path) -> Iterator[None]:
    yield
    for folder, _, names in os.walk(tmp_path):
        for name in (".", *names):
            os.chmod(os.path.join(folder, name), 0o700)
    shutil.rmtree(tmp_path / "closed", ignore_errors=True)


def as_somebody(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The command by somebody who may not do everything: root is held to the modes of files, too."""
    command = [sys.executable, "-m", "batcher", *words]
    if os.geteuid() == 0:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip("root, and no setpriv here")
        without = "-dac_override,-dac_read_search"
        command = [setpriv, f"--bounding-set={without}", f"--inh-caps={without}", *command]
    return subprocess.run(command, cwd=folder, env=environment(**env), capture_output=True, text=True, timeout=50)


@pytest.mark.parametrize("closed", ["the folder", "the journal"])
def test_journal_of_another_user(service: Service, tmp_path: Path, closed: str) -> None:
    write_batch(tmp_path, 1, 1)
    assert batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url).returncode == 0
    (journal,) = (tmp_path / ".batcher").glob("*.sqlite")
    (journal if closed == "the journal" else journal.parent).chmod(0)
    commands = ("plan", "status", "report", "clean", "run", "collect")
    for command in commands if closed == "the folder" else ("plan", "run"):
        more = ("--to", "out") if command == "collect" else ()
        said = as_somebody(tmp_path, command, "m.yaml", "--endpoint", service.url, *more)
        assert said.returncode == 2, (command, said.stderr)
        assert str(tmp_path / ".batcher") in said.stderr
        assert "Permission denied (run as its owner, or name another folder with --state)" in said.stderr
    assert service.requests().count("create") == 1


def test_state_folder_that_may_not_be_entered(service: Service, tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 1)
    (tmp_path / "closed").mkdir(mode=0)
    for command in ("plan", "run"):
        said = as_somebody(tmp_path, command, "m.yaml", "--endpoint", service.url, "--state", "closed/state")
        assert said.returncode == 2, said.stderr
        assert "closed/state" in said.stderr
        assert "run as its owner, or name another folder with --state" in said.stderr


def test_manifests_tables_and_keys_that_may_not_be_read(service: Service, tmp_path: Path) -> None:
    flow = "{name: a, template: model_generate_fromimage, inputs: [{table: t.csv, file: '{file}'}]}"
    (tmp_path / "m.yaml").write_text(f"version: 1\nflows: [{flow}]\n")
    (tmp_path / "i.yaml").write_text("version: 1\ninclude: [m.yaml]\n")
    (tmp_path / "t.csv").write_text("file\na.png\n")
    (tmp_path / "t.csv").chmod(0)
    said = as_somebody(tmp_path, "plan", "m.yaml", "--endpoint", service.url)
    assert said.returncode == 4  # a source's fault
    assert 'm.yaml:2:72: the table "t.csv" cannot be read: Permission denied (check its permissions' in said.stderr
    said = as_somebody(tmp_path, "run", "m.yaml", "--endpoint", service.url, GENERIO_API_KEY_FILE="t.csv")
    assert (said.returncode, "GENERIO_API_KEY_FILE: t.csv cannot be read: Permission denied" in said.stderr) == (2, True)
    (tmp_path / "m.yaml").chmod(0)
    for manifest, words in (("m.yaml", "m.yaml: the manifest"), ("i.yaml", 'i.yaml:2:11: "m.yaml" cannot be included')):
        said = as_somebody(tmp_path, "plan", manifest, "--endpoint", service.url)
        assert said.returncode == 2
        assert words in said.stderr
        assert "cannot be read: Permission denied (check its permissions)" in said.stderr


def test_a_key_in_a_folder_that_may_not_be_entered_is_not_said_to_be_missing(tmp_path: Path) -> None:
    write_batch(tmp_path, 1, 1)
    (tmp_path / "closed").mkdir(mode=0)
    said = as_somebody(tmp_path, "cron", "m.yaml", "--key-file", "closed/key")
    assert said.returncode == 0, said.stderr
    assert "closed/key may not be looked at: Permission denied" in said.stderr


def test_a_folder_that_may_not_be_read_is_no_bug_of_ours(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0o100)
    said = as_somebody(tmp_path / "closed", "run")
    assert said.returncode == 2
    assert "`batcher init FOLDER` writes a first manifest" in said.stderr
    assert "Traceback" not in said.stderr
