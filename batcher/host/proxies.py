"""Which proxy the environment names for an address. In: a URL. Out: the proxy's, or None. Called by the client and by
pings; aiohttp's own `trust_env` would also take a password from ~/.netrc in place of the key."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from ..core.addresses import is_loopback


def proxy_for(url: str) -> str | None:
    """The proxy for this address; loopback is always asked directly."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies_environment, proxy_bypass  # 20 ms that are wanted behind a proxy only

    named = getproxies_environment().get(parts.scheme)  # on macOS `getproxies` would look into the system's settings, too
    return None if named is None or proxy_bypass(host) else named
