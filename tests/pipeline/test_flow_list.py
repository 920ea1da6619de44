"""The list of flows is asked for page by page."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from .batch import Batch, files, order_faults, read_record
from .paged import QUICK, service

pytestmark = pytest.mark.anyio


async def test_a_page_that_fails_is_asked_for_again_and_not_the_whole_list(tmp_path: Path) -> None:
    """Of a list of many pages one in ten failing would never let it come to its end."""
    batch = Batch(tmp_path, files(tmp_path, 3)[2:], flows=2, limits=QUICK)
    async with service(tmp_path, "pages=page,page_size=1") as sandbox:
        async with aiohttp.ClientSession() as session:
            for _ in range(30):
                async with session.post(f"{sandbox.url}/flows", json={"template": "model_optimize"}) as reply:
                    assert reply.status == 200
        await order_faults(sandbox.url, "flows:every=10,status=503")
        report = await batch.run(sandbox.url)
        lists = (await read_record(sandbox.url))["requests"]["flows"]
    assert (report.exit_code, report.flows.started) == (0, 2), report.problems
    assert lists < 100, "two lists of some thirty pages"
