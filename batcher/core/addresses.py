"""Which hosts are this machine. In: a host's name or number. Out: whether it is. Called wherever a key, or what is said of a
batch, could be read on its way."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether what is sent to this host never leaves the machine. No name but `localhost` is looked up, or trusted."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
