"""`sound` against the models: what it takes for right is right there, and comes to the same settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from batcher.manifest import document, keys, keys_of_inputs, keys_of_settings, load, shape, sound
from batcher.manifest.findings import Findings
from batcher.manifest.tree import Map

EXAMPLES = sorted((Path(__file__).parents[2] / "manifests").glob("*.yaml"))


def tree_of(text: str) -> Map:
    tree = document.read(text, lambda text: text, Findings("m.yaml"))
    assert isinstance(tree, Map)
    return tree


@pytest.mark.parametrize(
    ("members", "model"),
    [
        (sound.FLOW, keys.FlowShape),
        (sound.DEFAULTS, keys.DefaultsShape),
        (sound.PROFILE, keys.ProfileShape),
        (sound.EACH["glob"], keys.EachGlob),
        (sound.EACH["table"], keys.EachTable),
        (sound.INPUTS["file"], keys_of_inputs.FileInput),
        (sound.INPUTS["text"], keys_of_inputs.TextInput),
        (sound.INPUTS["glob"], keys_of_inputs.GlobInput),
        (sound.INPUTS["table"], keys_of_inputs.TableInput),
        (sound.MANIFEST, keys.ManifestShape),
        ({**sound.LIMITS, "max_cost": None}, keys_of_settings.LimitsShape),
        (dict.fromkeys(sound.HOOKS), keys_of_settings.HooksShape),
        (dict.fromkeys(("ping", "command")), keys_of_settings.NotifyShape),
    ],
)
def test_both_know_the_same_keys(members: dict[str, object], model: type[BaseModel]) -> None:
    assert set(members) == set(model.model_fields)


def test_kinds_are_told_apart_in_the_same_order() -> None:
    assert list(sound.INPUTS) == list(keys_of_inputs.INPUT_KINDS)
    assert list(sound.EACH) == list(keys.EACH_KINDS)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_need_no_models(path: Path) -> None:
    assert sound.settings(tree_of(path.read_text())) is not None


@pytest.mark.parametrize(
    "limits",
    [
        {"concurrency": 8, "rate": "300/min", "bandwidth": "20MB/s", "memory": "8MiB", "timeout": "90s", "retries": 0},
        {"settle": "5s", "min_age": 10, "max_duration": "4h", "max_starts": 3, "starts_per_run": 2, "max_bytes": "5GB"},
        {"check_images": True, "max_pixels": 100, "price_per_start": "0.40 EUR"},
    ],
)
def test_limits_are_read_without_models(limits: dict[str, object]) -> None:
    tree = tree_of(json.dumps({"version": 1, "limits": limits, "flows": []}))
    assert sound.settings(tree) == keys.ManifestShape.model_validate(tree).settings()


ANY = [
    None, True, False, 0, 1, 8, 10**6, -1, 1.5, "", " ", "a", "1", "s3://b/k", "sandbox", "https://flows.example/",
    "http://x y", "20/s", "5MB/s", "64MiB", "1B", "10s", "4h", "0.40 EUR", "40 USD", [], ["a"], ["a", 1], [None], {}, {"a": 1},
    {"a": None}, {"batcher": 1},
]  # fmt: skip
VALUES = st.sampled_from(ANY)


def mostly(*right: object) -> st.SearchStrategy[Any]:
    """One of these, or now and then something else."""
    return st.sampled_from([*right * (12 * len(ANY) // len(right)), *ANY])


def objects(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of these members, and now and then one that nobody knows."""
    more = st.sampled_from([*[{}] * 19, {"nmae": "a"}])
    return st.builds(lambda value, more: {**value, **more}, st.fixed_dictionaries({}, optional=members), more)


def required(name: str, **others: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(lambda value, more: {name: value, **more}, TEXT, objects(**others))


TEXT, OBJECT = mostly("a", "b.png", "{stem}"), mostly(None, {}, {"a": 1})
PATTERNS = mostly(None, "*.png", ["a/*"])
BESIDE = {"key": TEXT, "additional": VALUES}
ENTRY = st.one_of(
    TEXT, required("file", mime=TEXT, **BESIDE), required("text", **BESIDE),
    required("glob", exclude=PATTERNS, mime=TEXT, **BESIDE),
    required("table", file=TEXT, text=TEXT, mime=TEXT, **BESIDE),
    objects(file=TEXT, text=TEXT, glob=TEXT, table=TEXT, exclude=PATTERNS, mime=TEXT, **BESIDE),
)  # fmt: skip
PROFILE = objects(template=TEXT, parameters=OBJECT, additional=OBJECT, extends=TEXT)
INPUTS = st.one_of(st.just(["a"]), st.lists(ENTRY, min_size=1, max_size=2), mostly(["a"]))
EACH = st.one_of(st.none(), required("glob", exclude=PATTERNS), required("table"), objects(glob=TEXT, table=TEXT))
FLOW = st.builds(
    lambda name, inputs, more: {**name, "inputs": inputs, **more}, required("name"), INPUTS,
    objects(template=TEXT, flow_id=TEXT, extends=TEXT, parameters=OBJECT, additional=OBJECT, each=EACH, inputs=INPUTS),
)  # fmt: skip
LIMITS = objects(
    concurrency=mostly(8, 1024, 1025), rate=mostly("300/min", 5), bandwidth=mostly("20MB/s"), memory=mostly("8MiB", 1 << 20),
    timeout=mostly("90s", 5), retries=mostly(0, 100), settle=mostly("5s"), min_age=mostly(10), max_duration=mostly("4h"),
    max_starts=mostly(3), starts_per_run=mostly(2), max_bytes=mostly("5GB"), check_images=mostly(True, False),
    max_pixels=mostly(100), price_per_start=mostly("0.40 EUR"),
)  # fmt: skip
HOOK = mostly("echo", ["bin/alert", "a"])
MANIFEST = objects(
    version=mostly(1), batch=mostly("b"), endpoint=mostly("sandbox", "https://flows.example/"), metrics=mostly("a.prom"),
    limits=st.one_of(LIMITS, mostly({}), st.builds(lambda limits: {**limits, "max_cost": "4 EUR"}, LIMITS)),
    notify=objects(ping=mostly("https://hc-ping.com/a"), command=objects(on_success=HOOK, on_failure=HOOK, on_problem=HOOK)),
    include=mostly(["a.yaml"]), defaults=st.one_of(OBJECT, PROFILE), flows=st.lists(FLOW, max_size=2),
    profiles=st.dictionaries(st.sampled_from("ab"), PROFILE, max_size=2),
).map(lambda value: {"version": 1, "flows": [], **value})  # fmt: skip


@given(st.one_of(MANIFEST, FLOW.map(lambda flow: {"version": 1, "flows": [flow]}), VALUES.map(lambda value: {"flows": value})))
def test_what_is_taken_for_right_is_right(value: dict[str, Any]) -> None:
    tree = tree_of(json.dumps(value))
    found = sound.settings(tree)
    try:
        right = keys.ManifestShape.model_validate(tree).settings()
    except ValidationError:
        right = None
    assert found is None or found == right


def test_what_is_wrong_is_left_to_the_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []
    monkeypatch.setattr(shape, "check", lambda tree, findings: asked.append(tree) or sound.BatchSettings())
    for text in ("version: 1\nflows: []\n", "version: 1\nflows: []\nbatch: null\n"):
        (tmp_path / "m.yaml").write_text(text)
        load(str(tmp_path / "m.yaml"), {})
    assert len(asked) == 1
