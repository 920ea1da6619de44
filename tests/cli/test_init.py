"""`init`: whatever lies in a folder, the manifest that is written is one that `plan` accepts, with the files meant."""

from __future__ import annotations

import json
import os
import random
import shlex
import time
import unicodedata
from pathlib import Path

import pytest
import yaml

from batcher.cli.commands.init import _text
from batcher.cli.folder_scan import TYPES, scan
from batcher.cli.proposal import EXCLUDES_MAX, TEMPLATES, Layout, Proposal, propose
from batcher.core.model import FileSource, Flow, Input, Manifest, Problem
from batcher.manifest import load
from batcher.sandbox import templates
from batcher.sources.dispatch import AllSources
from tests.e2e.conftest import PNG, batcher

GLB = b"glTF\2\0\0\0"
ODD_NAMES = [
    "{stem}.png", "{.png", "}}x{{.png", "[a].png", "[!x]*?.png", "*.png", "a?b.png", "it's.png", 'say "hi".png', "a\\b.png",
    "new\nline.png", "tab\t.png", "\x1b[31mred.png", "\u202egnp.png", "-rf.png", "--only.png", "${HOME}.png", "$$.png",
    "a.b.c.png", "..png", "...png", " .png", " lead.png", "trail .png", "~.png", "#1.png", "a: b.png", "- x.png", "& x.png",
    "null.png", "no.png", "1.png", "1e5.png", "%41.png", "\u00a0.png", "\u2028.png", "日本語.png", "😀.png",
    unicodedata.normalize("NFC", "Zoë.png"), unicodedata.normalize("NFD", "Zoë.png"), "A.png", "a.PNG", "x.jpg", "x.png",
    "n" * 200 + ".png", "no-suffix", ".hidden.png", "manifest.yaml", "é" * 120 + ".png",
]  # fmt: skip


def put(folder: Path, *names: str, content: bytes = PNG) -> None:
    for number, name in enumerate(names):
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content + b"%d" % number if content else b"")


def made(folder: Path, target: Path, layout: Layout | None = None, template: str | None = None) -> tuple[Manifest, Proposal]:
    look = scan(folder)
    plan = propose(look, template, layout)
    assert plan is not None
    target.write_text(_text(folder, target, plan, look, None), encoding="utf-8")
    return load(target, {}), plan


def accepted(manifest: Manifest, kind: str) -> dict[str, list[str]]:
    """Flow → the files' paths, as `plan` would see them; fails on the first problem."""
    sources = AllSources(0.0, time.time)
    found: dict[str, list[str]] = {}
    for flow in manifest.flows():
        assert isinstance(flow, Flow), flow
        assert flow.name not in found
        found[flow.name] = []
        for source in flow.inputs():
            assert isinstance(source, Input), source
            for look in (sources.look(source), sources.mime(source, TYPES[kind])):
                assert not isinstance(look, Problem), look
            assert isinstance(source.source, FileSource)
            found[flow.name].append(os.path.realpath(source.source.path))
    sources.close()
    return found


@pytest.mark.parametrize("layout", ["file", "folder", "one"])
@pytest.mark.parametrize("place", ["inside", "above", "elsewhere"])
def test_odd_names_are_sent_as_they_are_or_left_out_by_name(tmp_path: Path, layout: Layout, place: str) -> None:
    folder = tmp_path / "[odd] {x} ${HOME} 'q'"
    put(folder, *ODD_NAMES)
    put(folder / "[sub] *{y}", *ODD_NAMES[:12], "caf\udce9.png")
    put(folder / "caf\udce9", "x.png")
    put(folder, "caf\udce9.png", "cafe.png")
    put(folder, "empty.png", "sub2/empty.png", content=b"")
    put(folder, "model.png", content=GLB)
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "linked").symlink_to(folder / "[sub] *{y}")
    os.mkfifo(folder / "pipe.png")
    (tmp_path / "other").mkdir()
    target = {"inside": folder, "above": tmp_path, "elsewhere": tmp_path / "other"}[place] / "m.yaml"
    manifest, plan = made(folder, target, layout)
    found = accepted(manifest, "image")
    sent = [path for paths in found.values() for path in paths]
    assert sorted(sent) == sorted(os.path.realpath(folder / path) for path in plan.paths)
    assert len(sent) == len(set(sent)) == plan.flows if layout == "file" else len(found) == plan.flows
    left = {odd.path for odd in scan(folder).odd}
    names = {"new\nline.png", "tab\t.png", "\x1b[31mred.png", "\u2028.png", "n" * 200 + ".png", "caf\udce9/x.png"}
    bad = {"caf\udce9.png", "empty.png", "sub2/empty.png", "model.png", "gone.png", "loop.png", "pipe.png"}
    assert names | bad <= left
    assert {"cafe.png", "{stem}.png", "\u202egnp.png", "[!x]*?.png"} <= set(plan.paths)
    assert not {"no-suffix", ".hidden.png"} & (set(plan.paths) | left)


