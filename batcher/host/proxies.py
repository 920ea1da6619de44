"""Which proxy the environment names for an address. In: a URL. Out: the proxy's, or None. Called by the client and by
pings; aiohttp's own `trust_env` would also take a password from ~/.netrc in place of the key."""

from __future__ import annotations

from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from ..core.addresses import is_loopback


def proxy_for(url: str) -> str | None:
    """The proxy for this address; loopback is always asked directly."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    named = getproxies_environment().get(parts.scheme)  # on macOS `getproxies` would look into the system's settings, too
    return None if named is None or is_loopback(host) or proxy_bypass(host) else named
