"""The proofs say at the end of the test run what they counted."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

LINES: list[str] = []


@pytest.fixture
def say() -> Callable[[str], None]:
    """A line for people: at once with -s, and again when all tests have ended."""

    def line(text: str) -> None:
        LINES.append(text)
        print(text)

    return line


@pytest.fixture
def seed(say: Callable[[str], None], request: pytest.FixtureRequest) -> int:
    """Another one each time, printed; `PROOF_SEED=n` repeats it."""
    number = int(os.environ.get("PROOF_SEED") or random.SystemRandom().randrange(1_000_000))
    say(f"{request.node.name}: PROOF_SEED={number}")
    return number


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for text in LINES:
        terminalreporter.write_line(text)
