"""The work: files to send, manifests that name them, and the proof from the server's figures that it was done.

In: sizes and counts. Out: folders, manifests, `Work`. Called by every part.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from .server import BenchError, Stats

KB, MB, GB = 1 << 10, 1 << 20, 1 << 30  # sizes are powers of two; speeds are in 10^6 bytes per second

PNG_HEAD = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\2\0\0\0\x90wS\xde"  # enough for every detection by magic
DATA_PREFIX = "data:image/png;base64,"
TEMPLATE = "model_generate_fromimage"
DISTINCT_BYTES = 1 * GB  # further files are hard links; far beyond any CPU cache, and it fits the page cache
BLOCK = MB
COLUMNS = "abcdefghij"  # of flows.csv: ten inputs per flow


def data_length(size_bytes: int) -> int:
    """Length of the `data` string of one file. Framing: flows-api, Data."""
    return len(DATA_PREFIX) + 4 * ((size_bytes + 2) // 3)


@dataclass(frozen=True, slots=True)
class Work:
    """What a client has to bring about, whatever way it takes."""

    inputs: int
    flows: int
    size_bytes: int

    @property
    def source_bytes(self) -> int:
        return self.inputs * self.size_bytes

    def check(self, stats: Stats, who: str) -> None:
        """Raises BenchError unless exactly this work was done, every byte of it."""
        expected = {
            "flows created": (stats.accepted["create"], self.flows),
            "inputs accepted": (stats.accepted["upload"], self.inputs),
            "flows started": (stats.accepted["start"], self.flows),
            "bytes of data": (stats.data_bytes, self.inputs * data_length(self.size_bytes)),
            "bodies of a wrong length": (stats.mismatches, 0),
            "bodies that are no inputs": (stats.bad_inputs, 0),
            "second starts": (stats.double_starts, 0),
            "requests left open": (stats.in_flight, 0),
        }
        wrong = [f"{what}: {seen:,} instead of {due:,}" for what, (seen, due) in expected.items() if seen != due]
        if wrong:
            raise BenchError(f"{who} did not do the work: {'; '.join(wrong)}")


def make_files(folder: Path, size_bytes: int, count: int) -> None:
    """`count` PNG-like files of exactly `size_bytes` (64 or more), distinct up to DISTINCT_BYTES in all."""
    distinct = min(count, max(1, DISTINCT_BYTES // size_bytes))
    if shutil.disk_usage(folder).free < distinct * max(size_bytes, 4 * KB) + GB:
        raise BenchError(f"not enough room for {count:,} files of {size_bytes:,} bytes (choose a disk with --work)")
    block = os.urandom(BLOCK)
    for number in range(count):
        path = folder / f"{number:07}.png"
        if number >= distinct:
            os.link(folder / f"{number % distinct:07}.png", path)
            continue
        mark = PNG_HEAD + number.to_bytes(8, "big")
        with open(path, "wb") as file:
            file.write(mark)
            for left in range(size_bytes - len(mark), 0, -BLOCK):
                file.write(block[: min(left, BLOCK)])


def write_manifest(folder: Path, *, flow_per_file: bool) -> Path:
    """A manifest of `folder`/files/*.png: all in one flow, or one flow each."""
    if flow_per_file:
        flow = '- each: {glob: "files/*.png"}\n  name: "{stem}"\n  inputs: ["{path}"]\n'
    else:
        flow = '- name: all\n  inputs:\n  - glob: "files/*.png"\n'
    return _write(folder, flow)


def write_json_manifest(folder: Path, count: int, *, flow_per_file: bool) -> Path:
    """The same with each of `count` files written out, as a script would do it."""
    names = [f"{number:07}" for number in range(count)]
    if flow_per_file:
        flows = [{"name": name, "inputs": [f"files/{name}.png"]} for name in names]
    else:
        flows = [{"name": "all", "inputs": [f"files/{name}.png" for name in names]}]
    path = folder / "manifest.json"
    path.write_text(json.dumps({"version": 1, "batch": "bench", "defaults": {"template": TEMPLATE}, "flows": flows}))
    return path


def write_table_manifest(folder: Path, flows: int, files: int, inputs: int = len(COLUMNS)) -> Path:
    """A manifest of a table: one flow per row, `inputs` (ten at most) each, out of `files` files that the flows share."""
    columns = COLUMNS[:inputs]
    with open(folder / "flows.csv", "w") as table:
        table.write(f"name,{','.join(columns)}\n")
        for row in range(flows):
            names = (f"{(row * inputs + column) % files:07}" for column in range(inputs))
            table.write(f"flow-{row:07},{','.join(names)}\n")
    listed = "".join(f'  - {{file: "files/{{{column}}}.png"}}\n' for column in columns)
    return _write(folder, f'- each: {{table: flows.csv}}\n  name: "{{name}}"\n  inputs:\n{listed}')


def _write(folder: Path, flow: str) -> Path:
    path = folder / "manifest.yaml"
    path.write_text(f"version: 1\nbatch: bench\ndefaults: {{template: {TEMPLATE}}}\nflows:\n{flow}")
    return path
