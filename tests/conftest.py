"""What all tests share: the event loop's kind, and a batch of small real files."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("busy", deadline=None)  # a loaded machine is slow, not wrong
settings.load_profile("busy")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
