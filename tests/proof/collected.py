"""The judge of a collecting: what the service made of a batch, held against what lies in the folder afterwards.

In: the service's record, and the outputs as it serves them without a fault (`Truth.of`); then a folder and a report. Out:
what is wrong with them, in words. Called by `cells`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import aiohttp

from batcher.core.report import Report

GLTF: Final = b"glTF"
JSON_CHUNK: Final = 0x4E4F534A
LISTS: Final = frozenset({"results.csv", "results.jsonl"})


@dataclass(frozen=True)
class Truth:
    """What is to lie in the folder in the end: path → content. `flows`: flow id → the paths of its outputs."""

    contents: Mapping[str, bytes]
    flows: Mapping[str, frozenset[str]]

    @classmethod
    async def of(cls, session: aiohttp.ClientSession, url: str, flows: Sequence[dict[str, Any]], paths: Sequence[Path]) -> Self:
        """Ask the service for every output of these flows of its record, which have all ended. A path follows from the
        source whose bytes are in the output."""
        contents: dict[str, bytes] = {}
        by_flow: dict[str, frozenset[str]] = {}
        sources = {path.stem: path.read_bytes() for path in paths}
        for flow in flows:
            name, flow_id = flow["additional"]["batcher"]["flow"], flow["flow_id"]
            assert flow["state"] == "completed", flow
            async with session.get(f"{url}/flows/{flow_id}/outputs", params={"include_data": "true"}) as response:
                outputs = (await response.json())["outputs"]
            found: dict[str, bytes] = {}
            for output in outputs:
                content = base64.b64decode(output["data"].partition(",")[2], validate=True)
                assert not wrong_with_glb(content)
                (stem,) = [stem for stem, source in sources.items() if source in content]
                found[f"{name}/{stem}.glb"] = content
            assert len(found) == len(outputs) == len(paths)
            contents |= found
            by_flow[flow_id] = frozenset(found)
        return cls(contents, by_flow)

    def against(self, folder: Path, report: Report, had: Mapping[str, bytes]) -> tuple[list[str], dict[str, bytes]]:
        """What is wrong with the folder after a collecting that ended with this report, and what is there now. `had`: what
        was there before."""
        wrong: list[str] = []
        found = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if not path.is_dir() and str(path.relative_to(folder)) not in LISTS
        }
        for path, content in found.items():
            if path not in self.contents:
                wrong.append(f"{path} is no output's: a part, or foreign, or there twice")
            elif content != self.contents[path]:
                wrong.append(f"{path} has other bytes than the service's output")
            if problem := wrong_with_glb(content):
                wrong.append(f"{path}: {problem}")
        missing = sorted(set(self.contents) - set(found))
        if missing and report.exit_code == 0:
            wrong.append(f"complete, but these are missing: {missing}")
        if lost := sorted(set(had) - set(found)):
            wrong.append(f"these were there before: {lost}")
        assert report.outputs is not None
        counts = report.outputs
        if (counts.collected, counts.collected_now) != (len(found), len(set(found) - set(had))):
            wrong.append(f"{len(found)} outputs are there, {counts} are reported")
        return wrong + self._lists(folder, found), found

    def _lists(self, folder: Path, found: Mapping[str, bytes]) -> list[str]:
        """Whether the list of results says what is there, made from what, and nothing else."""
        if not (folder / "results.jsonl").exists():
            return [] if not found else ["there are outputs, and no list of them"]
        rows = [json.loads(line) for line in (folder / "results.jsonl").read_text("utf-8").splitlines()]
        said = [(row["output"], row["flow"], row["source"], row["sha256"]) for row in rows if row["state"] == "collected"]
        there = [
            (path, Path(path).parent.name, f"{Path(path).stem}.png", hashlib.sha256(content).hexdigest())
            for path, content in found.items()
        ]
        return [] if sorted(said) == sorted(there) else [f"results.jsonl says {sorted(said)}, and there is {sorted(there)}"]


def wrong_with_glb(content: bytes) -> str | None:
    """Source: the glTF 2.0 specification, GLB File Format: a header, then chunks that fill the declared length, the
    first of them JSON."""
    if len(content) < 20:
        return "it is too short for a GLB"
    magic, version, length, chunk_bytes, kind = struct.unpack_from("<4s4I", content)
    if (magic, version, length, kind) != (GLTF, 2, len(content), JSON_CHUNK):
        return f"it has no GLB's header: {content[:20]!r} of {len(content)} bytes"
    if json.loads(content[20 : 20 + chunk_bytes])["asset"]["version"] != "2.0":
        return "its JSON is no glTF 2.0's"
    at = 12
    while at + 8 <= length:
        at += 8 + int.from_bytes(content[at : at + 4], "little")
    return None if at == length else f"its chunks end at {at} of {length}"
