"""A sandbox whose lists come in pages, or in a part, as its readings say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp

from batcher.sandbox import Readings, Sandbox, parse_fault

from .batch import LIMITS, read_record

QUICK = replace(LIMITS, settle_s=0.3, timeout_s=5.0)
CAPS = ["pages=cap", "pages=cap,order=desc"]
FOLLOWED = [
    "pages=none", "pages=page,pages_in=meta", "pages=offset", "pages=cursor", "pages=next,pages_in=_links", "pages=token",
    "pages=page_token", "pages=next_page,pages_in=pagination,pages_place=before", "pages=has_more", "pages=last_id",
    "pages=total", "pages=link", "pages=headers,flows=bare", "pages=next,page_first=empty", "pages=cursor,page_first=empty",
    "pages=none,flows=null", "pages=none,flows=warnings,flow_in=flow", "pages=page,flows=data,flow_in=data",
]  # fmt: skip
NOT_FOLLOWED = [
    *(f"pages={form},page_params=ignored" for form in ("page", "cursor", "next", "has_more", "total", "link", "headers")),
    *(f"pages={form},page_params=refused" for form in ("offset", "last_id")),
    "pages=next,page_end=circle", *CAPS,
]  # fmt: skip


def lose_journal(folder: Path) -> None:
    for path in (folder / ".batcher").glob("m-*"):
        path.unlink()


async def read(url: str, readings: str) -> None:
    async with aiohttp.ClientSession() as session, session.post(f"{url}/_sandbox/readings", json=readings) as response:
        assert response.status == 200, await response.text()


@asynccontextmanager
async def service(folder: Path, readings: str, *faults: str) -> AsyncIterator[Sandbox]:
    words = Readings.parse(f"page_size=2,{readings}")
    async with Sandbox(folder / "sandbox", readings=words, faults=[parse_fault(one) for one in faults]) as sandbox:
        yield sandbox


async def make_flows(url: str, count: int) -> None:
    """Flows of somebody else."""
    async with aiohttp.ClientSession() as session:
        for _ in range(count):
            async with session.post(f"{url}/flows", json={"template": "model_optimize"}) as response:
                assert response.status == 200


def ours(flows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [flow for flow in flows if flow["additional"] is not None]


async def lists(url: str) -> int:
    return int((await read_record(url))["requests"].get("flows", 0))
