"""A cap on bytes per second, without bursts."""

from __future__ import annotations

import time

import pytest

from batcher.service.bandwidth import Bandwidth

pytestmark = pytest.mark.anyio


async def test_bandwidth_makes_the_next_chunk_wait() -> None:
    cap = Bandwidth(1_000_000, time.monotonic)
    began = time.monotonic()
    for _ in range(4):
        await cap.spend(50_000)
    assert time.monotonic() - began >= 0.14
