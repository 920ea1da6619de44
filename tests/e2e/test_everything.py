"""Every kind of input and odd names: the sandbox's store holds every byte, every `additional`, every parameter."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from .conftest import PNG, Service, batcher

NAMES = ["c[1].png", "-dash.png", "日本.png", "a b.png", "{x}.png", "$y.png", "'q'.png", "ü.png"]

MANIFEST = """\
version: 1
batch: everything
defaults:
  template: model_generate_fromimage
  parameters: {quality: low, texture: true}
  additional: {campaign: autumn, deep: {a: 1, b: 2}}
flows:
- name: strings
  inputs: [%(names)s]
- name: files
  parameters: {seed: 7, texture: null}
  additional: {deep: {b: 3}}
  inputs:
  - {file: 日本.png, additional: {sku: J, list: [1, null, {x: 1.5}]}}
  - {file: odd, mime: image/png}
- name: twice
  inputs: [a b.png, a b.png]
- name: globbed
  inputs: [{glob: "g/**/*.png", additional: {n: "{index}", s: "{stem}", p: "{parent}"}}]
- name: csv
  inputs: [{table: t.csv, file: "g/{file}", additional: {sku: "{sku}"}}]
- name: jsonl
  inputs: [{table: t.jsonl, file: "g/{file}", additional: {n: "{n}"}}]
- name: untagged
  inputs:
  - {file: ü.png, additional: words}
  - {file: ü.png, additional: [1, 2]}
  - {file: -dash.png, additional: null}
- name: texts
  template: model_generate_fromprompt
  inputs: [{text: "A chair\\nwith “quotes” \\\\ and 日本"}, {file: p.txt}]
- name: glb
  template: model_optimize
  inputs: [m.glb]
- each: {glob: "g/*.png"}
  name: "each {stem}"
  inputs: ["{path}", {text: "unused"}]
- each: {table: t.tsv}
  name: "row {id}"
  parameters: {quality: "{quality}"}
  inputs: ["g/{file}"]
- name: prepared
  flow_id: ${FLOW_ID}
  inputs: [ü.png]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (*NAMES, "odd"):
        (tmp_path / name).write_bytes(PNG + name.encode() * 40)
    (tmp_path / "g" / "deep").mkdir(parents=True)
    for name in ("1.png", "2.png", "deep/3.png"):
        (tmp_path / "g" / name).write_bytes(PNG + name.encode() * 50_000)
    (tmp_path / "t.csv").write_text("\ufefffile,sku\n1.png,A\n2.png,B\n")
    (tmp_path / "t.jsonl").write_text('{"file": "1.png", "n": 5}\n\n{"file": "2.png", "n": {"x": true}}\n')
    (tmp_path / "t.tsv").write_text("id\tfile\tquality\none\t1.png\thigh\ntwo\t2.png\tlow\n")
    (tmp_path / "p.txt").write_text("A stool\n")
    glb = (Path(__file__).parents[2] / "manifests" / "models" / "stool.glb").read_bytes()
    (tmp_path / "m.glb").write_bytes(glb)
    names = ", ".join(json.dumps(name, ensure_ascii=False) for name in NAMES).replace("$", "$$")
    text = MANIFEST.replace(', {text: "unused"}', "") % {"names": names}
    (tmp_path / "m.yaml").write_text(text)
    return tmp_path


def test_every_byte_arrives_as_meant(service: Service, folder: Path) -> None:
    flow_id = service.create()
    words = ("m.yaml", "--endpoint", service.url)
    planned = batcher(folder, "plan", *words, FLOW_ID=flow_id)
    assert planned.returncode == 0, planned.stderr
    result = batcher(folder, "run", *words, "--json", FLOW_ID=flow_id)
    assert result.returncode == 0, result.stderr

    record = service.record()["flows"]
    assert all(flow["starts"] == 1 for flow in record)
    flows = {(flow["additional"] or {}).get("batcher", {}).get("flow", "prepared"): flow for flow in record}
    assert len(flows) == len(record) == 14

    def shown(name: str) -> Counter:
        return Counter((item["sha256"], _extra(item["additional"])) for item in flows[name]["inputs"])

    def meant(*pairs: tuple[str, object]) -> Counter:
        return Counter((hashlib.sha256((folder / p).read_bytes()).hexdigest(), _extra(extra)) for p, extra in pairs)

    assert shown("strings") == meant(*((name, {}) for name in NAMES))
    assert shown("files") == meant(("日本.png", {"sku": "J", "list": [1, None, {"x": 1.5}]}), ("odd", {}))
    assert shown("twice") == meant(("a b.png", {}), ("a b.png", {}))
    assert {json.loads(extra)["s"] for _, extra in shown("globbed")} == {"1", "2", "3"}
    assert shown("csv") == meant(("g/1.png", {"sku": "A"}), ("g/2.png", {"sku": "B"}))
    assert shown("jsonl") == meant(("g/1.png", {"n": 5}), ("g/2.png", {"n": {"x": True}}))
    assert shown("untagged") == meant(("ü.png", "words"), ("ü.png", [1, 2]), ("-dash.png", None))
    prompt = hashlib.sha256("A chair\nwith “quotes” \\ and 日本".encode()).hexdigest()
    assert shown("texts") == Counter([(prompt, "{}")]) + meant(("p.txt", {}))
    assert shown("glb") == meant(("m.glb", {}))
    assert shown("each 1") == meant(("g/1.png", {}))
    assert shown("row two") == meant(("g/2.png", {}))
    assert shown("prepared") == meant(("ü.png", {}))
    assert flows["files"]["parameters"] == {"quality": "low", "seed": 7}
    assert flows["row one"]["parameters"] == {"quality": "high", "texture": True}
    assert json.loads(_extra(flows["files"]["additional"])) == {"campaign": "autumn", "deep": {"a": 1, "b": 3}}
    assert flows["texts"]["parameters"] == {}

    again = json.loads(batcher(folder, "run", *words, "--json", FLOW_ID=flow_id).stdout)
    assert again["exit_code"] == 0
    assert again["requests"]["sent"] <= 3


def _extra(additional: object) -> str:
    if isinstance(additional, dict):
        additional = {name: value for name, value in additional.items() if name != "batcher"}
    return json.dumps(additional, sort_keys=True)


def copy_examples(folder: Path) -> None:
    shutil.copytree(Path(__file__).parents[2] / "manifests", folder / "m", ignore=shutil.ignore_patterns(".batcher"))
    for path in (folder / "m").rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))  # long ago, for min_age


EXAMPLES = ["quickstart", "flow-per-file", "product-table", "prompts"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_runs_as_it_is(tmp_path: Path, name: str) -> None:
    copy_examples(tmp_path)
    result = batcher(tmp_path, "run", f"m/{name}.yaml", "--endpoint", "sandbox", "--json")
    assert result.returncode == 0, result.stderr
    flows = json.loads(result.stdout)["flows"]
    assert flows["started_now"] == flows["total"] > 0


def test_example_of_a_prepared_flow_runs(service: Service, tmp_path: Path) -> None:
    copy_examples(tmp_path)
    words = ("run", "m/prepared-flows.yaml", "--endpoint", service.url)
    result = batcher(tmp_path, *words, FLOW_ID=service.create())
    assert result.returncode == 0, result.stderr
    (flow,) = service.record()["flows"]
    assert (flow["starts"], len(flow["inputs"])) == (1, 2)
