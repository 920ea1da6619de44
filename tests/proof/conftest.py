"""The proofs say at the end of the test run what they counted."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.postgres import Server

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


@pytest.fixture
def server() -> Iterator[Server]:
    """A PostgreSQL for this test alone."""
    from tests.postgres import own_server  # where the extra `hosts` is not installed there are tests without it

    made = own_server()
    yield made
    made.made.cleanup()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for text in LINES:
        terminalreporter.write_line(text)
