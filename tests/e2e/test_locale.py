"""Names of files are bytes, read as UTF-8 whatever the locale: the same files are the same in cron and at the desk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import PNG, Service, batcher, environment

pytestmark = pytest.mark.slow

NAMES = ("é", "ü", "漢")
# Python guesses UTF-8 where it finds the C locale; here it is kept from that, as a machine may.
NO_GUESS = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
C = {"LC_ALL": "C", "LANG": "C", **NO_GUESS}


@pytest.fixture(scope="module")
def latin_1(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that lives in ISO-8859-1: that locale is made where the machine lacks it."""
    folder = tmp_path_factory.mktemp("locale")
    made = ["localedef", "--no-archive", "-i", "en_US", "-f", "ISO-8859-1", str(folder / "en_US.ISO-8859-1")]
    try:
        subprocess.run(made, capture_output=True, timeout=30)
    except OSError:
        pytest.skip("no localedef here")
    env = {"LC_ALL": "en_US.ISO-8859-1", "LANG": "en_US.ISO-8859-1", "LOCPATH": str(folder), **NO_GUESS}
    asked = [sys.executable, "-c", "import sys; print(sys.getfilesystemencoding())"]
    if subprocess.run(asked, env={**os.environ, **env}, capture_output=True, text=True).stdout.strip() != "iso8859-1":
        pytest.skip("no ISO-8859-1 to be had here")
    return env


def write(folder: Path) -> None:
    (folder / "in").mkdir()
    for name in NAMES:
        (folder / "in" / f"{name}.png").write_bytes(PNG + name.encode() * 50)
    lines = ["version: 1", "limits: {settle: 1s}", "flows:", '- each: {glob: "in/*.png"}', '  name: "{stem}"',
             "  template: model_generate_fromimage", '  inputs: ["{path}"]']  # fmt: skip
    (folder / "manifest-ü.yaml").write_text("\n".join(lines), encoding="utf-8")


def test_the_same_files_are_the_same_in_every_locale(service: Service, tmp_path: Path, latin_1: dict[str, str]) -> None:
    write(tmp_path)
    utf8 = {"LC_ALL": "C.UTF-8"}
    words = ("manifest-ü.yaml", "--endpoint", service.url, "--json")
    first = json.loads(batcher(tmp_path, "run", *words, **latin_1).stdout)
    assert (first["exit_code"], first["flows"]["started_now"]) == (0, 3)
    again = json.loads(batcher(tmp_path, "run", *words, **utf8).stdout)
    assert (again["exit_code"], again["flows"]["total"], again["flows"]["started_now"]) == (0, 3, 0)
    only = json.loads(batcher(tmp_path, "run", *words, "--only", "ü", **C).stdout)
    assert (only["exit_code"], only["flows"]["total"], only["flows"]["started_now"]) == (0, 1, 0)
    status = batcher(tmp_path, "status", *words[:-1], **latin_1)
    assert all(name in status.stdout for name in NAMES), "what is written is UTF-8, too"
    got = json.loads(batcher(tmp_path, "collect", *words, "--to", "out", **C).stdout)
    assert (got["exit_code"], got["outputs"]["collected_now"]) == (0, 3)
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == sorted(NAMES)
    assert len([flow for flow in service.record()["flows"] if flow["starts"]]) == 3


def test_images_are_looked_at_by_their_own_names(service: Service, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "in").mkdir()
    image.new("RGB", (4, 4)).save(tmp_path / "in" / "漢.png")
    lines = ["version: 1", "limits: {check_images: true}", "flows:",
             "- {name: a, template: model_generate_fromimage, inputs: [in/漢.png]}"]  # fmt: skip
    (tmp_path / "m.yaml").write_text("\n".join(lines), encoding="utf-8")
    plan = batcher(tmp_path, "plan", "m.yaml", "--endpoint", service.url, **C)
    assert plan.returncode == 0, plan.stderr


def test_name_that_is_not_utf8_is_a_problem_with_its_place(service: Service, tmp_path: Path) -> None:
    write(tmp_path)
    raw = os.fsencode(tmp_path) + b"/in/\xe9.png"
    try:
        os.close(os.open(raw, os.O_CREAT | os.O_WRONLY, 0o600))
    except OSError:
        pytest.skip("this file system takes no such name")
    for env in ({"LC_ALL": "C.UTF-8"}, C):
        run = batcher(tmp_path, "run", "manifest-ü.yaml", "--endpoint", service.url, **env)
        assert run.returncode == 4
        assert 'manifest-ü.yaml:4:16: the file name "in/\\xe9.png" is not UTF-8' in run.stderr
    assert not service.record()["flows"]


def test_journal_of_a_folder_whose_name_is_not_utf8(service: Service, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9"))
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes no such name")
    write(folder)
    run = batcher(folder, "run", "manifest-ü.yaml", "--endpoint", service.url, "--state", "state")
    assert run.returncode == 0, run.stderr


def test_the_api_refuses_a_process_in_which_names_are_not_utf8(tmp_path: Path) -> None:
    write(tmp_path)
    code = "import batcher, glob\ntry: batcher.load_manifest(glob.glob('*.yaml')[0])\nexcept batcher.UsageError as e: print(e)"
    said = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(**C), capture_output=True, text=True)
    assert "start Python with -X utf8" in said.stdout, said.stderr


def test_command_that_cannot_have_utf8_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "utf8=0", "-m", "batcher", "plan", "m.yaml"]
    said = subprocess.run(command, cwd=tmp_path, env=environment(**C), capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (2, "")
    assert "names of files would be read as ascii" in said.stderr
    assert "Traceback" not in said.stderr
