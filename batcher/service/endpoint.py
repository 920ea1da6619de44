"""Where requests go: the endpoint's address, the proxy before it, and the certificates that are trusted. Each is looked at
before anything is sent.

In: the address that the user gave, the environment, `--ca-file`. Out: an `Endpoint`, or a UsageError that says what to write
instead; no password of a proxy is in it. Called by the client when it is made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ..core.addresses import is_loopback
from ..core.errors import UsageError
from ..host.proxies import proxy_for

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`base` is the address without a slash at its end."""

    base: str
    proxy: str | None = field(repr=False)

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        return is_loopback(urlsplit(self.base).hostname or "")

    @property
    def secrets(self) -> tuple[str, ...]:
        """The proxy's password, as it is written and as it is meant."""
        password = (self.proxy or "").partition("://")[2].rpartition("@")[0].partition(":")[2]
        return password, unquote(password)


def endpoint_of(url: str) -> Endpoint:
    """The endpoint at this address. Raises UsageError."""
    check_endpoint(url)
    base = url.rstrip("/")
    proxy = proxy_for(base)
    if proxy is not None:
        check_proxy(proxy, urlsplit(base).scheme)
    return Endpoint(base, proxy)


def check_endpoint(url: str) -> None:
    """Refuse plain http to anyone but loopback: the key would be readable on the way. Raises UsageError."""
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise UsageError(f"{parts.scheme}://{parts.hostname} would carry the key in clear", "use https")


def check_proxy(proxy: str, scheme: str) -> None:
    """Refuse an address of a proxy that cannot be used. Raises UsageError."""
    variable = f"{scheme.upper()}_PROXY"
    hint = f"write http://HOST:PORT into {variable}, or name the host in NO_PROXY"
    host = proxy.rpartition("@")[2]
    found, separator, _ = proxy.partition("://")
    if not separator:
        raise UsageError(f"{variable} has no scheme: {host}", hint)
    if found.lower() not in ("http", "https"):
        raise UsageError(f"{variable} names a proxy of the kind {found}, and batcher knows http and https only", hint)
    try:
        right = bool(urlsplit(proxy).hostname) and urlsplit(proxy).port != 0
    except ValueError:
        right = False
    if not right:
        raise UsageError(f"{variable} is no address of a proxy", hint)


def trusted(endpoint: Endpoint, ca_file: str | None) -> ssl.SSLContext | bool:
    """Whom to believe that they are the endpoint. Raises UsageError."""
    if ca_file is None or not endpoint.base.startswith("https"):
        return True  # aiohttp's own context, made when it was imported: another takes 40 ms
    import ssl  # 10 ms

    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise UsageError(f"--ca-file {ca_file}: {error.strerror or error}", "name a PEM file") from error