@pytest.mark.parametrize("seed", range(12))
def test_any_folder_becomes_a_manifest_without_a_problem(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    folder = tmp_path / "in"
    letters = [*"aB{}[]*?!$\\'\"\n-. é#:", "e\u0301", "\udcff"]

    def name() -> str:
        return "".join(rng.choice(letters) for _ in range(rng.randint(1, 5))).strip(".") or "x"

    for _ in range(rng.randint(1, 40)):
        parts = [name() for _ in range(rng.choice([0, 0, 1, 1, 2]))]
        suffix = rng.choice([".png", ".png", ".PNG", ".jpg", ".txt", ".glb", ".zip", ""])
        content = rng.choice([PNG, PNG, PNG, GLB, b"A chair", b"", b"data:x", b"\xff\xfe"])
        try:
            put(folder, "/".join([*parts, name() + suffix]), content=content)
        except (NotADirectoryError, IsADirectoryError):
            continue
    put(folder, "x/one.png")
    for layout in ("file", "folder", "one"):
        manifest, plan = made(folder, tmp_path / "m.yaml", layout)
        sent = [path for paths in accepted(manifest, "image").values() for path in paths]
        assert sorted(sent) == sorted(os.path.realpath(folder / path) for path in plan.paths), f"seed {seed}, {layout}"


@pytest.mark.parametrize(
    ("names", "layout", "column"),
    [
        (["a.png", "b.png"], "file", "stem"),
        (["a.png", "a.jpg"], "file", "name"),
        (["x/a.png", "y/a.png"], "file", "path"),
        ([f"{folder}/{view}.png" for folder in "abc" for view in range(4)], "folder", "path"),
        ([f"{folder}/{view}.png" for folder in "abc" for view in range(30)], "file", "path"),
        (["a.txt", "b.txt"], "one", "stem"),
        (["a.glb", "b.glb"], "file", "stem"),
        (["a.png", "readme.txt", "old.glb"], "file", "stem"),
    ],
)
def test_layout_and_names_follow_from_the_files(tmp_path: Path, names: list[str], layout: str, column: str) -> None:
    for name in names:
        put(tmp_path / "in", name, content={".glb": GLB, ".txt": b"A chair"}.get(name[-4:], PNG))
    manifest, plan = made(tmp_path / "in", tmp_path / "in" / "m.yaml")
    assert (plan.layout, plan.column) == (layout, column)
    assert len(accepted(manifest, plan.kind)) == plan.flows


def test_templates_are_those_of_the_service() -> None:
    assert {one.name for one in TEMPLATES} == {one.name for one in templates.TEMPLATES}
    for ours in TEMPLATES:
        theirs = templates.find_template(ours.name)
        assert set(TYPES[ours.kind]) == set(theirs.types)
        assert yaml.safe_load(ours.parameters) == {one.name: one.default for one in theirs.parameters}


def test_too_many_odd_files_to_name_are_said(tmp_path: Path) -> None:
    put(tmp_path / "in", "good.png")
    put(tmp_path / "in", *(f"{n}.png" for n in range(EXCLUDES_MAX + 5)), content=b"")
    result = batcher(tmp_path, "init", "in")
    assert result.returncode == 0
    assert "5 of them were too many to name" in result.stdout


def test_commands_that_are_named_can_be_typed_as_they_stand(tmp_path: Path) -> None:
    """In a folder with a hard name, from init to flows that are started."""
    folder = tmp_path / "-odd 'name' [1] $x"
    put(folder, "a.png", "b {x}.png", "-c.png")
    result = batcher(tmp_path, "init", "--endpoint", "sandbox", "--", folder.name)
    assert result.returncode == 0, result.stderr
    commands = [shlex.split(line) for line in result.stdout.partition("next:")[2].strip().splitlines()]
    assert [words[:2] for words in commands] == [["batcher", word] for word in ("plan", "run", "collect")]
    plan = batcher(tmp_path, *commands[0][1:])
    assert (plan.returncode, plan.stderr) == (0, "")
    assert "3 starts" in plan.stdout
    run = batcher(tmp_path, *commands[1][1:])
    assert run.returncode == 0, run.stderr
    assert "3 of 3 started" in run.stdout
    results = commands[2][commands[2].index("--to") + 1]
    collect = batcher(tmp_path, *commands[2][1:])
    assert collect.returncode == 0, collect.stderr
    assert {"a.glb", "b {x}.glb", "-c.glb"} <= set(os.listdir(tmp_path / results))
    assert not os.path.realpath(tmp_path / results).startswith(os.path.realpath(folder) + "/")


def test_what_is_there_is_never_replaced_unless_asked(tmp_path: Path) -> None:
    put(tmp_path / "in", "a.png")
    (tmp_path / "in" / "batcher.yaml").write_text("mine")
    refused = batcher(tmp_path, "init", "in")
    assert refused.returncode == 2
    assert "--force" in refused.stderr
    assert (tmp_path / "in" / "batcher.yaml").read_text() == "mine"
    assert batcher(tmp_path, "init", "in", "--force").returncode == 0
    assert sorted(os.listdir(tmp_path / "in")) == ["a.png", "batcher.yaml"], "nothing is left beside it"
    printed = batcher(tmp_path, "init", "in", "-o", "-")
    assert printed.stdout.startswith("# Made by: batcher init in")
    document = json.loads(batcher(tmp_path, "init", "in", "-o", "n.yaml", "--json").stdout)
    assert (document["flows"], document["layout"], document["next"][-1].split()[:2]) == (1, "file", ["batcher", "collect"])
    (tmp_path / "manifest.schema.json").write_text("{}")
    batcher(tmp_path, "init", "in", "-o", "s.yaml")
    assert (tmp_path / "s.yaml").read_text().startswith("# yaml-language-server: $schema=manifest.schema.json\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fotos"], "did you mean photos?"),
        (["photos/a.png"], "batcher init photos"),
        (["void"], "put some there first"),
        (["heic"], "convert them"),
        (["broken"], "fill it"),
        (["photos", "--template", "model_optimize"], "leave --template out"),
        (["photos", "--template", " "], "one that the service offers"),
        (["photos", "--endpoint", "htp://x"], "correct --endpoint"),
        (["photos", "-o", "none/such.yaml"], "name another file with -o"),
        (["photos", "--layout", "flat"], "'file', 'folder', 'one'"),
    ],
)
def test_every_refusal_says_what_to_do(tmp_path: Path, words: list[str], said: str) -> None:
    put(tmp_path / "photos", "a.png")
    put(tmp_path / "heic", "a.heic")
    put(tmp_path / "broken", "a.png", content=b"")
    (tmp_path / "void").mkdir()
    result = batcher(tmp_path, "init", *words)
    assert result.returncode == 2
    assert said in result.stderr
    assert not list(tmp_path.rglob("*.yaml"))


