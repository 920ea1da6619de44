"""What a collecting left in its folder, held against what was meant."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

from batcher.core.report import Report
from batcher.sandbox import Readings, Sandbox, parse_fault

from ..batch import Batch, read_record

QUICK_S = 0.001  # how long a flow runs in these tests


def sandbox_of(folder: Path, *faults: str, readings: str = "", processing_s: float = QUICK_S) -> Sandbox:
    made = [parse_fault(fault) for fault in faults]
    return Sandbox(folder / "sandbox", faults=made, readings=Readings.parse(readings), processing_s=processing_s)


def results(out: Path) -> list[dict[str, str]]:
    """results.csv, which says the same as results.jsonl, and matches the disk."""
    with open(out / "results.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text("utf-8").splitlines()]
    assert [{name: str(value) for name, value in line.items()} for line in lines] == rows
    for row in rows:
        if row["output"]:
            content = (out / row["output"]).read_bytes()
            assert (str(len(content)), hashlib.sha256(content).hexdigest()) == (row["bytes"], row["sha256"])
    return rows


def outputs(out: Path) -> dict[str, bytes]:
    """All files but the lists; each is a whole GLB, and no part is left."""
    found = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file() and p.parent != out}
    for name, content in found.items():
        assert not name.endswith(".part")
        assert content[:4] == b"glTF", name
        assert int.from_bytes(content[8:12], "little") == len(content), name
    return found


def assert_complete(batch: Batch, out: Path, report: Report) -> None:
    """Every input's output is there, once, made from that input."""
    assert report.exit_code == 0, report.problems or report.stop
    found = outputs(out)
    assert set(found) == {f"flow {flow}/{path.stem}.glb" for flow in range(batch.flows) for path in batch.paths}
    for name, content in found.items():
        assert (batch.folder / f"{Path(name).stem}.png").read_bytes() in content, "made from another input"
    assert report.outputs is not None
    assert report.outputs.collected == report.outputs.total == len(found)
    assert {(row["flow"], row["source"]) for row in results(out) if row["state"] == "collected"} == {
        (f"flow {flow}", path.name) for flow in range(batch.flows) for path in batch.paths
    }


async def started(batch: Batch, url: str) -> Report:
    report = await batch.run(url)
    assert report.exit_code == 0, report.problems or report.stop
    return report


async def downloads(url: str) -> int:
    return (await read_record(url))["requests"].get("output", 0)
