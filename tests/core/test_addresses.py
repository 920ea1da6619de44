"""Which hosts are this machine: the key is sent in clear to no other."""

from __future__ import annotations

import pytest

from batcher.core.addresses import is_loopback


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "10.0.0.1", "0.0.0.0", "localhost.evil.example", "127.0.0.1.evil.example", "LOCALHOST.", "2130706433", "::2"]
)
def test_any_other_host_is_not(host: str) -> None:
    assert not is_loopback(host)
