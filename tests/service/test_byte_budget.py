"""The bytes that are held at once stay within the budget, and nobody waits for ever."""

from __future__ import annotations

import asyncio

import pytest

from batcher.service.byte_budget import ByteBudget

pytestmark = pytest.mark.anyio


async def test_budget_is_never_exceeded_but_by_one_that_is_alone() -> None:
    budget = ByteBudget(100)
    await budget.take(60)
    waiting = asyncio.ensure_future(budget.take(60))
    await asyncio.sleep(0)
    assert not waiting.done()
    budget.give(60)
    await asyncio.wait_for(waiting, 1)
    budget.give(60)
    await asyncio.wait_for(budget.take(1000), 1)


async def test_budget_goes_on_when_one_who_waits_is_cancelled() -> None:
    budget = ByteBudget(100)
    await budget.take(100)
    first, second = asyncio.ensure_future(budget.take(100)), asyncio.ensure_future(budget.take(50))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    budget.give(100)
    await asyncio.wait_for(second, 5)


async def test_what_nobody_holds_any_more_is_forgotten() -> None:
    budget = ByteBudget(100)
    await budget.take(100)
    waiting = asyncio.ensure_future(budget.take(100))
    await asyncio.sleep(0)
    waiting.cancel()
    budget.forget()
    await asyncio.wait_for(budget.take(100), 1)
