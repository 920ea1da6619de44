"""A folder to put a manifest and its files into, and short ways to load it and to walk all that it expands to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from batcher.core.model import Flow, Input, Manifest, Problem
from batcher.manifest import ManifestError, load


class Desk:
    """Writes files into one folder and loads the manifest in it, which is called `m.yaml` in messages."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        monkeypatch.chdir(folder)  # so that the manifest is spelled `m.yaml`, as a user would

    def write(self, name: str, content: str | bytes = "") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def load(self, text: str | bytes, env: Mapping[str, str] | None = None, endpoint: str | None = None) -> Manifest:
        self.write("m.yaml", dedent(text) if isinstance(text, str) else text)
        return load("m.yaml", env or {}, endpoint=endpoint)

    def flow(self, entry: str, env: Mapping[str, str] | None = None) -> Manifest:
        """Loads a manifest of version 1 whose `flows` are `entry`."""
        return self.load("version: 1\nflows:\n" + dedent(entry).strip("\n") + "\n", env)

    def refusal(self, text: str | bytes, env: Mapping[str, str] | None = None) -> list[Problem]:
        with pytest.raises(ManifestError) as caught:
            self.load(text, env)
        return list(caught.value.problems)

    def flows(self, entry: str, env: Mapping[str, str] | None = None) -> list[Flow]:
        found = [flow for flow in self.flow(entry, env).flows() if isinstance(flow, Flow)]
        assert len(found) == len(list(self.flow(entry, env).flows())), "a Problem is among the flows"
        return found

    def inputs(self, entry: str, env: Mapping[str, str] | None = None) -> list[Input | Problem]:
        """The inputs of one flow whose `inputs` are `entry`, a YAML list in flow style or indented."""
        (flow,) = self.flows(f"- name: f\n  template: t\n  inputs: {entry}", env)
        return list(flow.inputs())


def labels(found: list[Input | Problem]) -> list[str]:
    return [item.label for item in found if isinstance(item, Input)]


def walk(manifest: Manifest) -> list[Problem]:
    """Every problem in the streams of a manifest."""
    problems: list[Problem] = []
    for flow in manifest.flows():
        if isinstance(flow, Problem):
            problems.append(flow)
        else:
            problems += [found for found in flow.inputs() if isinstance(found, Problem)]
    return problems


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)
