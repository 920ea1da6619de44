"""What all tests share: the event loop's kind, and how many examples Hypothesis tries.

The default profile tries the same examples each time, so that a red run is red again. `pytest --hypothesis-profile long`
draws new ones, many more, and prints what reproduces a failure.
"""

from __future__ import annotations

import signal

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("default", max_examples=100, derandomize=True, deadline=None)
settings.register_profile(
    "long", max_examples=5_000, derandomize=False, deadline=None, print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
settings.load_profile("default")

# Who runs the tests in the background (a shell's `&`, nohup) has them ignore these, and so would the commands that they
# start and send them to.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
