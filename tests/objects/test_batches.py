"""Whole batches whose inputs and outputs lie in a real S3, by the command as a process."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proof.command import Service, batcher, begin, serving

from .stores import ACCESS_KEY, PNG, SECRET, Gate, Shop

MANIFEST = """\
version: 1
batch: shop
defaults: {{template: model_generate_fromimage}}
flows:
- name: chairs
  inputs:
  - {url}/photos/chair-1.png
  - file: {url}/photos/big.png
    additional: {{sku: 1}}
- name: stools
  inputs:
  - glob: "{url}/photos/**/*.png"
    exclude: ["**/*_draft.png", "{url}/photos/big.png"]
    additional: {{sku: "{{stem}}", in: "{{parent}}", n: "{{index}}"}}
  - table: details.csv
    file: "{{where}}"
- each: {{glob: "{url}/inbox/*.png"}}
  name: "{{stem}}"
  inputs: ["{{path}}"]
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path / "sandbox") as made:
        yield made


def filled(shop: Shop, folder: Path) -> dict[str, bytes]:
    """A manifest in the folder; the objects that it means."""
    sizes = {"chair-1": 900, "big": 900_000, "sub/ü #1": 900, "a_draft": 50, ".hidden": 50}
    contents = {f"photos/{name}.png": PNG + os.urandom(size) for name, size in sizes.items()}
    contents |= {f"inbox/i{number}.png": PNG + os.urandom(200) for number in range(3)}
    for name, content in contents.items():
        shop.put(name, content)
    (folder / "details.csv").write_text(f"where\n{shop.url}/inbox/i1.png\n")
    (folder / "m.yaml").write_text(MANIFEST.format(url=shop.url))
    return contents


def inputs(record: dict) -> dict[str, Counter[str]]:
    """By flow: the digests of what its inputs are, of those that were started."""
    return {flow["additional"]["batcher"]["flow"]: Counter(one["sha256"] for one in flow["inputs"])
            for flow in record["flows"] if flow["starts"]}  # fmt: skip


def digests(contents: dict[str, bytes], *names: str) -> Counter[str]:
    return Counter(hashlib.sha256(contents[name]).hexdigest() for name in names)


@pytest.mark.slow
def test_every_byte_once_and_the_second_run_reads_nothing(service: Service, shop: Shop, gate: Gate, tmp_path: Path) -> None:
    contents = filled(shop, tmp_path)
    words = ("m.yaml", "--endpoint", service.url, "--json")
    first = batcher(tmp_path, "run", *words, "--log-file", "log.json", "--verbose")
    assert first.returncode == 0, first.stderr
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in content or ACCESS_KEY.encode() in content for content in kept)
    stools = digests(contents, "photos/chair-1.png", "photos/sub/ü #1.png", "inbox/i1.png")
    assert inputs(service.get("record")) == {
        "chairs": digests(contents, "photos/chair-1.png", "photos/big.png"), "stools": stools,
        **{f"i{number}": digests(contents, f"inbox/i{number}.png") for number in range(3)},
    }  # fmt: skip
    asked = len(gate.asked)
    second = json.loads(batcher(tmp_path, "run", *words).stdout)
    assert second["requests"]["sent"] == 0
    again = gate.asked[asked:]
    assert not [path for method, path, _ in again if method == "GET" and "list-type" not in path], "an object was read"
    assert sum("list-type" in path for _, path, _ in again) == 2, "one listing for each pattern"
    heads = [path for method, path, _ in again if method == "HEAD"]
    assert len(heads) == 3, "only those that no pattern lists are looked at"


@pytest.mark.slow
def test_what_changes_is_seen_and_a_new_one_is_sent(service: Service, shop: Shop, gate: Gate, tmp_path: Path) -> None:
    contents = filled(shop, tmp_path)
    words = ("m.yaml", "--endpoint", service.url, "--json")
    assert batcher(tmp_path, "run", *words).returncode == 0
    shop.put("inbox/new.png", PNG + b"new")
    shop.put("inbox/i0.png", contents["inbox/i0.png"])  # written anew, and the same
    shop.put("inbox/i2.png", contents["inbox/i2.png"] + b"more")
    report = json.loads(batcher(tmp_path, "run", *words).stdout)
    assert report["flows"]["started_now"] == 1
    assert [(one["flow"], one["kind"]) for one in report["problems"]] == [("i2", "changed")]
    checked = json.loads(batcher(tmp_path, "run", *words, "--checksum").stdout)
    assert checked["requests"]["sent"] == 0
    again = json.loads(batcher(tmp_path, "run", *words, "--resubmit-changed").stdout)
    assert again["flows"]["started_now"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [("403", 4, "may not be read (403"), ("404", 4, "is not there"), ("503", 5, "answers 503")],
)
def test_what_the_store_answers_ends_with_its_code_and_its_place(
    service: Service, shop: Shop, gate: Gate, tmp_path: Path, answer: str, code: int, words: str
) -> None:
    filled(shop, tmp_path)
    (tmp_path / "m.yaml").write_text(
        "version: 1\ndefaults: {template: model_generate_fromimage}\nflows:\n- name: a\n  inputs:\n"
        f"  - {shop.url}/photos/big.png\n"
    )
    gate.wrong = lambda method, path: answer
    run = batcher(tmp_path, "run", "m.yaml", "--endpoint", service.url)
    assert run.returncode == code, run.stderr
    assert f"m.yaml:6:5: {shop.url}/photos/big.png " in run.stderr
    assert words in run.stderr
    assert SECRET not in run.stderr + run.stdout
    assert "Traceback" not in run.stderr
    assert service.count("create") == 0