def test_template_that_is_not_known_is_doubted_but_taken(tmp_path: Path) -> None:
    put(tmp_path / "in", "a.png")
    result = batcher(tmp_path, "init", "in", "--template", "model_generate_fromimge")
    assert result.returncode == 0
    assert "did you mean model_generate_fromimage?" in result.stdout


def test_screen_fits_eighty_columns_and_obeys_no_name(tmp_path: Path) -> None:
    put(tmp_path / "in", *(f"chair-{n}.png" for n in range(20)), "\x1b[31m.png")
    result = batcher(tmp_path, "init", "in")
    assert "\x1b" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80, result.stdout


def test_links_to_folders_are_followed_as_the_patterns_do(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    put(folder, "a.png", "sub/b.png")
    put(tmp_path / "away", "c.png")
    for name, target in (("link", tmp_path / "away"), ("loop", folder), ("sub/up", folder), ("out", tmp_path)):
        (folder / name).symlink_to(target)
    manifest, _ = made(folder, folder / "m.yaml")
    assert sorted(name for flow in accepted(manifest, "image").values() for name in flow) == [
        str(tmp_path / "away" / "c.png"), str(folder / "a.png"), str(folder / "sub" / "b.png"),
    ]  # fmt: skip
    assert [odd.path for odd in scan(folder).odd] == ["out"]


def test_a_folder_that_may_not_be_listed(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may list every folder")
    put(tmp_path / "in", "a.png")
    (tmp_path / "in").chmod(0)
    result = batcher(tmp_path, "init", "in")
    (tmp_path / "in").chmod(0o700)
    assert result.returncode == 2
    assert "permissions" in result.stderr
