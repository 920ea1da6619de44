"""What people see of a run: a bar on a terminal, plain lines elsewhere, nothing where it is to be quiet."""

from __future__ import annotations

import asyncio
import io
import time

import pytest

from batcher.core.report import Report
from batcher.reporting import progress

pytestmark = pytest.mark.anyio


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_style_follows_the_flags_and_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for stderr, auto in ((Terminal(), "bar"), (io.StringIO(), "plain")):
        monkeypatch.setattr("sys.stderr", stderr)
        assert progress.style_of("auto", False) == auto
        assert progress.style_of("auto", True) == "none"
        assert [progress.style_of(word, False) for word in ("bar", "plain", "none")] == ["bar", "plain", "none"]


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_500_000, "2.5 MB"), (3e9, "3.0 GB"), (4e12, "4.0 TB")]
)
def test_bytes_for_people(count: float, text: str) -> None:
    assert progress.size(count) == text


def test_a_service_that_is_waited_for_is_named_once_it_lasts() -> None:
    report = Report("m.yaml", "sandbox")
    report.trouble = time.monotonic() - 60, "cannot connect: \x1b[2J refused"
    said = progress._trouble(report)
    assert said == "waiting for the service for 60 s: cannot connect: \\x1b[2J refused"
    report.trouble = time.monotonic(), "503"
    assert not progress._trouble(report), "a reply that is lost now and then is no trouble"


SHOWN = [("bar", "3/9"), ("plain", "1/2 flows started, 3/9 inputs uploaded"), ("none", "")]


@pytest.mark.parametrize(("style", "shown"), SHOWN)
async def test_both_printers_show_the_reports_counts(
    style: progress.Style, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_S", 0.02)
    monkeypatch.setattr(progress, "BAR_S", 0.02)
    stderr = Terminal()
    monkeypatch.setattr("sys.stderr", stderr)
    report = Report("m.yaml", "sandbox")
    report.flows.total, report.flows.started = 2, 1
    report.inputs.total, report.inputs.uploaded, report.inputs.bytes_now = 9, 3, 5_000_000
    drawing = asyncio.ensure_future(progress.show(report, style))
    for _ in range(200):
        await asyncio.sleep(0.01)
        if shown and shown in stderr.getvalue():
            break
        if style == "none" and drawing.done():
            break
    drawing.cancel()
    await asyncio.wait({drawing})
    assert shown in stderr.getvalue()
    assert bool(stderr.getvalue()) == bool(shown)


@pytest.mark.parametrize(
    ("style", "shown"),
    [("bar", "3/9 inputs [00:00], waiting for the service for 60 s: cannot connect: refused"),
     ("plain", "3/9 inputs uploaded, 0 B/s, 0 retries; waiting for the service for 60 s: cannot connect: refused")],
)  # fmt: skip
async def test_both_printers_say_what_is_waited_for(
    style: progress.Style, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bar, too, in 80 columns: the reason is worth more than the rate of what does not move."""
    monkeypatch.setattr(progress, "PLAIN_S", 0.02)
    monkeypatch.setenv("COLUMNS", "80")
    stderr = Terminal()
    monkeypatch.setattr("sys.stderr", stderr)
    report = Report("m.yaml", "sandbox")
    report.inputs.total, report.inputs.uploaded = 9, 3
    report.trouble = time.monotonic() - 60, "cannot connect: refused"
    drawing = asyncio.ensure_future(progress.show(report, style))
    for _ in range(200):
        await asyncio.sleep(0.01)
        if shown in stderr.getvalue():
            break
    drawing.cancel()
    await asyncio.wait({drawing})
    assert shown in stderr.getvalue()