@pytest.mark.slow
def test_results_go_to_a_bucket_and_are_found_again(service: Service, shop: Shop, gate: Gate, tmp_path: Path) -> None:
    filled(shop, tmp_path)
    words = ("m.yaml", "--endpoint", service.url)
    out = f"{shop.url}/out"
    assert batcher(tmp_path, "run", *words, "--collect", out).returncode == 0
    there = {name.removeprefix("out/"): content for name, content in shop.there().items() if name.startswith("out/")}
    rows = [json.loads(line) for line in there["results.jsonl"].splitlines()]
    assert {row["state"] for row in rows} == {"collected"}
    assert {row["output"]: row["sha256"] for row in rows} == {
        name: hashlib.sha256(content).hexdigest() for name, content in there.items() if not name.startswith("results.")
    }
    assert len(rows) == 8
    before = gate.count("PUT")
    second = json.loads(batcher(tmp_path, "collect", *words, "--to", out, "--json").stdout)
    assert (second["requests"]["sent"], second["outputs"]["collected"]) == (0, 8)
    assert gate.count("PUT") == before + 3, "the two lists, and the look whether it may be written"
    shop.delete("out/i0/i0.glb")
    shop.put("out/i1/i1.glb", b"somebody else's")
    third = json.loads(batcher(tmp_path, "collect", *words, "--to", out, "--json").stdout)
    assert third["outputs"]["collected_now"] == 2
    assert shop.there()["out/i1/i1.glb"] == b"somebody else's"
    assert not any(name.startswith(".") for name in shop.there())
    # A pattern that matches the manifest's own results leaves them out.
    own = f'- each: {{glob: "{out}/**/*.glb"}}\n  name: "again {{stem}}"\n  template: model_optimize\n  inputs: ["{{path}}"]\n'
    (tmp_path / "m.yaml").write_text((tmp_path / "m.yaml").read_text() + own)
    plan = batcher(tmp_path, "run", *words)
    assert "8 files that the patterns match are results of `collect`, and left out" in plan.stderr


@pytest.mark.slow
def test_interrupted_while_the_store_stands_still_it_ends_at_once(
    service: Service, shop: Shop, gate: Gate, tmp_path: Path
) -> None:
    filled(shop, tmp_path)
    gate.wrong = lambda method, path: "hang"
    process = begin(tmp_path, "run", "m.yaml", "--endpoint", service.url)
    until = time.monotonic() + 20
    while not gate.asked and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert time.monotonic() - began < 8
    assert "Traceback" not in errors


def test_without_the_extra_one_line_says_so_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(
        "version: 1\nendpoint: sandbox\ndefaults: {template: model_generate_fromimage}\nflows:\n- name: a\n  inputs:\n"
        "  - s3://shop/a.png\n  - s3://shop/b.png\n- name: b\n  inputs: [s3://shop/c.png]\n"
    )
    hidden = (
        "import sys, importlib.util as u; f = u.find_spec; "
        "u.find_spec = lambda name, *a: None if name == 'obstore' else f(name, *a); sys.modules['obstore'] = None; "
        "from batcher.cli import main; sys.argv = ['batcher', 'plan', 'm.yaml']; main()"
    )
    run = subprocess.run([sys.executable, "-c", hidden], cwd=tmp_path, capture_output=True, text=True, timeout=50)
    assert run.returncode == 2, run.stderr
    lines = [line for line in run.stderr.splitlines() if line]
    assert len(lines) == 1
    assert "m.yaml:7:5: " in lines[0]
    assert "pip install 'batcher[objects]'" in lines[0]


def test_nothing_of_object_stores_is_imported_where_no_address_stands(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG + b"a")
    (tmp_path / "m.yaml").write_text(
        "version: 1\nendpoint: sandbox\nflows: [{name: a, template: model_generate_fromimage, inputs: [a.png]}]\n"
    )
    seen = (
        "import sys\nfrom batcher.cli import main\nsys.argv = ['batcher', 'plan', 'm.yaml']\n"
        "try: main()\nfinally:\n    names = [m for m in sys.modules if m == 'obstore' or m.startswith('batcher.objects')]\n"
        "    print(names, file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", seen], cwd=tmp_path, capture_output=True, text=True, timeout=50)
    assert run.stderr.strip().endswith("[]"), run.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("collect", "m.yaml", "--to", "s3:/shop/out"), "write s3://shop/out"),
        (("collect", "m.yaml", "--to", "https://example.com/out"), "a bucket can"),
        (("collect", "m.yaml", "--to", "S3://shop/out"), "write s3://"),
        (("collect", "m.yaml", "--to", "s3://shop/out", "--gallery"), "leave --gallery out"),
        (("gallery", "m.yaml", "--to", "s3://shop/out"), "collect into a folder"),
    ],
)  # fmt: skip
def test_where_results_cannot_go_is_said(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    (tmp_path / "a.png").write_bytes(PNG + b"a")
    (tmp_path / "m.yaml").write_text(
        "version: 1\nendpoint: sandbox\nflows: [{name: a, template: model_generate_fromimage, inputs: [a.png]}]\n"
    )
    if words[0] == "collect":
        assert batcher(tmp_path, "run", "m.yaml").returncode == 0
    run = batcher(tmp_path, *words)
    assert run.returncode == 2
    assert said in run.stderr
    assert "Traceback" not in run.stderr
