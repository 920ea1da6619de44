"""The way through the pages of a listing comes to an end."""

from __future__ import annotations

import itertools

import pytest

from batcher.service.pages import Pages
from batcher.service.signs import signs_of


def test_pages_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In number, in bytes and in time."""
    from multidict import CIMultiDict, CIMultiDictProxy

    monkeypatch.setattr("batcher.service.pages.PAGES", 7)
    times = iter([0.0, 1.0, 2.0, *[9e9] * 9])
    for bound in ("pages", "bytes", "time"):
        pages = Pages("http://h", "/flows", {}, (lambda: next(times)) if bound == "time" else lambda: 0.0)
        for number in itertools.count():
            pages.shows(f"f{number}")
            pages.moved(1 << 31 if bound == "bytes" else 1)
            signs = signs_of(200, {"next_cursor": f"c{number}"}, CIMultiDictProxy(CIMultiDict[str]()))
            listing = pages.turn(signs)
            if listing is not None:
                break
        assert not listing.whole
        assert number <= 7
