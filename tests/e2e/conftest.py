"""The installed command and the sandbox as real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PNG = b"\x89PNG\r\n\x1a\n"


@dataclass
class Service:
    """A sandbox in a process of its own."""

    url: str
    process: subprocess.Popen[str]

    def record(self) -> dict:
        with urllib.request.urlopen(f"{self.url}/_sandbox/record") as reply:
            return json.load(reply)

    def requests(self) -> list[str]:
        """What was asked for so far, in order: create, upload, delete…"""
        with urllib.request.urlopen(f"{self.url}/_sandbox/requests") as reply:
            return [entry["endpoint"] for entry in json.load(reply)["requests"]]

    def create(self) -> str:
        """A flow that waits for inputs, made by somebody else; its id."""
        body = b'{"template": "model_generate_fromimage"}'
        request = urllib.request.Request(f"{self.url}/flows", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as reply:
            return json.load(reply)["flow_id"]

    def start(self, flow_id: str) -> None:
        """As somebody else would."""
        body, header = b'{"action": "start"}', {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/flows/{flow_id}", body, header, method="PATCH")
        urllib.request.urlopen(request).close()

    def order(self, *faults: str) -> None:
        body = json.dumps(list(faults)).encode()
        request = urllib.request.Request(f"{self.url}/_sandbox/faults", body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request).close()

    def read(self, readings: str) -> None:
        body = json.dumps(readings).encode()
        request = urllib.request.Request(f"{self.url}/_sandbox/readings", body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request).close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    command = [sys.executable, "-m", "batcher.sandbox", "--dir", str(tmp_path / "store"), "--max-data", "1MB"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        yield Service(url, process)
        process.terminate()
        process.wait(10)


def environment(**more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GENERIO", "BATCHER"))}
    return {**inherited, "GENERIO_API_KEY": "secret-key-7", **more}


def batcher(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "batcher", *words]
    return subprocess.run(command, cwd=folder, env=environment(**env), capture_output=True, text=True, timeout=50)


def begin(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Run the command beside the test."""
    command = [sys.executable, "-m", "batcher", *words]
    return subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def write_batch(folder: Path, flows: int, inputs: int, size: int = 1000, settle: str = "1s") -> None:
    """`flows` flows of `inputs` PNGs each (of random content), and a manifest `m.yaml` for them."""
    lines = ["version: 1", f"limits: {{settle: {settle}, retries: 3, timeout: 2s}}", "flows:"]
    for flow in range(flows):
        (folder / f"{flow}").mkdir()
        for number in range(inputs):
            (folder / f"{flow}" / f"{number}.png").write_bytes(PNG + os.urandom(size))
        lines += [f"- name: f{flow}", "  template: model_generate_fromimage", f"  inputs: [{{glob: '{flow}/*.png'}}]"]
    (folder / "m.yaml").write_text("\n".join(lines) + "\n")
