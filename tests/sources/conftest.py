"""Inputs of every kind, and the sources that look at them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from batcher.core.model import ABSENT, JSON, Absent, FileSource, Input, Place, Problem, TextSource
from batcher.core.planning import Change, InputPlan
from batcher.sources.bodies import SmallBody
from batcher.sources.dispatch import AllSources
from batcher.sources.encoder import Encoder
from batcher.sources.local import ENCODER_FROM

PNG = b"\x89PNG\r\n\x1a\n"
TYPES = ("image/png", "image/jpg", "image/webp")


def source(path: Path | None, text: str | None = None, additional: JSON | Absent = ABSENT, mime: str | None = None) -> Input:
    origin = FileSource(str(path)) if path else TextSource(text or "")
    return Input(path.name if path else "text", origin, mime, additional, Place("m", 1, 1))


def path_of(one: InputPlan) -> str:
    assert isinstance(one.input.source, FileSource)
    return one.input.source.path


def plan(sources: AllSources, what: Input, types: tuple[str, ...] | None = None) -> InputPlan:
    file_stat, mime = sources.look(what), sources.mime(what, types)
    assert not isinstance(file_stat, Problem)
    assert isinstance(mime, str)
    return InputPlan(what, b"k" * 16, file_stat, mime, b"m", Change.NEW, None)


@pytest.fixture
def sources() -> Iterator[AllSources]:
    made = AllSources(0, time.time)
    yield made
    made.close()


def content(body: object) -> bytes:
    assert isinstance(body, SmallBody)
    assert body.length == len(body.content)
    return body.content


async def up(sources: AllSources, plans: list[InputPlan]) -> Encoder:
    """The process that encodes, which is begun by the first many."""
    sources.bodies(plans)
    encoder = sources.files._encoder
    assert encoder is not None, "many files, and no process for them"
    async with asyncio.timeout(20):
        while not encoder.ready:
            await asyncio.sleep(0.01)
    return encoder


@pytest.fixture
def many(sources: AllSources, tmp_path: Path) -> list[InputPlan]:
    """More small inputs than one process should encode; among them prompts, a list, a name of no UTF-8."""
    plans = []
    for number in range(ENCODER_FROM + 8):
        if number % 100 == 7:
            plans.append(plan(sources, source(None, text=f'"prompt" {number}'), ("text/plain",)))
            continue
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff%d\n.png" % number))
        path.write_bytes(PNG + os.urandom(number))
        meant: JSON | Absent = ([number], {"n": "ü"}, ABSENT)[number % 3]  # type: ignore[assignment]
        plans.append(plan(sources, source(path, additional=meant)))
    return plans


@contextlib.contextmanager
def no_file_left(give_back_after_s: float) -> Iterator[None]:
    """Every file that this process may open is open; after a while one can be had again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first = os.open(os.devnull, os.O_RDONLY)
    held = [first]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/dev/fd"))) + 8, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        timer = threading.Timer(give_back_after_s, lambda: os.close(held.pop()))
        timer.start()
        yield
        timer.join()
    finally:
        for one in held:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
