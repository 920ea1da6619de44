"""Reading a manifest whose inputs are written out, beside the YAML parser alone, and beside a loader that checks nothing.

In: batcher's interpreter. Out: one `Part`. Called by bench.py. Each is a process of its own that says how long its reading took
on the processor, without the start of Python and of its packages.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

from .process import measure
from .results import Part, spread
from .setting import Setting
from .workload import TEMPLATE

INPUTS = 40_000
ROUNDS = 5  # at least
BATCHER = "from batcher.manifest import load as read; read(path, {})"
PARSER = """\
loader = yaml.CSafeLoader(open(path))
while loader.get_event(): pass"""
LOADER = "yaml.load(open(path), yaml.CSafeLoader)"
CLIENTS = {"batcher": BATCHER, "the parser alone": PARSER, "yaml.load": LOADER}
PROGRAM = """\
import sys, time, yaml, batcher.manifest
path = sys.argv[1]
began = time.process_time()
{what}
print(time.process_time() - began)
"""


def reading(setting: Setting) -> Part:
    part = Part("reading", f"A manifest of {INPUTS:,} inputs, read", ["manifest", *_columns()])
    count = INPUTS // (10 if setting.quick else 1)
    with setting.folder("reading") as folder:
        for name, write in MANIFESTS.items():
            path = folder / "manifest.yaml"
            path.write_text("".join(write(count)))
            seconds, rss = _measured(setting, folder, path)
            mine, parser = seconds["batcher"], seconds["the parser alone"]
            ratio = statistics.median(a / b for a, b in zip(mine, parser, strict=True))
            part.rows.append([name, *(f"{spread(seconds[one])} s, {max(rss[one]):.0f} MiB" for one in CLIENTS), f"{ratio:.1f}"])
            part.data[name] = seconds
    part.notes.append(f"CPU of the reading, peak memory of the process; {len(mine)} rounds, by turns.")
    return part


def _columns() -> list[str]:
    return [*CLIENTS, "batcher × the parser"]


def _measured(setting: Setting, folder: Path, path: Path) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    seconds: dict[str, list[float]] = {name: [] for name in CLIENTS}
    rss: dict[str, list[float]] = {name: [] for name in CLIENTS}
    for _ in range(2 if setting.quick else max(ROUNDS, setting.runs)):
        for name, what in CLIENTS.items():
            usage = measure([setting.batcher_python, "-c", PROGRAM.format(what=what), str(path)], folder)
            seconds[name].append(float((folder / "out").read_text()))
            rss[name].append(usage.rss_mib)
    return seconds, rss


HEAD = f"version: 1\nbatch: bench\ndefaults: {{template: {TEMPLATE}}}\nflows:\n"


def _paths(count: int) -> Iterator[str]:
    yield f"{HEAD}- name: all\n  inputs:\n"
    yield from (f"  - files/{number:07}.png\n" for number in range(count))


def _objects(numbers: range) -> Iterator[str]:
    yield from (f"  - file: files/{n:07}.png\n    additional: {{sku: CH-{n}, number: {n}}}\n" for n in numbers)


def _one_flow(count: int) -> Iterator[str]:
    yield f"{HEAD}- name: all\n  inputs:\n"
    yield from _objects(range(count))


def _flows(count: int) -> Iterator[str]:
    yield HEAD
    for first in range(0, count, 5):
        yield f"- name: flow-{first:07}\n  inputs:\n"
        yield from _objects(range(first, first + 5))


def _as_json(count: int) -> Iterator[str]:
    inputs = [{"file": f"files/{n:07}.png", "additional": {"sku": f"CH-{n}", "number": n}} for n in range(count)]
    flows = [{"name": f"flow-{first:07}", "inputs": inputs[first : first + 5]} for first in range(0, count, 5)]
    yield json.dumps({"version": 1, "batch": "bench", "defaults": {"template": TEMPLATE}, "flows": flows}, indent=1)


MANIFESTS: dict[str, Callable[[int], Iterator[str]]] = {
    "paths, one flow": _paths,
    "with an object each, one flow": _one_flow,
    "with an object each, five to a flow": _flows,
    "the same, written as JSON": _as_json,
}
