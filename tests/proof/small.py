"""A batch of small files run in the test's own loop, and its judge."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp

from batcher.api import Settings, run
from batcher.core.model import FileSource, Flow, Input, Limits, Manifest, Place, Problem
from batcher.core.report import Report
from batcher.pipeline.operation import Operation

PNG = b"\x89PNG\r\n\x1a\n"
HERE = Place("m.yaml", 1, 1)


class Batch:
    """`flows` flows of `inputs` files each; all flows have the same files, each flow its own inputs."""

    def __init__(self, folder: Path, flows: int, inputs: int, size: int = 900) -> None:
        self.folder, self.flows = folder, flows
        self.limits = Limits(concurrency=8, settle_s=1.0, timeout_s=5.0, retries=8)
        self.paths = [folder / f"{number}.png" for number in range(inputs)]
        for path in self.paths:
            path.write_bytes(PNG + os.urandom(size))

    def _inputs(self) -> Iterator[Input | Problem]:
        for path in self.paths:
            yield Input(path.name, FileSource(str(path)), None, {"name": path.name}, HERE)

    def _flows(self) -> Iterator[Flow | Problem]:
        for number in range(self.flows):
            yield Flow(f"f{number}", "model_generate_fromimage", None, {}, None, HERE, self._inputs)

    async def run(
        self, url: str, settings: Settings | None = None, started: Callable[[Operation], None] = lambda operation: None
    ) -> Report:
        path = str(self.folder / "m.yaml")
        manifest = Manifest("m.yaml", path, str(self.folder), "m", url, self.limits, self._flows)
        return await run(manifest, settings or Settings(), started=started)

    @staticmethod
    async def record(url: str) -> list[dict[str, Any]]:
        """The sandbox's record of every flow that ever was."""
        async with aiohttp.ClientSession() as session, session.get(f"{url}/_sandbox/record") as response:
            return list((await response.json())["flows"])

    def judge(self, record: list[dict[str, Any]], *, complete: bool = True) -> dict[str, int]:
        """Count what must be zero for the flows that were started, and assert it; `left`: what was never started, and is
        there; asserted where the batch is `complete`."""
        meant = Counter((hashlib.sha256(path.read_bytes()).hexdigest(), path.name) for path in self.paths)
        zeros = {"missing": 0, "repeated": 0, "foreign": 0, "started twice": 0}
        started = [flow for flow in record if flow["starts"]]
        for flow in started:
            shown = Counter((item["sha256"], (item["additional"] or {}).get("name")) for item in flow["inputs"])
            zeros["missing"] += (meant - shown).total()
            zeros["foreign"] += sum(count for item, count in shown.items() if item not in meant)
            zeros["repeated"] += sum(count - meant[item] for item, count in shown.items() if count > meant[item] > 0)
            zeros["started twice"] += flow["starts"] - 1
        names = Counter(flow["additional"]["batcher"]["flow"] for flow in started)
        zeros["started twice"] += sum(count - 1 for count in names.values())
        assert not any(zeros.values()), zeros
        left = len([flow for flow in record if not flow["starts"] and not flow["deleted"]])
        if complete:
            assert len(names) == self.flows
            assert left == 0
        return {**zeros, "left": left}
