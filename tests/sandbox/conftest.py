"""Fixtures: a sandbox of its own for every test, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from batcher.sandbox import Readings, Sandbox, parse_fault

from .api import Api, open_api

Serve = Callable[..., AbstractAsyncContextManager[Api]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """`async with serve("upload:status=503", readings="id=both", processing_s=1) as api`."""

    @asynccontextmanager
    async def open_sandbox(*faults: str, readings: str = "", key: str | None = None, **options: Any) -> AsyncIterator[Api]:
        options.setdefault("processing_s", 0.05)
        sandbox = Sandbox(
            tmp_path / "sandbox", readings=Readings.parse(readings), faults=[*map(parse_fault, faults)], **options
        )
        async with sandbox, open_api(sandbox.url, key) as api:
            yield api

    return open_sandbox


@pytest.fixture
async def api(serve: Serve) -> AsyncIterator[Api]:
    """A client of a sandbox with the default readings."""
    async with serve() as api:
        yield api
