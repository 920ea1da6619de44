"""The manifest's comforts with the command: keys, caps, checked images, included files, tables of other kinds."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from .conftest import PNG, Service, batcher


def run(service: Service, folder: Path, *words: str) -> dict:
    """The document of a run of `m.yaml`."""
    return json.loads(batcher(folder, "run", "m.yaml", "--endpoint", service.url, "--json", *words).stdout)


def test_a_file_that_moves_under_its_key_is_the_same_input(service: Service, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (tmp_path / "in" / f"{name}.png").write_bytes(PNG + os.urandom(900))
    head = "version: 1\nflows:\n- name: f\n  template: model_generate_fromimage\n"
    (tmp_path / "t.csv").write_text("sku,file\nA,in/a.png\nB,in/b.png\n")
    (tmp_path / "m.yaml").write_text(head + '  inputs: [{table: t.csv, file: "{file}", key: "{sku}"}]\n')
    assert run(service, tmp_path, "--no-start")["inputs"]["uploaded_now"] == 2
    shutil.copy(tmp_path / "in" / "a.png", tmp_path / "elsewhere.png")  # another inode and time, the same content
    (tmp_path / "t.csv").write_text("sku,file\nB,in/b.png\nA,elsewhere.png\n")
    first = run(service, tmp_path)
    assert (first["exit_code"], first["inputs"]["uploaded_now"], first["flows"]["started_now"]) == (0, 0, 1)
    (tmp_path / "elsewhere.png").rename(tmp_path / "again.png")
    (tmp_path / "t.csv").write_text("sku,file\nA,again.png\nB,in/b.png\n")
    second = run(service, tmp_path)
    assert (second["flows"]["changed"], second["requests"]["sent"]) == (0, 0)
    (tmp_path / "again.png").write_bytes(PNG + b"another content")
    assert run(service, tmp_path)["flows"]["changed"] == 1
    (flow,) = [flow for flow in service.record()["flows"] if not flow["deleted"]]
    assert (flow["starts"], len(flow["inputs"])) == (1, 2)
