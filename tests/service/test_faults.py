"""What a request that failed comes to, by how far it had got."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from batcher.core.retry import FaultKind
from batcher.service.credentials import Mask
from batcher.service.deadlines import Progress, Watchdog
from batcher.service.endpoint import Endpoint
from batcher.service.exchange import NotWritten
from batcher.service.faults import FAILURES, fault_of

pytestmark = pytest.mark.anyio
LOST: list[Exception] = [
    aiohttp.ServerDisconnectedError(), aiohttp.ClientPayloadError("half of it"), aiohttp.ClientOSError(104, "reset"),
    TimeoutError(), ConnectionResetError(), ValueError("no JSON"), RecursionError(),
]  # fmt: skip


@pytest.fixture
async def progress() -> AsyncIterator[Progress]:
    watchdog = Watchdog(60)
    yield Progress(lambda: None, watchdog)
    watchdog.close()


def kind_of(error: BaseException, progress: Progress) -> tuple[FaultKind, int | None]:
    assert isinstance(error, FAILURES)
    fault = fault_of(error, progress, Endpoint("http://127.0.0.1:1", None), Mask(), reached=True, timeout_s=60)
    return fault.kind, fault.status


@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
async def test_lost_request_is_not_sent_then_unknown_then_cut_off(error: Exception, progress: Progress) -> None:
    assert kind_of(error, progress) == (FaultKind.NOT_SENT, None)
    progress.leaving()
    assert kind_of(error, progress) == (FaultKind.NO_ANSWER, None)
    progress.status = 200
    assert kind_of(error, progress) == (FaultKind.CUT_OFF, 200)


async def test_body_that_was_not_written_was_not_sent_whatever_the_reply(progress: Progress) -> None:
    assert kind_of(NotWritten(), progress) == (FaultKind.NOT_SENT, None)
    progress.left, progress.status = True, 200
    assert kind_of(NotWritten(), progress) == (FaultKind.NOT_SENT, None)


async def test_request_that_was_ended_by_its_deadline_says_so_whatever_was_raised(progress: Progress) -> None:
    progress.leaving()
    progress.expire()
    fault = fault_of(aiohttp.ServerDisconnectedError(), progress, Endpoint("http://127.0.0.1:1", None), Mask(), reached=True,
                     timeout_s=60)  # fmt: skip
    assert (fault.kind, fault.message) == (FaultKind.NO_ANSWER, "no answer: nothing moved for 60 s")


async def test_cancelling_is_no_failure() -> None:
    assert not issubclass(asyncio.CancelledError, FAILURES)
