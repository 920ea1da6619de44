"""An aiohttp whose insides have changed: it is noticed, and costs speed, never an error."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

import batcher
from batcher.service.insides import OF_THE_POOL, OF_THE_WIRE, lacking
from tests.e2e.conftest import Service, environment, service, write_batch

__all__ = ["service"]
PUBLIC = ("aiohttp", "aiohttp.abc", "aiohttp.web")


def test_nothing_is_lacking_here() -> None:
    assert lacking(OF_THE_WIRE) == []


class Without:
    """What it stands for, as its members show, less the last of `path`."""

    def __init__(self, real: Any, path: list[str]) -> None:
        self._real, self._path = real, path

    def __getattr__(self, name: str) -> Any:
        if [name] == self._path:
            raise AttributeError(name)
        found = getattr(self._real, name)
        return Without(found, self._path[1:]) if name == self._path[0] else found


@pytest.mark.parametrize("name", OF_THE_WIRE)
def test_name_that_is_gone_is_noticed(name: str) -> None:
    inside, *path = name.partition("(")[0].split(".")

    def module(wanted: str) -> Any:
        real = importlib.import_module(wanted)
        return Without(real, path) if wanted == f"aiohttp.{inside}" else real

    assert name in lacking(OF_THE_WIRE, module)

    def gone(wanted: str) -> Any:
        if wanted == f"aiohttp.{inside}":
            raise ModuleNotFoundError(wanted)
        return importlib.import_module(wanted)

    assert name in lacking(OF_THE_WIRE, gone)


@pytest.mark.parametrize("name", [name for name in OF_THE_WIRE if "(" in name])
def test_other_parameters_are_noticed(name: str) -> None:
    path, _, given = name.rstrip(")").partition("(")
    parts = path.split(".")[1:]

    def lacks(parameters: str) -> list[str]:
        made: dict[str, Any] = {}
        method = f"def {'__init__' if len(parts) == 1 else 'made'}(self, {parameters}): ..."
        exec(f"class made:\n {method}" if len(parts) == 1 else method, made)
        found: Any = made["made"]
        for part in reversed(parts):
            found = SimpleNamespace(**{part: found})
        return lacking([name], lambda wanted: found)

    assert lacks(given) == []
    assert lacks(f"{given}, more=None") == []
    assert lacks(f"{given}, required") == [name]
    assert lacks(given.partition(",")[0]) == [name]
    assert lacks(f"{given}, /") == [name]


def test_insides_are_named_in_one_module() -> None:
    root = Path(batcher.__file__).parent
    found = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found |= {path.relative_to(root).as_posix() for name in names if name.startswith("aiohttp.") and name not in PUBLIC}
    found.discard("sandbox/server.py")  # a room of its own, which does without the one that it asks for
    assert found == {"service/wire.py"}


@pytest.mark.timeout(180)  # a few seconds on an idle machine
@pytest.mark.parametrize(
    ("old", "lacks_the_pools"),
    [("should_close", True), ("HttpProcessingError", False)],
)
def test_batch_through_an_aiohttp_where_a_name_is_another_one(
    service: Service, tmp_path: Path, old: str, lacks_the_pools: bool
) -> None:
    """Its own source, with one of the names spelled otherwise throughout, and without what is compiled from it."""
    ignored = shutil.ignore_patterns("*.so", "*.pyc")
    shutil.copytree(Path(aiohttp.__file__).parent, tmp_path / "path" / "aiohttp", ignore=ignored)
    for path in (tmp_path / "path").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(rf"\b{old}\b", f"{old}_otherwise", text), encoding="utf-8")
    given = filter(None, (str(tmp_path / "path"), os.environ.get("PYTHONPATH")))
    env = environment(PYTHONPATH=os.pathsep.join(given), AIOHTTP_NO_EXTENSIONS="1")

    def python(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, *words], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=50)

    known = json.loads(python("-c", "import json; from batcher.service import wire; print(json.dumps([wire.LACKING, "
                              "wire.POOL_LACKING]))").stdout)  # fmt: skip
    assert all(old in name for name in known[0])
    assert known[0]
    assert bool(known[1]) is lacks_the_pools
    assert set(known[1]) <= set(OF_THE_POOL)

    write_batch(tmp_path, 2, 4)
    (tmp_path / "0" / "large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + os.urandom(700_000))
    (tmp_path / "1" / "small.png").write_bytes(b"\x89PNG\r\n\x1a\n" + os.urandom(190_000))
    service.order("upload:nth=3,lost_reply=close", "upload:nth=5,drop_mid", "start:nth=1,error_after_commit=500")
    for words in (["run", "m.yaml"], ["collect", "m.yaml", "--to", "out"]):
        result = python("-m", "batcher", *words, "--endpoint", service.url)
        assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "out").rglob("*.glb"))) == 10
    flows = [flow for flow in service.record()["flows"] if not flow["deleted"]]
    assert [(flow["starts"], len({item["sha256"] for item in flow["inputs"]})) for flow in flows] == [(1, 5)] * 2
