"""A batch of real files against a real sandbox on loopback, and the judge that reads the sandbox's own record."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp

from batcher.api import Settings, run
from batcher.core.model import ABSENT, JSON, Absent, FileSource, Flow, Input, Limits, Manifest, Place, Problem
from batcher.core.report import Report

PNG = b"\x89PNG\r\n\x1a\n"
HERE = Place("m.yaml", 1, 1)
LIMITS = Limits(concurrency=8, settle_s=1.0, timeout_s=0.7, retries=4)


def files(folder: Path, count: int, size: int = 900) -> list[Path]:
    """So many PNGs by their magic, of random content; the first two are not held: one leaves at once, one bit by bit."""
    made = [folder / f"{number}.png" for number in range(count)]
    for path, length in zip(made, itertools.chain((300_000, 1_300_000), itertools.repeat(size)), strict=False):
        path.write_bytes(PNG + os.urandom(length))
    return made


@dataclass
class Batch:
    """`flows` flows of the same `paths` each."""

    folder: Path
    paths: list[Path]
    flows: int = 4
    limits: Limits = LIMITS
    additional: dict[int, JSON] = field(default_factory=dict)

    def _inputs(self) -> Iterator[Input | Problem]:
        for number, path in enumerate(self.paths):
            additional: JSON | Absent = self.additional.get(number, {"n": number} if number % 2 else ABSENT)
            yield Input(path.name, FileSource(str(path)), None, additional, HERE)

    def _flows(self) -> Iterator[Flow | Problem]:
        for number in range(self.flows):
            yield Flow(f"flow {number}", "model_generate_fromimage", None, {"seed": number}, {"n": number}, HERE, self._inputs)

    def manifest(self, url: str) -> Manifest:
        path = str(self.folder / "m.yaml")
        return Manifest("m.yaml", path, str(self.folder), "m", url, self.limits, self._flows)

    async def run(self, url: str, settings: Settings | None = None) -> Report:
        return await run(self.manifest(url), settings or Settings())

    async def judge(self, url: str, report: Report) -> list[dict]:
        """Hold the sandbox's record against what was meant; returns its flows. Whatever the exit code, no flow that was
        started may be wrong, early or started twice."""
        record = await read_record(url)
        started = [flow for flow in record["flows"] if flow["starts"]]
        meant = Counter((hashlib.sha256(p.read_bytes()).hexdigest(), self._extra(n)) for n, p in enumerate(self.paths))
        for flow in started:
            assert flow["starts"] == 1, f"{flow['flow_id']} was started {flow['starts']} times"
            shown = Counter((i["sha256"], json.dumps(without_tag(i["additional"]), sort_keys=True)) for i in flow["inputs"])
            assert shown == meant, f"{flow['flow_id']} was started with other inputs than meant"
        names = Counter(flow["additional"]["batcher"]["flow"] for flow in started)
        assert all(count == 1 for count in names.values()), f"started twice: {names}"
        assert len(started) == report.flows.started
        if report.exit_code == 0:
            assert len(started) == self.flows
            left = [flow for flow in record["flows"] if not flow["starts"] and not flow["deleted"]]
            assert not left, "a flow that was never started was left behind"
        return record["flows"]

    def _extra(self, number: int) -> str:
        extra = self.additional.get(number, {"n": number} if number % 2 else {})
        return json.dumps(extra, sort_keys=True)


def without_tag(additional: JSON) -> JSON:
    if isinstance(additional, dict):
        return {name: value for name, value in additional.items() if name != "batcher"}
    return additional


async def read_record(url: str) -> dict:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/_sandbox/record") as response:
        return await response.json()


async def order_faults(url: str, *faults: str) -> None:
    """Replace the faults of a sandbox that runs."""
    async with aiohttp.ClientSession() as session, session.post(f"{url}/_sandbox/faults", json=list(faults)) as response:
        assert response.status == 200, await response.text()


def small(folder: Path, inputs: int, flows: int) -> Batch:
    return Batch(folder, files(folder, inputs + 2)[2:], flows=flows, limits=replace(LIMITS, settle_s=0.3, retries=2))


async def sent(url: str) -> list[dict]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/_sandbox/requests") as response:
        return (await response.json())["requests"]
