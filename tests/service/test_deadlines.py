"""Every wait is bounded, and no wait counts that is ours."""

from __future__ import annotations

import asyncio
import time

import pytest

from batcher.core.bodies import SmallBody
from batcher.core.retry import Fault, FaultKind, Reply
from batcher.service.bandwidth import Bandwidth
from batcher.service.deadlines import Progress, Watchdog
from batcher.sources.bodies import StreamBody

from .serving import OK, serving

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("way")]


async def test_service_that_reads_slowly_is_given_the_time_it_takes(body: StreamBody) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = body.length
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Content-Length: %d\r\n" % left in head
        while left:
            left -= len(await reader.read(left))
            await asyncio.sleep(0.06)  # in all several times the time without movement that is granted
        writer.write(OK)

    async with serving(serve, timeout_s=1) as client:
        began = time.monotonic()
        assert await client.upload("f", body, lambda: None) == Reply(200, {})
        assert time.monotonic() - began > 1.5


async def test_reply_that_stalls_is_cut_off_though_the_connections_end_would_be_its_own() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{}")
        await asyncio.sleep(5)

    async with serving(serve, timeout_s=0.3) as client:
        found = await client.start("f", lambda: None)
        assert isinstance(found, Fault)
        assert (found.kind, found.status) == (FaultKind.CUT_OFF, 200)


async def test_wait_for_the_bandwidth_is_no_lost_request() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]))
            writer.write(OK)

    bandwidth = Bandwidth(40_000, time.monotonic)
    async with serving(serve, timeout_s=0.3, bandwidth=bandwidth) as client:
        bodies = [SmallBody(b"x" * 10_000, b"") for _ in range(6)]
        found = await asyncio.gather(*(client.upload("f", body, lambda: None) for body in bodies))
        assert found == [Reply(200, {})] * 6


async def test_service_that_stops_reading_is_given_up(body: StreamBody) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(10)

    async with serving(serve, timeout_s=0.3) as client:
        async with asyncio.timeout(5):
            found = await client.upload("f", body, lambda: None)
        assert isinstance(found, Fault)
        assert (found.kind, found.message) == (FaultKind.NOT_SENT, "not sent: nothing moved for 0.3 s")


async def test_reply_whose_chunks_break_off_is_given_up_in_time() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n")
        await asyncio.sleep(0.05)
        writer.write(b"Traceback (most recent call last):\r\n")

    async with serving(serve, timeout_s=0.3) as client, asyncio.timeout(5):
        found = await client.templates(lambda template: None)
        assert isinstance(found, Fault)
        assert (found.kind, found.status) == (FaultKind.CUT_OFF, 200)


async def test_deadline_moves_with_the_bytes_up_to_what_the_least_throughput_allows() -> None:
    """A byte within each `timeout_s` is progress; in all 2 · `timeout_s` are granted, and a second for each 10 kB."""
    watchdog = Watchdog(60)
    now = 1000.0
    watchdog.time = lambda: now
    trickle, stream = Progress(lambda: None, watchdog), Progress(lambda: None, watchdog)
    assert trickle.deadline == 1060
    for _ in range(9):
        now += 50
        trickle.moved(1)
        stream.moved(5_000_000)
    assert trickle.deadline == pytest.approx(1120, abs=0.01)
    assert stream.deadline == now + 60
    watchdog.close()


async def test_each_way_counts_each_byte_of_a_body_once(body: StreamBody, monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            left = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
            while left:  # slowly, so that the kernel takes it bit by bit
                left -= len(await reader.read(left))
                await asyncio.sleep(0.002)
            writer.write(OK)

    counted: list[int] = []
    done = Progress.done

    def note(progress: Progress) -> None:
        counted.append(progress.bytes_moved)
        done(progress)

    monkeypatch.setattr(Progress, "done", note)
    bodies = [body, SmallBody(b"x" * 200_000, None), SmallBody(b"x", None)]
    async with serving(serve) as client:
        for one in bodies:
            assert await client.upload("f", one, lambda: None) == Reply(200, {})
    for one, count in zip(bodies, counted, strict=True):
        assert one.length <= count <= one.length + 400  # on the wire the head, too; the reply has two


async def test_task_that_was_ended_by_the_deadline_sees_a_timeout_and_one_that_was_cancelled_does_not() -> None:
    watchdog = Watchdog(0.05)
    with pytest.raises(TimeoutError), Progress(lambda: None, watchdog):
        await asyncio.sleep(5)

    async def long() -> None:
        with Progress(lambda: None, watchdog):
            await asyncio.sleep(5)

    task = asyncio.ensure_future(long())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    watchdog.close()
