"""The command and the sandbox as processes, for the proofs that need signals, environments and exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PNG = b"\x89PNG\r\n\x1a\n"
PATIENCE_S = 30.0  # for a condition that comes at once on an idle machine
KEY = "q7Zk+Vt4/9wXr2Lm=Bd8Yc3Ns6"  # unlike anything else; its spellings differ in base64, percent and JSON


@dataclass
class Service:
    """A sandbox in a process of its own."""

    url: str

    def get(self, what: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/_sandbox/{what}") as reply:
            return json.load(reply)

    def post(self, what: str, document: object) -> None:
        body = json.dumps(document).encode()
        request = urllib.request.Request(f"{self.url}/_sandbox/{what}", body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request).close()

    def order(self, *faults: str) -> None:
        self.post("faults", list(faults))

    def count(self, call: str) -> int:
        """Requests of this kind that have come to an end."""
        return int(self.get("record")["requests"].get(call, 0))

    def requests(self) -> list[dict[str, Any]]:
        return list(self.get("requests")["requests"])


@contextlib.contextmanager
def serving(folder: Path, *words: str) -> Iterator[Service]:
    command = [sys.executable, "-m", "batcher.sandbox", "--dir", str(folder), "--quiet", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Service(process.stdout.readline().split()[-1])
        finally:
            process.terminate()
            process.wait(10)


def environment(**more: str) -> dict[str, str]:
    ours = ("GENERIO", "BATCHER")
    foreign = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    inherited = {n: v for n, v in os.environ.items() if not n.startswith(ours) and n.lower() not in foreign}
    return {**inherited, "GENERIO_API_KEY": KEY, **more}


def begin(folder: Path, *words: str, **env: str) -> subprocess.Popen[str]:
    """Run the command beside the test."""
    command = [sys.executable, "-m", "batcher", *words]
    return subprocess.Popen(
        command, cwd=folder, env=environment(**env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def batcher(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    process = begin(folder, *words, **env)
    try:
        out, errors = process.communicate(timeout=50)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


def until(condition: Callable[[], object]) -> None:
    """Wait for it. Raises AssertionError where it does not come."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0.05)


def write_batch(folder: Path, flows: int, inputs: int, limits: str = "settle: 1s, retries: 3, timeout: 60s") -> None:
    """`flows` flows of `inputs` PNGs each, and a manifest `m.yaml` for them."""
    lines = ["version: 1", f"limits: {{{limits}}}", "flows:"]
    for flow in range(flows):
        (folder / f"{flow}").mkdir()
        for number in range(inputs):
            (folder / f"{flow}" / f"{number}.png").write_bytes(PNG + os.urandom(900))
        lines += [f"- name: f{flow}", "  template: model_generate_fromimage", f"  inputs: [{{glob: '{flow}/*.png'}}]"]
    (folder / "m.yaml").write_text("\n".join(lines) + "\n")


def write_large_flow(folder: Path, inputs: int) -> None:
    """One flow of so many inputs that to look at them takes a while; they are one file, again and again."""
    (folder / "a.png").write_bytes(PNG + b"x")
    with (folder / "t.csv").open("w") as table:
        table.write("file,n\n")
        table.writelines(f"a.png,{number}\n" for number in range(inputs))
    (folder / "m.yaml").write_text(
        "version: 1\nflows:\n- name: large\n  template: model_generate_fromimage\n"
        '  inputs: [{table: t.csv, file: "{file}", additional: {n: "{n}"}}]\n'
    )


def judge(service: Service, flows: int, inputs: int, *, complete: bool) -> None:
    """No flow was started twice, or with another number of inputs; complete: all were, and nothing is left behind."""
    record = service.get("record")["flows"]
    started = [flow for flow in record if flow["starts"]]
    assert all(flow["starts"] == 1 and len(flow["inputs"]) == inputs for flow in started)
    assert all(len({item["sha256"] for item in flow["inputs"]}) == inputs for flow in started)
    assert len({flow["additional"]["batcher"]["flow"] for flow in started}) == len(started)
    if complete:
        assert len(started) == flows
        assert not [flow for flow in record if not flow["starts"] and not flow["deleted"]]
