"""The viewer is the one that was published, and travels with the package."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path

HOME = resources.files("batcher.gallery")
ROOT = Path(__file__).parents[2]


def test_the_viewer_is_the_published_one_by_its_digest() -> None:
    note = HOME.joinpath("viewer", "PUBLISHED.txt").read_text("utf-8")
    facts = dict(re.findall(r"^(\w+): +(\S+)", note, re.MULTILINE))
    assert (facts["package"], facts["version"], facts["licence"]) == ("@google/model-viewer", "4.4.0", "Apache-2.0,")
    content = HOME.joinpath("viewer", Path(facts["file"]).name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == facts["sha256"]
    assert facts["sha256"] == "d785423b1d046ea84a9f59ef6cf15f3077603e1bf938b01ced9b0240691884a2"
    licence = HOME.joinpath("viewer", "LICENSE").read_bytes()
    assert hashlib.sha256(licence).hexdigest() in note
    assert b"Apache License" in licence


def test_the_palette_is_that_of_the_report() -> None:
    def palettes(text: str) -> list[dict[str, str]]:
        blocks = re.findall(r":root \{(.*?)\}", text, re.DOTALL)[:2]
        return [dict(re.findall(r"--(\w+(?:-soft)?): (#\w+)", block)) for block in blocks]

    ours = palettes(HOME.joinpath("gallery.css").read_text("utf-8"))
    theirs = palettes(resources.files("batcher.cli.page").joinpath("page.css").read_text("utf-8"))
    for mine, other in zip(ours, theirs, strict=True):
        assert len(other) > 12
        assert {name: mine[name] for name in other} == other


def test_the_wheel_has_the_page_and_the_viewer(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        names = set(files.namelist())
        viewer = files.read("batcher/gallery/viewer/model-viewer-umd.min.js")
    assert viewer == HOME.joinpath("viewer", "model-viewer-umd.min.js").read_bytes()
    for name in ("main.html", "gallery.css", "gallery.js", "viewer/LICENSE", "viewer/PUBLISHED.txt"):
        assert f"batcher/gallery/{name}" in names
