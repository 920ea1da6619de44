"""What all tests share: the event loop's kind, and a batch of small real files."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
