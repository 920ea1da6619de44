"""Stores that are started for the tests, with nothing known of them from before."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from batcher.objects import reading, stores
from batcher.objects.client import objects

from .stores import BEGINNING, Gate, Shop, environment, serving_s3

_numbers = itertools.count()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The endpoint, and the folder whose folders are its buckets."""
    folder = tmp_path_factory.mktemp("buckets")
    (folder / "shop").mkdir()  # before the server starts: it keeps what it knows of a folder
    with serving_s3(folder) as url:
        yield url, folder


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No store is open, none is down, no variable of one is set."""
    for name in list(os.environ):
        if name.startswith(BEGINNING):
            monkeypatch.delenv(name)
    stores._opened.cache_clear()
    objects()._down.clear()
    yield
    stores._opened.cache_clear()
    objects()._down.clear()
    reading._no_ranges.clear()


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails is tried again at once."""
    monkeypatch.setattr(stores, "RETRIES", 2)
    monkeypatch.setattr("batcher.objects.web.RETRIES", 2)
    monkeypatch.setattr("batcher.objects.web.PAUSES_S", (0.01,))


@pytest.fixture
def gate(
    s3_server: tuple[str, Path], forgotten: None, brisk: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Gate]:
    """Before the S3 server, with the variables by which it is found."""
    with Gate(s3_server[0]).open() as made:
        for name, value in environment(made.url).items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture
def shop(s3_server: tuple[str, Path]) -> Shop:
    """A prefix of this test's own in the bucket `shop`."""
    return Shop(s3_server[0], f"t{next(_numbers)}", s3_server[1] / "shop")
